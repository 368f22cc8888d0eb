/* SPDX-License-Identifier: MIT
 *
 * What the fuzzers share: an input that is read byte by byte and ends in zeros, an end at the first failed check, and
 * for other compilers than clang a program that replays files (-DFUZZ_REPLAY).
 */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include "check.h"

typedef struct input {
    const uint8_t *bytes;
    size_t left;
} input;

static inline uint8_t next_byte(input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->bytes++;
}

static inline size_t next_below(input *in, size_t bound)
{
    size_t value = next_byte(in);
    if (bound > 256)
        value = value << 8 | next_byte(in);
    return value % bound;
}

static inline void stop_on_failure(const input *in)
{
    if (atomic_load(&check_failures) == 0)
        return;
    printf("%zu bytes were left\n", in->left);
    fflush(stdout);
    abort();
}

/* Of what compares a great deal and is no part of what is tested: the fuzzer has nothing to learn from it. */
#ifdef __clang__
#define NOT_TRACED __attribute__((no_sanitize("coverage"), noinline))
#else
#define NOT_TRACED
#endif

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#ifdef FUZZ_REPLAY
int main(int argc, char **argv)
{
    static uint8_t bytes[1 << 20];
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        REQUIRE(file != NULL);
        LLVMFuzzerTestOneInput(bytes, fread(bytes, 1, sizeof bytes, file));
        fclose(file);
    }
    printf("%d passed, 0 failed\n", argc - 1);
    return EXIT_SUCCESS;
}
#endif

#endif
