#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# fuzz.sh SECONDS: each fuzz/fuzz_NAME.c under libFuzzer for its share of the time, with assertions and sanitizers. It starts
# from fuzz/corpus/NAME; what it finds stays in build/.
set -euo pipefail
fuzzers=(fuzz/fuzz_*.c)
for source in "${fuzzers[@]}"; do
    name=$(basename "$source" .c)
    out=build/$name
    mkdir -p "$out/corpus" "fuzz/corpus/${name#fuzz_}"
    clang -std=c11 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -DSLABMALLOC_CHECKED=1 \
        -Icore/include -Icore -Itests/c "$source" core/*/*.c -lpthread -o "$out/$name"
    "$out/$name" -max_total_time=$(($1 / ${#fuzzers[@]})) -print_final_stats=1 -artifact_prefix="$out/" \
        "$out/corpus" "fuzz/corpus/${name#fuzz_}"
done
