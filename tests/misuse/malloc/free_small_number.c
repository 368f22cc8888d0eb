/* SPDX-License-Identifier: MIT */
/* A number that is no address.
 *
 * stops: invalid free of ADDRESS (malloc): not an address of the heap */
#include "misuse.h"

int main(void)
{
    a_free(wrong((void *)16));
    return NOT_STOPPED;
}
