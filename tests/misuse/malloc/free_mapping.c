/* SPDX-License-Identifier: MIT */
/* An address of the program's own mapping.
 *
 * stops: invalid free of ADDRESS (malloc): not an address of the heap */
#include "misuse.h"

int main(void)
{
    void *mapping = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(mapping != MAP_FAILED);
    a_free(wrong(mapping));
    return NOT_STOPPED;
}
