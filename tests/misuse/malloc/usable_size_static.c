/* SPDX-License-Identifier: MIT */
/* The size of a variable.
 *
 * stops: invalid malloc_usable_size of ADDRESS (malloc): not an address of the heap */
#include "misuse.h"

static char variable[64] __attribute__((aligned(16)));

int main(void)
{
    size_t (*volatile a_usable)(void *) = malloc_usable_size;
    char *block = new_block(3000);
    a_usable(wrong(variable));
    return NOT_STOPPED;
}
