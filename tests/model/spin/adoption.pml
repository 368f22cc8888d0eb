/* SPDX-License-Identifier: MIT
 *
 * Whose a heap is, and when it ends (core/heap/adoption.c, giveback.c; bindings/threads.c), for the model checker spin.
 * THREADS threads, the first LIVES times: they open a heap, work, tend heaps that nobody owns, trim, and end; some end
 * in a way that leaves nobody to abandon the heap. Numbers of threads (gettid) are used again. One more frees an
 * object in another's heap (FREES).
 * Checked: nobody is at work in a heap while another is; nobody looks at one that has ended; and when all have ended,
 * whoever comes by finds every heap that has not, with all that others freed in it and every trim that it was asked
 * for. Each #ifdef that is named in run.py leaves a step out.
 */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef LIVES
#define LIVES 1
#endif
#ifndef TRIMS
#define TRIMS 1
#endif
#ifndef FREES
#define FREES 1
#endif
#define HEAPS (2 * THREADS + 1) /* a thread has one, and works in another for a while */
#define LAST (THREADS + 1)      /* who comes by in the end */
#define NONE 0

/* heap.state */
#define HEAP_OWNED 0
#define HEAP_ABANDONED 1

/* What the threads share; heaps are 1 ... heaps, threads 1 ... THREADS + 1. */
byte heaps;     /* space.heaps: those made so far */
byte abandoned; /* the front of the list */
byte next_abandoned[HEAPS + 1];
bit state[HEAPS + 1];
byte owner[HEAPS + 1]; /* a thread, or NONE */
bit trim_wanted[HEAPS + 1];
bit has_left[HEAPS + 1]; /* it is not in space.heaps any more */
bit is_alive[LAST + 1]; /* what tgkill tells */
bit is_ending[LAST + 1];

/* What only the checker knows. */
byte users[HEAPS + 1];     /* who are at work in it */
bit has_page[HEAPS + 1];    /* whose entry in range.slabs leads to it */
bit has_ended[HEAPS + 1];   /* its books are gone */
bit has_garbage[HEAPS + 1]; /* others freed in it, and nobody has collected that */
bit untrimmed[HEAPS + 1];   /* a trim began, and has not come to it */
bit has_trimmed, has_seen[HEAPS + 1];
byte live_in; /* a heap with an object that another thread is going to free, or NONE */
bit has_lived;
byte ended;

/* A section under space.lock is one step: what is in it is touched under the lock alone, but `owner`, which whoever has
 * opened a heap writes once, and `trim_wanted`, which its owner reads and clears. */
#ifdef NO_LOCK /* mutation */
#define LOCKED
#else
#define LOCKED atomic
#endif

/* Any work in a heap: allocate, free, collect, purge. */
inline begin_work(heap) {
    d_step {
        assert(users[heap] == 0 && !has_ended[heap]);
        users[heap]++;
        has_garbage[heap] = 0;
        has_page[heap] = (live_in == heap) /* what is empty leaves */
    }
}

inline end_work(heap) { users[heap]-- }

/* Is asked of a heap with an owner: is that thread gone? */
#ifdef GONE_WHILE_ENDING /* mutation: the thread itself says so, when its end begins */
#define IS_GONE(thread) (is_ending[thread] || !is_alive[thread])
#else
#define IS_GONE(thread) (!is_alive[thread])
#endif

#define IS_ORPHAN(heap) (!has_left[heap] && state[heap] == HEAP_OWNED && owner[heap] != NONE && IS_GONE(owner[heap]))

/* The code asks a few heaps at a time, in turn; here it asks all. */
inline find_orphan() {
#ifdef NO_ORPHANS /* mutation: nobody looks for them */
    skip
#else
    at = 1;
    do
    :: at <= heaps && IS_ORPHAN(at) -> assert(!has_ended[at]); h = at; break
    :: at <= heaps && !IS_ORPHAN(at) -> at++
    :: at > heaps -> break
    od;
    at = 0
#endif
}

/* Memory of one that has ended may come to be another's. */
inline heap_make() {
    h = 1;
    do
    :: h <= heaps && !(has_left[h] && has_ended[h]) -> h++
    :: else -> break
    od;
    if
    :: h > heaps -> heaps++; assert(heaps <= HEAPS)
    :: else -> has_left[h] = 0; has_ended[h] = 0
    fi;
    state[h] = HEAP_OWNED;
    owner[h] = NONE;
    trim_wanted[h] = 0;
    has_seen[h] = 0
}

