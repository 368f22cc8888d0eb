/* SPDX-License-Identifier: MIT
 *
 * The remote-free protocol of floor 2 (core/zone), for the model checker spin.
 * FREERS threads free slots of SLABS slabs while the owner collects, reclaims and allocates anew. Checked: no free is
 * lost, none is taken twice, no slab stands on the pending stack twice, nobody touches a slab that may have left the zone.
 * README.md beside this file states the protocol, the orderings it needs, and what each -D mutation removes.
 *
 * A bitset is a tree: node 1 is the top word, node n has the children 2n and 2n+1, the leaves hold the slots. Real words
 * have 64 bits; two are enough here, since the protocol only asks of a word whether it was zero and which bits it has.
 */
#ifndef LEVELS
#define LEVELS 2 /* 1: a word; 2: words and a summary; 3: words, summaries, a top */
#endif
#ifndef SLABS
#define SLABS 2 /* at most */
#endif
#ifndef FREERS
#define FREERS 2
#endif
#ifndef FREES
#define FREES 2 /* by each freer */
#endif
#ifndef COLLECTS
#define COLLECTS 2 /* while the freers run; one more after them */
#endif
#ifndef REUSES
#define REUSES 1 /* objects that the owner frees and allocates again */
#endif

#if LEVELS == 1
#define LEAVES 1
#define SLOTS 2
#define ALL_SLOTS 4
#elif LEVELS == 2
#define LEAVES 2
#define SLOTS 4
#define ALL_SLOTS 8
#else
#define LEAVES 4
#define SLOTS 8
#define ALL_SLOTS 16
#endif
#define ALL_WORDS 16
#define TOP 1
#define WORD(slab, node) word[(slab) * 8 + (node)]
#define SLOT(slab, slot) state[(slab) * SLOTS + (slot)]

/* What the threads share. */
byte word[ALL_WORDS];     /* remote: the tree of each slab */
byte head;                /* pending: 0, or slab + 1 */
byte pending_next[SLABS]; /* 0, or slab + 1 */
#ifdef PENDING_FLAG
byte is_pending[SLABS];
#endif

/* What only the checker knows. CLAIMED: its free has begun; SENT: its bit is set; TAKEN: the owner has it as free. */
#define LIVE 0
#define CLAIMED 1
#define SENT 2
#define TAKEN 3
byte state[ALL_SLOTS];
byte generation[SLABS]; /* grows when the slab, all its slots free, may leave the zone */
byte on_stack[SLABS];   /* 1 from its push until the owner has read its link */
byte freers_done;
byte accepted, taken, late; /* frees that returned success; bits that became free slots; double frees seen at collection */

inline touch(slab) { assert(generation[slab] == born) }

/* fetch_or: `before` gets the old value. */
inline fetch_or(slab, node, bits) {
    touch(slab);
#ifdef PLAIN_OR /* mutation: load and store instead of one atomic operation */
    before = WORD(slab, node);
    WORD(slab, node) = before | bits;
    d_step {
        if
        :: node >= LEAVES && !(before & bits) -> SLOT(slab, slot) = SENT
        :: else
        fi
    }
#else
    d_step {
        before = WORD(slab, node);
        WORD(slab, node) = before | bits;
        if
        :: node >= LEAVES && SLOT(slab, slot) == CLAIMED -> SLOT(slab, slot) = SENT
        :: else
        fi
    }
#endif
}

inline push(slab) {
    do
    :: seen = head;
       touch(slab);
       pending_next[slab] = seen;
#ifdef PUSH_WITHOUT_CAS /* mutation */
       head = slab + 1;
       on_stack[slab]++;
       break
#else
       if
       :: d_step {
              head == seen;
              assert(on_stack[slab] == 0);
              on_stack[slab]++;
              head = slab + 1
          }
          break
       :: d_step { head != seen; seen = 0 }
       fi
#endif
    od
}

