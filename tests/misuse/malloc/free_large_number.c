/* SPDX-License-Identifier: MIT */
/* The last address but fifteen.
 *
 * stops: invalid free of ADDRESS (malloc): not an address of the heap */
#include "misuse.h"

int main(void)
{
    a_free(wrong((void *)(UINTPTR_MAX - 15)));
    return NOT_STOPPED;
}
