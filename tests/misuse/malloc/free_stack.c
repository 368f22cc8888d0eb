/* SPDX-License-Identifier: MIT */
/* An address of the stack.
 *
 * stops: invalid free of ADDRESS (malloc): not an address of the heap */
#include "misuse.h"

int main(void)
{
    char local[64] __attribute__((aligned(16))) = {0};
    a_free(wrong(local));
    return NOT_STOPPED;
}
