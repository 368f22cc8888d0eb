/* SPDX-License-Identifier: MIT */
/* Freed before fork, and again in the child.
 *
 * stops: double free of ADDRESS (malloc): slot SLOT of a 3072-byte slab is already free; the
 *        slab is current, 8 of 21 slots live */
#include "misuse.h"

#include <signal.h>
#include <sys/wait.h>

int main(void)
{
    char *block = new_block(3000);
    a_free(block);
    int status;
    pid_t child = fork();
    if (child == 0) {
        a_free(wrong(block));
        _exit(NOT_STOPPED);
    }
    REQUIRE(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
    return NOT_STOPPED;
}
