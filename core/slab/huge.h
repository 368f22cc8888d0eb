/* SPDX-License-Identifier: MIT
 *
 * Transparent huge pages, floor 1: what the machine does, and what follows for memory that goes back in parts.
 *
 * A huge page is one piece of physical memory. Where a part of it is purged or unmapped the process's resident bytes
 * fall, but the memory stays allocated until the rest has gone too, or until the system runs short and splits the huge
 * page. So memory that may lie in huge pages goes back by whole ones; where it has to end within one, that one is cut
 * before; and memory that goes back in smaller parts is kept out of them.
 */
#ifndef SLABMALLOC_SLAB_HUGE_H
#define SLABMALLOC_SLAB_HUGE_H

#include "base/bits.h"

/* Which memory the system puts into huge pages. */
typedef enum huge_setting {
    HUGE_NEVER,   /* none */
    HUGE_ADVISED, /* what a program asks for */
    HUGE_ALWAYS   /* whatever fits, unless a program refuses */
} huge_setting;

typedef struct huge_machine {
    size_t bytes; /* of a huge page, a power of two */
    huge_setting setting;
} huge_machine;

/* As it is now, for this process. Where it can't be read the setting is HUGE_ALWAYS, for caution's sake. */
huge_machine huge_machine_now(void);
/* The word in brackets, as the kernel writes a setting; `inherited` where it says so. */
huge_setting huge_setting_of(const char *text, huge_setting inherited);

/* What a heap does about them. */
typedef struct huge_use {
    size_t bytes;    /* of a huge page; 0: no memory is ever in one */
    bool is_wanted;  /* memory is put into them where it can go back by whole ones */
    bool is_unasked; /* the system does so by itself: memory that can't is kept out */
} huge_use;

/* NULL, or why huge pages that are wanted are not used all the same. */
const char *huge_use_of(huge_use *use, const huge_machine *machine, bool is_wanted);

/* All of these leave errno alone.
 *
 * The memory is to be in huge pages / never to be in any from now on. */
void huge_advise(void *memory, size_t bytes);
void huge_refuse(void *memory, size_t bytes);
/* If `address` lies in a huge page this one becomes as many small pages: what is purged of it is free at once. The OS
 * page at `address` may lose its contents. A huge page that a forked child shares stays what it is. */
void huge_cut(uintptr_t address);

#endif
