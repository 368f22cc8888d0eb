/* SPDX-License-Identifier: MIT
 *
 * The malloc interface of bindings/preload/malloc.c under other names. Included before anything else (-include) by that
 * file and by a program that asks for it as for any malloc, it lets the program be linked with the allocator, while the
 * C library, the sanitizers and the fuzzer keep the malloc that they know.
 */
#ifndef MALLOC_NAMES_H
#define MALLOC_NAMES_H

#define malloc linked_malloc
#define calloc linked_calloc
#define realloc linked_realloc
#define reallocarray linked_reallocarray
#define free linked_free
#define free_sized linked_free_sized
#define free_aligned_sized linked_free_aligned_sized
#define cfree linked_cfree
#define aligned_alloc linked_aligned_alloc
#define memalign linked_memalign
#define posix_memalign linked_posix_memalign
#define valloc linked_valloc
#define pvalloc linked_pvalloc
#define malloc_usable_size linked_malloc_usable_size
#define malloc_trim linked_malloc_trim
#define malloc_stats linked_malloc_stats
#define malloc_info linked_malloc_info
#define mallopt linked_mallopt
#define mallinfo linked_mallinfo
#define mallinfo2 linked_mallinfo2
#define __register_atfork linked_register_atfork /* sanitizers call it before they are ready for us */

#endif