inline heap_open() {
    LOCKED {
        h = abandoned;
        if
        :: h != NONE -> abandoned = next_abandoned[h]
        :: else -> find_orphan()
        fi;
        if
        :: h != NONE ->
           state[h] = HEAP_OWNED;
#ifndef OWNER_KEPT_BY_OPEN /* mutation: the name of who is gone stays */
           owner[h] = NONE
#endif
        :: else
        fi
    };
    if
    :: h == NONE -> atomic { heap_make() }
    :: else
    fi
}

inline heap_abandon(heap) {
    LOCKED {
#ifdef NEXT_KEPT /* mutation: the link that it had before */
        skip;
#else
        next_abandoned[heap] = NONE;
#endif
        /* to the back of the list */
        if
        :: abandoned == NONE -> abandoned = heap
        :: else ->
           at = abandoned;
           do
           :: next_abandoned[at] == NONE -> break
           :: else -> at = next_abandoned[at]; assert(at != heap)
           od;
           next_abandoned[at] = heap;
           at = 0
        fi;
        state[heap] = HEAP_ABANDONED;
#ifndef OWNER_KEPT /* mutation */
        owner[heap] = NONE
#endif
    }
}

/* E1, E2. */
inline heap_end(heap) {
    assert(!has_garbage[heap]);
#ifdef ENDED_FIRST /* mutation: its books go before others know */
    has_ended[heap] = 1;
#endif
#ifndef STILL_LISTED /* mutation: it stays in space.heaps */
    LOCKED { has_left[heap] = 1; untrimmed[heap] = 0 }
#endif
#ifndef ENDED_FIRST
    has_ended[heap] = 1
#else
    skip
#endif
}

/* What was vacant before as well, a while ago, is a matter of time. */
#ifdef ENDED_WITH_PAGE /* mutation: that others' objects are there is not asked */
#define MAY_END(heap) true
#else
#define MAY_END(heap) (!has_page[heap])
#endif
inline heap_return(heap, at_once) {
    if
    :: MAY_END(heap) ->
#ifdef ENDED_AND_ABANDONED /* mutation: it is on the list again */
       heap_abandon(heap);
#endif
       heap_end(heap)
    :: !(at_once && MAY_END(heap)) -> heap_abandon(heap)
    fi
}

/* Any heap of the list: which one is due is a matter of time. */
inline borrow() {
    LOCKED {
        at = NONE; /* the one before h */
        h = abandoned;
        do
        :: h != NONE && next_abandoned[h] != NONE -> at = h; h = next_abandoned[h]
        :: break
        od;
        take_off()
    }
}

inline borrow_first() {
    LOCKED {
        h = abandoned;
        take_off()
    }
}

inline take_off() {
    if
    :: h != NONE ->
#ifndef BORROWED_STAYS /* mutation: it is not taken off the list */
       if
       :: at == NONE -> abandoned = next_abandoned[h]
       :: else -> next_abandoned[at] = next_abandoned[h]
       fi;
#endif
       state[h] = HEAP_OWNED
    :: else
    fi;
    at = 0
}

inline trim_own(heap) {
    trim_wanted[heap] = 0;
    untrimmed[heap] = 0
}

inline heed_trim(heap) {
    if
    :: trim_wanted[heap] -> trim_own(heap)
    :: else
    fi
}

/* heap_tend_abandoned, which any thread's tick may come to. */
inline tend() {
    if
    :: h != NONE ->
       begin_work(h);
#ifndef TRIM_UNHEARD /* mutation: what an owner was asked for, who did not come to it, is forgotten */
       heed_trim(h);
#endif
       end_work(h);
       heap_return(h, false);
       h = NONE
    :: else
    fi
}

inline ask_others(own) {
    LOCKED {
        at = 1;
        do
        :: at <= heaps ->
           if
#ifdef ASKED_LAST
           :: at != own && !has_left[at] && state[at] == HEAP_OWNED -> assert(!has_ended[at]); trim_wanted[at] = 1
#else
           :: at != own && !has_left[at] -> assert(!has_ended[at]); trim_wanted[at] = 1
#endif
           :: else
           fi;
           at++
        :: else -> at = 0; break
        od
    }
}

