/* SPDX-License-Identifier: MIT */
/* An address of a variable.
 *
 * stops: invalid free of ADDRESS (malloc): not an address of the heap */
#include "misuse.h"

static char variable[64] __attribute__((aligned(16)));

int main(void)
{
    a_free(wrong(variable));
    return NOT_STOPPED;
}
