/* SPDX-License-Identifier: MIT
 *
 * How memory goes back while others free (core/heap/giveback.c, space.c; zone/pages.c), for the model checker spin.
 * An owner's heap and a second one take pages of one or two units from the space: they allocate, free, sweep and
 * reclaim; whoever comes by purges what rests; and a freer, who has no heap, frees objects of the owner's. Checked:
 * what a live object holds is never dropped; no page has two owners; a free finds its slab; nobody touches a slab
 * that has left; and in the end no OS page without a live object has memory, and no page of the space is gone. Each
 * #ifdef that is named in run.py leaves a step out.
 *
 * A slab has two slots, and each slot an OS page of its own. The sets `local` and `remote` are one word each, without
 * a summary: what lies between a bit and the stack is remote_free.pml's matter.
 */
#ifndef UNITS
#define UNITS 1
#endif
#ifndef STEPS
#define STEPS 5 /* of the owner */
#endif
#ifndef OTHER_STEPS
#define OTHER_STEPS 2 /* of the second heap's */
#endif
#define NONE 255

/* Heaps; a unit's slab is named by its heap, since a heap has one record for each unit. */
#define OWNER 1
#define OTHER 2
#define RECORD(heap, unit) ((heap - 1) * UNITS + unit)
#define SLABS (2 * UNITS)
#define OS_PAGE(unit, slot) ((unit) * 2 + (slot))

/* A unit of the arena. [space.lock] */
#define IN_USE 0
#define RESTING 1
#define PURGED 2
byte units[UNITS];
byte slabs[UNITS]; /* range.slabs: 0, or the heap whose slab it is */

/* A record. */
byte local_set[SLABS], remote_set[SLABS];
bit is_in_zone[SLABS], is_current[SLABS], has_purged[SLABS];
byte purged[SLABS]; /* range.purged: a bit per OS page */
bit pending[SLABS]; /* it is on its allocator's stack */

/* The memory itself: whose object's contents an OS page has; 0: no memory. */
byte memory[2 * UNITS];

/* What only the checker knows. */
byte live[2 * UNITS];   /* whose object is there: 0, or a heap */
byte holder[UNITS];     /* who has the page: 0, or a heap */
bit freeing[SLABS];     /* a freer is between its table entry and its last step */
byte whose[2 * UNITS];   /* who will free it */
#define HIS 0    /* whoever allocated it */
#define SHARED 1 /* the freer, if he comes to it */
#define TAKEN 2  /* the freer */
byte ended;

/* What is guarded by space.lock is one step, and so is what an owner does in his own heap, up to where he meets others. */
#ifdef TAKEN_WITHOUT_LOCK /* mutation */
#define LOCKED_TAKE
#else
#define LOCKED_TAKE atomic
#endif
#ifdef PURGED_WITHOUT_LOCK /* mutation: a call of the system should not hold others up */
#define LOCKED_PURGE
#else
#define LOCKED_PURGE atomic
#endif

/* ---- pages ---- */

/* space_take_page, take_page: a page of which this is the first unit. */
inline take_page(heap) {
    LOCKED_TAKE {
        unit = 0;
        do
        :: unit < UNITS && units[unit] == IN_USE -> unit++
        :: else -> break
        od;
        if
        :: unit < UNITS ->
           units[unit] = IN_USE;
           d_step { assert(holder[unit] == 0); holder[unit] = heap }
        :: else -> unit = NONE
        fi
    };
    if
    :: unit != NONE ->
       atomic { /* slab_format: nobody else has an address in it */
           s = RECORD(heap, unit);
           assert(!pending[s] && remote_set[s] == 0);
           local_set[s] = 3;
           has_purged[s] = 0;
           is_in_zone[s] = 1
       };
       s = 0;
#ifndef JOINED_LATE
       slabs[unit] = heap; /* slab_joined */
#endif
       unit = NONE
    :: else
    fi
}

#ifdef JOINED_LATE /* mutation: the table is told of a page that objects are on already */
inline join() {
    atomic {
        unit = 0;
        do
        :: unit < UNITS ->
           if
           :: holder[unit] == heap -> slabs[unit] = heap
           :: else
           fi;
           unit++
        :: else -> unit = NONE; break
        od
    }
}
#endif

inline give_page() {
    atomic {
        assert(units[unit] == IN_USE && holder[unit] == heap);
        holder[unit] = 0;
        units[unit] = RESTING
    }
}

#ifdef EMPTY_BY_BOTH /* mutation: a slot is as free if its bit is in `remote` still */
#define IS_EMPTY(record) ((local_set[record] | remote_set[record]) == 3)
#else
#define IS_EMPTY(record) (local_set[record] == 3)
#endif

