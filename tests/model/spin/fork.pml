/* SPDX-License-Identifier: MIT
 *
 * fork amid the work of others (core/heap/space.c: space_fork_prepare, _parent, _child; bindings/threads.c), for the
 * model checker spin. A forker has heap MINE; a worker has heap WORKERS, and tends heap ABANDONED; a freer, who has
 * no heap, frees slots of MINE's slab, by the protocol of remote_free.pml. After the fork we follow the parent, where
 * all go on, or the child, where the others stop wherever they are. Checked in the child: no lock is held by who is
 * not there; what is adopted nobody left in the midst of something, and it is not the forker's; each heap is
 * somebody's, to be found, or HEAP_LOST; and every bit that a freer set is found by a collect, also when others free
 * beside it later. Each #ifdef that is named in run.py leaves a step out.
 */
#define NONE 0

/* Threads, as gettid names them. */
#define FORKER 1
#define WORKER 2
#define CHILD 3 /* the forker in the child */
#define FRESH 4 /* a thread that the child starts */

/* Heaps. */
#define MINE 1
#define WORKERS 2
#define ABANDONED 3
#define HEAPS 3

/* heap.state */
#define HEAP_OWNED 0
#define HEAP_ABANDONED 1
#define HEAP_LOST 2

byte space_lock, large_lock; /* who holds it, or NONE */
byte abandoned = ABANDONED;  /* the list has one heap at most */
byte state[HEAPS + 1], owner[HEAPS + 1];
bit is_alive[FRESH + 1];
bit is_child, is_done;

/* The slab of MINE: remote is a tree of words, 1 is the top, 2 and 3 have two slots each. */
byte word[4];
byte head;    /* pending: 1, the slab is on the stack */
byte on_stack; /* how many times */

/* What only the checker knows. */
bit is_busy[HEAPS + 1]; /* its owner is in the midst of something */
#define LIVE 0
#define SENT 1 /* its bit is set */
#define TAKEN 2
byte slots[4];
bit found[HEAPS + 1]; /* by a thread of the child that needs heaps */

inline lock(which, self) { atomic { which == NONE; which = self } }
inline unlock(which) { which = NONE }

/* ---- remote frees: F1 ... F3, C1 ... C4 of zone/remote.h ---- */

inline remote_free(slot) {
    d_step { /* F1 */
        before = word[2 + slot / 2];
        word[2 + slot / 2] = before | (1 << (slot % 2));
        slots[slot] = SENT
    };
    if
    :: before == 0 ->
       d_step { /* F2 */
           before = word[1];
           word[1] = before | (1 << (slot / 2))
       };
       if
       :: before == 0 -> d_step { /* F3 */
              assert(on_stack == 0);
              on_stack++;
              head = 1
          }
       :: else
       fi
    :: else
    fi
}

inline take_leaf(node) {
    d_step {
        got = word[node];
        word[node] = 0;
        if
        :: got & 1 -> assert(slots[2 * (node - 2)] == SENT); slots[2 * (node - 2)] = TAKEN
        :: else
        fi;
        if
        :: got & 2 -> assert(slots[2 * (node - 2) + 1] == SENT); slots[2 * (node - 2) + 1] = TAKEN
        :: else
        fi;
        got = 0
    }
}

inline remote_collect() {
    d_step { before = head; head = 0 }; /* C1, C2 */
    if
    :: before != 0 ->
       on_stack--;
       d_step { before = word[1]; word[1] = 0 };
       if
       :: before & 1 -> take_leaf(2)
       :: else
       fi;
       if
       :: before & 2 -> take_leaf(3)
       :: else
       fi
    :: else
    fi;
    before = 0
}

/* remote_tell_again, while no other thread runs. */
inline remote_tell_again() {
    d_step {
#ifndef STACK_KEPT /* mutation */
        head = 0;
        on_stack = 0;
#endif
#ifndef SUMMARY_KEPT /* mutation: the words above are believed */
        word[1] = (word[2] != 0 -> 1 : 0) | (word[3] != 0 -> 2 : 0);
#endif
        if
        :: word[1] != 0 ->
           assert(on_stack == 0);
           on_stack++;
           head = 1
        :: else
        fi
    }
}

/* ---- heaps ---- */

inline heap_abandon(heap, self) {
    lock(space_lock, self);
    abandoned = heap;
    state[heap] = HEAP_ABANDONED;
    owner[heap] = NONE;
    unlock(space_lock)
}

inline borrow(self) {
    lock(space_lock, self);
    h = abandoned;
    if
    :: h != NONE ->
       abandoned = NONE;
#ifndef BORROWED_IS_ABANDONED /* mutation */
       state[h] = HEAP_OWNED
#endif
    :: else
    fi;
    unlock(space_lock)
}

