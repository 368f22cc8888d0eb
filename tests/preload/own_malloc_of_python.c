/* SPDX-License-Identifier: MIT
 *
 * The same as own_malloc.c, with the names by which a CPython is known.
 */
void PyMem_GetAllocator(void);
void PyMem_SetAllocator(void);
void PyMem_GetAllocator(void) {}
void PyMem_SetAllocator(void) {}

int main(void) { return 0; }
