/* SPDX-License-Identifier: MIT
 *
 * A program that locks its memory holds what it uses, not what is set aside for it. Exits with 77 where it may not
 * lock.
 */
#define _GNU_SOURCE
#include "check.h"

#include <stdlib.h>
#include <sys/mman.h>

int main(void)
{
    char *block = malloc(1000);
    REQUIRE(block != NULL);
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        return 77;
    for (int i = 0; i < 1000; i++) {
        char *other = malloc((size_t)i * 100);
        REQUIRE(other != NULL);
        memset(other, 1, (size_t)i * 100);
        free(other);
    }
    free(block);
    printf("%zu\n", held_bytes(1));
    return 0;
}
