/* SPDX-License-Identifier: MIT */
/* Twice in a forked child; the parent's block is its own, and as it was.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 8 of 21 slots live */
#include "misuse.h"

#include <signal.h>
#include <sys/wait.h>

int main(void)
{
    char *block = new_block(3000);
    int status;
    pid_t child = fork();
    if (child == 0) {
        a_free(block);
        a_free(wrong(block));
        _exit(NOT_STOPPED);
    }
    REQUIRE(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    a_free(block);
    signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
    return NOT_STOPPED;
}
