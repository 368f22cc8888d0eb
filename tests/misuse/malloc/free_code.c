/* SPDX-License-Identifier: MIT */
/* An address of a function.
 *
 * stops: invalid free of ADDRESS (malloc): not an address of the heap */
#include "misuse.h"

int main(void);

int main(void)
{
    a_free(wrong((void *)(uintptr_t)main));
    return NOT_STOPPED;
}