/* A heap for FRESH; NONE: it makes one. */
inline heap_open() {
    lock(space_lock, FRESH);
    h = abandoned;
    if
    :: h != NONE -> abandoned = NONE
    :: else -> /* find_orphan */
       h = 1;
       do
       :: h <= HEAPS && state[h] == HEAP_OWNED && owner[h] != NONE && !is_alive[owner[h]] -> break
       :: h <= HEAPS && !(state[h] == HEAP_OWNED && owner[h] != NONE && !is_alive[owner[h]]) -> h++
       :: h > HEAPS -> h = NONE; break
       od
    fi;
    if
    :: h != NONE -> state[h] = HEAP_OWNED; owner[h] = FRESH
    :: else
    fi;
    unlock(space_lock)
}

/* A thread takes a page, for which what rests has to go (large_trim), and a large block, in the midst of its work. */
inline work(heap, self) {
    is_busy[heap] = 1;
    lock(space_lock, self);
    lock(large_lock, self);
    unlock(large_lock);
    unlock(space_lock);
    lock(large_lock, self);
    unlock(large_lock);
    is_busy[heap] = 0
}

proctype worker() {
    byte h;
    {
        work(WORKERS, WORKER);
        borrow(WORKER);
        if
        :: h != NONE -> work(h, WORKER); heap_abandon(h, WORKER)
        :: else
        fi;
        is_done = 1
    } unless { is_child }
}

proctype freer() {
    byte before;
    {
        remote_free(0);
        remote_free(1);
        remote_free(2)
    } unless { is_child }
}

inline fork_prepare() {
#ifdef LARGE_FIRST /* mutation: the order of the locks */
    lock(large_lock, FORKER);
    lock(space_lock, FORKER);
#else
#ifndef NO_SPACE_LOCK /* mutation */
    lock(space_lock, FORKER);
#endif
#ifndef NO_LARGE_LOCK /* mutation */
    lock(large_lock, FORKER);
#endif
#endif
    skip
}

inline unlock_both() {
#ifndef NO_LARGE_LOCK
    unlock(large_lock);
#endif
#ifndef NO_SPACE_LOCK
    unlock(space_lock);
#endif
    skip
}

inline fork_child() {
    h = 1;
    do
    :: h <= HEAPS ->
       if
       :: state[h] == HEAP_ABANDONED || h == MINE
#ifndef NOT_LOST /* mutation */
       :: else -> state[h] = HEAP_LOST
#else
       :: else
#endif
       fi;
       h++
    :: else -> h = NONE; break
    od;
#ifndef NOT_TOLD_AGAIN /* mutation: who owed the news is believed to be there still */
    remote_tell_again();
#endif
#ifndef LOCKS_KEPT_IN_CHILD /* mutation */
    unlock_both();
#endif
#ifndef NAME_KEPT /* mutation: the owner of MINE has the parent's name */
    owner[MINE] = CHILD;
#endif
    skip
}

/* One thread after the other is enough here: what threads of the child do to each other is as in any process. */
inline live_as_child() {
    is_alive[FRESH] = 1;
    do
    :: heap_open();
       if
       :: h != NONE ->
          assert(h != MINE && !is_busy[h]);
          found[h] = 1
       :: else -> break
       fi
    od;
    i = 1;
    do
    :: i <= HEAPS -> assert(i == MINE || found[i] || state[i] == HEAP_LOST); i++
    :: else -> i = 0; break
    od;
    /* FRESH frees what is live of MINE, and MINE collects. */
    do
    :: i < 4 ->
       if
       :: slots[i] == LIVE -> remote_free(i)
       :: else
       fi;
       i++
    :: else -> i = 0; break
    od;
    remote_collect();
    do
    :: i < 4 -> assert(slots[i] == TAKEN); i++
    :: else -> break
    od;
    assert(on_stack == 0 && word[1] == 0 && word[2] == 0 && word[3] == 0)
}

proctype forker() {
    byte h, i, before, got;
    if
    :: remote_collect()
    :: skip
    fi;
    fork_prepare();
    if
    :: atomic { is_child = 1; is_alive[FORKER] = 0; is_alive[WORKER] = 0; is_alive[CHILD] = 1 };
       fork_child();
       assert(space_lock == NONE && large_lock == NONE);
       live_as_child()
    :: skip; /* the parent */
#ifndef LOCKS_KEPT_IN_PARENT /* mutation */
       unlock_both();
#endif
       is_done;
       assert(abandoned == ABANDONED && state[ABANDONED] == HEAP_ABANDONED && state[WORKERS] == HEAP_OWNED);
       remote_collect()
    fi
}

init {
    atomic {
        state[ABANDONED] = HEAP_ABANDONED;
        owner[MINE] = FORKER;
        owner[WORKERS] = WORKER;
        is_alive[FORKER] = 1;
        is_alive[WORKER] = 1;
        run forker();
        run worker();
        run freer()
    }
}
