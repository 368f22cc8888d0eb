#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# fuzz.sh SECONDS [NAME...]: each fuzz/fuzz_NAME.c, or those named, under libFuzzer for its share of the time, with assertions
# and sanitizers. It starts from fuzz/corpus/NAME; what it finds stays in build/.
#     build/fuzz_NAME/fuzz_NAME -merge=1 -use_counters=0 fuzz/corpus/NAME build/fuzz_NAME/corpus
# keeps of that what reaches code that the kept inputs do not. SECONDS 0 only builds.
set -euo pipefail
seconds=$1
shift
[ $# -gt 0 ] || set -- $(cd fuzz && ls fuzz_*.c | sed 's/^fuzz_//; s/\.c$//')
for name in "$@"; do
    out=build/fuzz_$name
    mkdir -p "$out/corpus" "fuzz/corpus/$name"
    rest=()
    if [ "$name" = malloc ]; then
        # malloc's own sources, under other names; and so are the system's calls, which come to fuzz/malloc_process.c.
        rest=(-include tests/c/malloc_names.h -Ibindings fuzz/malloc_process.c bindings/thread_domain.c bindings/preload/malloc.c)
        for call in clock_gettime mmap munmap mremap mprotect madvise getrandom; do rest+=("-D$call=fuzz_$call"); done
    fi
    clang -std=c11 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -DSLABMALLOC_CHECKED=1 \
        -Icore/include -Icore "${rest[@]}" -Itests/c "fuzz/fuzz_$name.c" core/*/*.c -lpthread -o "$out/fuzz_$name"
    [ "$seconds" = 0 ] || "$out/fuzz_$name" -max_total_time=$((seconds / $#)) -max_len=4096 -print_final_stats=1 \
        -artifact_prefix="$out/" "$out/corpus" "fuzz/corpus/$name"
done