/* slabmalloc_zone_reclaim, of one page that is empty. */
inline reclaim(heap) {
    collect(heap);
    atomic {
        unit = 0;
        do
        :: unit < UNITS && is_in_zone[RECORD(heap, unit)] && IS_EMPTY(RECORD(heap, unit)) -> break
        :: unit < UNITS && !(is_in_zone[RECORD(heap, unit)] && IS_EMPTY(RECORD(heap, unit))) -> unit++
        :: unit == UNITS -> unit = NONE; break
        od;
        if
        :: unit != NONE ->
           s = RECORD(heap, unit);
           assert(!freeing[s]);
           is_in_zone[s] = 0;
           is_current[s] = 0;
           s = 0
        :: else
        fi
    };
    if
    :: unit != NONE ->
#ifdef GIVEN_FIRST /* mutation: the table is told after the page has gone back */
       give_page();
       slabs[unit] = 0;
#else
       d_step { assert(slabs[unit] == heap); slabs[unit] = 0 }; /* slab_left */
       give_page();
#endif
       unit = NONE
    :: else
    fi
}

/* space_decay, or a trim: by anyone. */
inline decay() {
    LOCKED_PURGE {
        unit = 0;
        do
        :: unit < UNITS && units[unit] != RESTING -> unit++
        :: else -> break
        od;
        if
        :: unit < UNITS ->
           drop(OS_PAGE(unit, 0));
           drop(OS_PAGE(unit, 1));
           units[unit] = PURGED
        :: else
        fi;
        unit = NONE
    }
}

/* madvise. */
inline drop(os_page) {
    d_step {
        assert(live[os_page] == 0);
        memory[os_page] = 0
    }
}

/* ---- the owner of a heap ---- */

inline collect(heap) {
    s = RECORD(heap, 0);
    do
    :: s < RECORD(heap, 0) + UNITS ->
       if
       :: pending[s] ->
          pending[s] = 0; /* C1 */
          d_step { /* C3, C4 */
              assert((local_set[s] & remote_set[s]) == 0);
              local_set[s] = local_set[s] | remote_set[s];
              remote_set[s] = 0
          }
       :: else
       fi;
       s++
    :: else -> s = 0; break
    od
}

/* sc_allocate: from the current slab; `slot` of it. */
inline allocate(heap) {
    atomic {
        unit = 0;
        do
        :: unit < UNITS && is_in_zone[RECORD(heap, unit)] && is_current[RECORD(heap, unit)] -> break
        :: unit < UNITS && !(is_in_zone[RECORD(heap, unit)] && is_current[RECORD(heap, unit)]) -> unit++
        :: else -> break
        od;
        if
        :: unit < UNITS && local_set[RECORD(heap, unit)] != 0 ->
           s = RECORD(heap, unit);
           slot = (local_set[s] & 1 -> 0 : 1);
           local_set[s] = local_set[s] & ~(1 << slot);
           d_step {
               assert(live[OS_PAGE(unit, slot)] == 0 && holder[unit] == heap);
               live[OS_PAGE(unit, slot)] = heap;
               memory[OS_PAGE(unit, slot)] = heap /* he writes */
           };
           if
           :: heap == OWNER -> whose[OS_PAGE(unit, slot)] = SHARED
           :: heap == OWNER
           :: heap == OTHER
           fi
        :: else
        fi;
        slot = 0;
        unit = NONE
    }
}

/* Another slab with a free slot becomes current, the one before does not stay so. */
inline current_set(heap) {
    atomic {
        d_step {
            unit = 0;
            do
            :: unit < UNITS -> is_current[RECORD(heap, unit)] = 0; unit++
            :: else -> break
            od
        };
        unit = 0;
        do
        :: unit < UNITS - 1 -> unit++
        :: break
        od;
        if
        :: is_in_zone[RECORD(heap, unit)] && local_set[RECORD(heap, unit)] != 0 ->
           is_current[RECORD(heap, unit)] = 1;
#ifndef PURGED_KEPT /* mutation: its OS pages are believed to be purged still */
           has_purged[RECORD(heap, unit)] = 0
#endif
        :: else
        fi;
        unit = NONE
    }
}

/* heap_free, by the owner, of an object that nobody else is to free. */
inline free_own(heap) {
    atomic {
        unit = 0;
        do
        :: unit < UNITS - 1 -> unit++
        :: slot < 1 -> slot++
        :: break
        od;
        if
        :: atomic {
               live[OS_PAGE(unit, slot)] == heap && whose[OS_PAGE(unit, slot)] == HIS && holder[unit] == heap;
               live[OS_PAGE(unit, slot)] = 0
           };
           assert(slabs[unit] == heap);
           s = RECORD(heap, unit);
           assert((local_set[s] & (1 << slot)) == 0 && memory[OS_PAGE(unit, slot)] == heap);
           local_set[s] = local_set[s] | (1 << slot)
        :: else
        fi;
        slot = 0;
        unit = NONE
    }
}

