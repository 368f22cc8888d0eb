/* SPDX-License-Identifier: MIT */
/* An address of a variable.
 *
 * stops: invalid realloc of ADDRESS (malloc): not an address of the heap */
#include "misuse.h"

static char variable[64] __attribute__((aligned(16)));

int main(void)
{
    REQUIRE(a_realloc(wrong(variable), 4000) == NULL);
    return NOT_STOPPED;
}