inline tell_owner(slab) {
#ifdef PENDING_FLAG /* mutation: an is_pending flag per slab decides who pushes */
    touch(slab);
    if
    :: is_pending[slab] == 0 ->
       touch(slab);
       d_step {
           before = is_pending[slab];
           is_pending[slab] = 1
       }
       if
       :: before == 0 -> push(slab)
       :: else
       fi
    :: else
    fi
#else
    push(slab)
#endif
}

/* One remote free: set the slot's bit; whoever found a word zero owes the owner the news, one level up, and at the top
 * a push. Whoever found it non-zero is done: another thread owes it. */
inline remote_free(slab) {
    node = LEAVES + slot / 2;
    bits = 1 << (slot % 2);
#ifdef TOP_FIRST /* mutation: announce before the bit is there */
    if
    :: LEVELS > 1 ->
       node = TOP;
       bits = 1 << ((slot / (LEAVES)) % 2);
       fetch_or(slab, node, bits);
       if
       :: before == 0 -> tell_owner(slab)
       :: else
       fi;
       node = LEAVES + slot / 2;
       bits = 1 << (slot % 2)
    :: else
    fi;
    fetch_or(slab, node, bits);
    accepted++;
#else
    fetch_or(slab, node, bits);
    if
#ifndef UNCHECKED_BIT /* mutation: the old bit is not looked at */
    :: (before & bits) -> skip /* a double free, refused */
#endif
    :: else ->
       accepted++;
#ifdef NO_SUMMARY /* mutation: upper levels are not told */
       if
       :: before == 0 -> tell_owner(slab)
       :: else
       fi
#else
       do
       :: before == 0 && node > TOP ->
          bits = 1 << (node % 2);
          node = node / 2;
          fetch_or(slab, node, bits)
#if defined(PUSH_ALWAYS) || defined(PENDING_FLAG)
       :: before == 0 && node == TOP -> tell_owner(slab); break
       :: before != 0 && node < LEAVES -> tell_owner(slab); break /* mutation: also who found an upper word non-zero */
       :: before != 0 && node >= LEAVES -> break
#else
       :: before == 0 && node == TOP -> tell_owner(slab); break
       :: before != 0 -> break
#endif
       od
#endif
    fi
#endif
}

proctype freer() {
    byte slab, slot, node, bits, before, seen, born, left = FREES;
    do
    :: left == 0 -> break
    :: left > 0 ->
       left--;
       slab = 0;
       slot = 0;
       atomic {
           /* any live object of any slab; none: no free this time */
           do
           :: slab < SLABS - 1 -> slab++
           :: slot < SLOTS - 1 -> slot++
           :: break
           od;
           if
           :: SLOT(slab, slot) == LIVE -> SLOT(slab, slot) = CLAIMED; born = generation[slab]
#ifdef DOUBLE_FREES
           :: SLOT(slab, slot) != LIVE -> born = generation[slab]
#else
           :: SLOT(slab, slot) != LIVE -> goto next
#endif
           fi
       }
       remote_free(slab);
next:
       atomic { slab = 0; slot = 0; node = 0; bits = 0; before = 0; seen = 0; born = 0 }
    od;
    freers_done++
}

/* exchange(word, 0): `got` has the old value. */
inline exchange(node) {
#ifdef PLAIN_TAKE /* mutation */
    got = WORD(slab, node);
    WORD(slab, node) = 0
#else
    d_step {
        got = WORD(slab, node);
        WORD(slab, node) = 0
    }
#endif
}

inline take_slot(index, mask) {
    if
    :: (got & mask) ->
       if
       :: SLOT(slab, index) == TAKEN -> late++
       :: else ->
          assert(SLOT(slab, index) == SENT);
          SLOT(slab, index) = TAKEN;
          taken++
       fi
    :: else
    fi
}

inline take_leaf() {
    d_step {
        take_slot(2 * (node - LEAVES), 1);
        take_slot(2 * (node - LEAVES) + 1, 2)
    }
}