/* visit, sweep_slab: the heap's own slabs. */
inline sweep_slot() {
    if
    :: (local_set[s] >> slot) & 1 && !((purged[s] >> slot) & 1) ->
       atomic { purged[s] = purged[s] | (1 << slot); drop(OS_PAGE(unit, slot)) }
    :: else
    fi
}

inline sweep_slab(heap) {
    atomic {
        s = RECORD(heap, unit);
        if
        :: is_in_zone[s] ->
           if
           :: !has_purged[s] -> purged[s] = 0
           :: else
           fi;
           has_purged[s] = !is_current[s]
        :: else
        fi
    };
    if
    :: is_in_zone[s] ->
       sweep_slot();
       slot = 1;
       sweep_slot();
       atomic { /* what this is for */
           slot = 0;
           assert(is_current[s] || !(local_set[s] & 1) || memory[OS_PAGE(unit, 0)] == 0);
           assert(is_current[s] || !(local_set[s] & 2) || memory[OS_PAGE(unit, 1)] == 0)
       }
    :: else
    fi;
    s = 0
}

inline sweep(heap) {
    unit = 0;
    do
    :: unit < UNITS -> sweep_slab(heap); unit++
    :: else -> unit = NONE; break
    od
}

proctype owner(byte heap; byte steps) {
    byte unit = NONE, s, slot;
    do
    :: steps > 0 ->
       steps--;
       if
       :: take_page(heap);
          current_set(heap);
          allocate(heap)
#ifdef JOINED_LATE
          ;
          join()
#endif
       :: current_set(heap); allocate(heap)
       :: allocate(heap)
       :: free_own(heap)
       :: collect(heap); sweep(heap)
       :: reclaim(heap)
#ifdef SWEEP_OF_OTHERS /* mutation: own_slab_at looks at the table, not at the heap's own pages */
       :: heap == OTHER -> sweep(OWNER)
#endif
       :: decay()
       fi
    :: break
    od;
    atomic { s = 0; ended++ }
}

/* heap_free_remote of an object of the owner's. */
proctype freer() {
    byte unit, slot, s, before;
    do
    :: ended < 2 ->
       atomic {
           unit = 0;
           slot = 0;
           do
           :: unit < UNITS - 1 -> unit++
           :: slot < 1 -> slot++
           :: break
           od;
           if
           :: whose[OS_PAGE(unit, slot)] == SHARED -> whose[OS_PAGE(unit, slot)] = TAKEN
           :: else -> goto next
           fi
       }
       d_step { /* his last look at it, and the table */
           assert(memory[OS_PAGE(unit, slot)] == OWNER && live[OS_PAGE(unit, slot)] == OWNER);
           assert(slabs[unit] == OWNER);
           s = RECORD(OWNER, unit);
           freeing[s] = 1
       };
       d_step { /* F1 */
           assert(is_in_zone[s]);
           live[OS_PAGE(unit, slot)] = 0;
           whose[OS_PAGE(unit, slot)] = HIS;
           before = remote_set[s];
           remote_set[s] = remote_set[s] | (1 << slot);
           if
           :: before != 0 -> freeing[s] = 0
           :: else
           fi
       };
       if
       :: before == 0 -> d_step { /* F3 */
              assert(is_in_zone[s]);
              assert(!pending[s]);
              pending[s] = 1;
              freeing[s] = 0
          }
       :: else
       fi;
next:
       atomic { unit = 0; slot = 0; s = 0; before = 0 }
    :: ended == 2 -> break
    od;
    ended++
}

/* When all have ended, ticks of both heaps find everything. */
proctype last() {
    byte unit = NONE, s, slot, heap, i;
    ended == 3;
    d_step { /* what nobody has freed stays; nothing is current any more */
        s = 0;
        do
        :: s < SLABS -> is_current[s] = 0; s++
        :: else -> break
        od;
        s = 0
    };
    do
    :: heap < 2 ->
       heap++;
       collect(heap);
       sweep(heap);
       i = 0;
       do
       :: i < UNITS -> i++; reclaim(heap)
       :: else -> break
       od
    :: else -> break
    od;
    i = 0;
    do
    :: i < UNITS -> i++; decay()
    :: else -> break
    od;
    i = 0;
    d_step {
        do
        :: i < 2 * UNITS -> assert((live[i] == 0) == (memory[i] == 0)); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < UNITS ->
           assert((units[i] == PURGED) == (holder[i] == 0) && (slabs[i] == holder[i]));
           assert((units[i] == PURGED) == (live[OS_PAGE(i, 0)] == 0 && live[OS_PAGE(i, 1)] == 0));
           i++
        :: else -> break
        od
    }
}

init {
    atomic {
        byte i;
        do
        :: i < UNITS -> units[i] = PURGED; i++
        :: else -> break
        od;
        run owner(OWNER, STEPS);
        run owner(OTHER, OTHER_STEPS);
        run freer();
        run last()
    }
}