/* The first abandoned heap that this trim has not seen. */
inline borrow_untrimmed() {
    LOCKED {
        h = abandoned;
        do
        :: h != NONE && has_seen[h] -> at = h; h = next_abandoned[h]
        :: else -> break
        od;
        take_off()
    }
}

/* heap_trim, by the owner of `own`; once in all, so that `has_seen` stands for last_trim. */
inline trim(own) {
    d_step {
        has_trimmed = 1;
        at = 1;
        do
        :: at <= heaps -> untrimmed[at] = !has_left[at]; at++
        :: else -> at = 0; break
        od
    }
    begin_work(own);
    trim_own(own);
    end_work(own);
#ifndef ASKED_LAST /* mutation: first the abandoned heaps, then those that have an owner are asked */
    ask_others(own);
#endif
    do
    :: borrow_untrimmed();
       if
       :: h != NONE ->
          begin_work(h);
          trim_own(h);
          has_seen[h] = 1;
          end_work(h);
          heap_return(h, true);
          h = NONE
       :: else -> break
       fi
    od;
#ifdef ASKED_LAST
    ask_others(own)
#else
    skip
#endif
}

/* Work of the thread in its own heap, a tick included; others free in it meanwhile. */
inline work() {
    begin_work(own);
    heed_trim(own);
    d_step {
        has_page[own] = 1;
        has_garbage[own] = 1 /* others freed in it */
    }
    if
    :: atomic { FREES > 0 && !has_lived -> has_lived = 1; live_in = own }
    :: skip
    fi;
    end_work(own)
}

/* By a thread that has the object's address, and finds the heap by it. */
proctype freer() {
end:
    atomic { live_in != NONE -> assert(!has_ended[live_in]) } /* F1 */
    d_step { /* F3 */
        assert(!has_ended[live_in]);
        has_garbage[live_in] = 1;
        live_in = NONE
    }
}

proctype thread(byte self) {
    byte own, h, at, lives = (self == 1 -> LIVES : 1);
    bit has_tended;
    do
    :: lives == 0 -> break
    :: else ->
       lives--;
       atomic { is_alive[self] = 1; is_ending[self] = 0 }
       heap_open(); /* thread_heap_open */
       own = h;
       h = NONE;
       owner[own] = self;
       work();
       if
       :: !has_tended -> has_tended = 1; borrow(); tend()
       :: TRIMS > 0 && !has_trimmed -> trim(own)
       :: skip
       fi;
       if
       :: is_ending[self] = 1; /* thread_ends */
          heap_abandon(own);
          if
          :: TRIMS > 0 -> heap_open(); /* by a destructor that comes later: thread_heap_open ... thread_heap_done */
             own = h;
             h = NONE;
             work();
             heap_abandon(own)
          :: skip
          fi
       :: skip /* it came to a heap in the last round of its destructors: nobody abandons it */
       fi;
       atomic { own = NONE; is_alive[self] = 0 }
    od;
    ended++
}

/* Comes by when all the others have ended. */
proctype last() {
    byte h, at, i;
    ended == THREADS && live_in == NONE;
    is_alive[LAST] = 1;
    /* Its ticks: of what is abandoned all is collected and trimmed, whoever comes by. */
    do
    :: i < HEAPS -> i++; borrow_first(); tend()
    :: else -> break
    od;
    i = 0;
    d_step {
        at = 1;
        do
        :: at <= heaps -> assert(has_left[at] || state[at] != HEAP_ABANDONED || (!has_garbage[at] && !untrimmed[at])); at++
        :: else -> at = 0; break
        od
    };
    /* Then it needs heaps, and so it finds those that nobody abandoned. */
    do
    :: i < HEAPS && i < heaps ->
       i++;
       heap_open();
       begin_work(h);
       heed_trim(h);
       owner[h] = LAST;
       h = NONE
    :: else -> break
    od;
    assert(abandoned == NONE);
    d_step {
        at = 1;
        do
        :: at <= heaps ->
           assert(state[at] == HEAP_OWNED && owner[at] == LAST && !has_garbage[at] && !untrimmed[at]);
           at++
        :: else -> at = 0; break
        od
    }
}

init {
    atomic {
        byte i = 1;
        run last();
        if
        :: FREES > 0 -> run freer()
        :: else
        fi;
        do
        :: i <= THREADS -> run thread(i); i++
        :: else -> break
        od
    }
}