/* The words of one slab, top first, so that a word's news cannot be wiped without the word being read. */
inline take_words() {
#ifdef LEAVES_FIRST /* mutation: leaves first, then the news about them */
    node = 2 * LEAVES - 1;
    do
    :: node == 0 -> break
    :: else ->
       exchange(node);
       if
       :: node >= LEAVES -> take_leaf()
       :: else
       fi;
       node--
    od;
#else
    todo = 1 << TOP;
    node = TOP;
    do
    :: todo == 0 -> break
    :: todo != 0 && !(todo & (1 << node)) -> node++
    :: todo != 0 && (todo & (1 << node)) ->
       todo = todo & ~(1 << node);
       exchange(node);
       if
       :: node >= LEAVES -> take_leaf()
       :: else -> todo = todo | (got << (2 * node))
       fi
    od;
#endif
    atomic { todo = 0; node = 0; got = 0 }
}

inline collect() {
#ifdef POP_WITHOUT_EXCHANGE /* mutation */
    list = head;
    head = 0;
#else
    d_step { list = head; head = 0 };
#endif
    do
    :: list == 0 -> break
    :: else ->
       slab = list - 1;
#ifdef LINK_READ_LATE /* mutation */
#ifdef PENDING_FLAG
       is_pending[slab] = 0;
#endif
       take_words();
       d_step { list = pending_next[slab]; on_stack[slab]-- }
#else
       d_step { list = pending_next[slab]; on_stack[slab]-- }
#ifdef FLAG_CLEARED_LATE /* mutation, together with PENDING_FLAG */
       take_words();
       is_pending[slab] = 0
#else
#ifdef PENDING_FLAG
       is_pending[slab] = 0;
#endif
       take_words()
#endif
#endif
    od;
    slab = 0
}

/* A slab whose slots are all free may leave the zone: from here on no freer may touch it. */
inline reclaim() {
    d_step {
        slab = 0;
        do
        :: slab == SLABS -> break
        :: else ->
           slot = 0;
           do
           :: slot == SLOTS -> break
           :: slot < SLOTS && SLOT(slab, slot) != TAKEN -> break
           :: slot < SLOTS && SLOT(slab, slot) == TAKEN -> slot++
           od;
           if
           :: slot == SLOTS -> generation[slab]++
           :: else
           fi;
           slab++
        od;
        slab = 0;
        slot = 0
    }
}

proctype owner() {
    byte slab, slot, node, todo, got, list, collects = COLLECTS, reuses = REUSES;
    do
    :: collects > 0 ->
       collects--;
       collect();
#ifndef DOUBLE_FREES
       reclaim()
#endif
#ifdef TAKE_UNPOPPED /* mutation: the words of a slab that was not popped are taken as well */
    :: collects > 0 ->
       collects--;
       take_words()
#endif
#ifndef DOUBLE_FREES
    :: reuses > 0 ->
       reuses--;
       atomic {
           do
           :: slab < SLABS - 1 -> slab++
           :: slot < SLOTS - 1 -> slot++
           :: break
           od;
           if
           :: SLOT(slab, slot) == TAKEN -> SLOT(slab, slot) = LIVE
           :: else
           fi;
           slab = 0;
           slot = 0
       }
#endif
    :: break
    od;
    atomic { freers_done == FREERS; collects = 0; reuses = 0 };
    collect();
    assert(head == 0);
    d_step {
        slab = 0;
        do
        :: slab == SLABS -> break
        :: else ->
           assert(on_stack[slab] == 0);
           node = 1;
           do
           :: node == 2 * LEAVES -> break
           :: else -> assert(WORD(slab, node) == 0); node++
           od;
           slot = 0;
           do
           :: slot == SLOTS -> break
           :: else -> assert(SLOT(slab, slot) == LIVE || SLOT(slab, slot) == TAKEN); slot++
           od;
           slab++
        od
    };
    assert(accepted == taken + late)
}

init {
    atomic {
        run owner();
        byte i = 0;
        do
        :: i < FREERS -> run freer(); i++
        :: else -> break
        od
    }
}
