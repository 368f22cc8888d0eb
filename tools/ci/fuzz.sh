#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# fuzz.sh SECONDS: libFuzzer on the zone, with assertions and sanitizers. Finds go to build/, crashes are printed.
set -euo pipefail
out=build/fuzz
mkdir -p "$out/corpus"
clang -std=c11 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -DSLABMALLOC_CHECKED=1 \
    -Icore/include -Icore fuzz/fuzz_zone.c core/*/*.c -lpthread -o "$out/fuzz_zone"
"$out/fuzz_zone" -max_total_time="$1" -print_final_stats=1 -artifact_prefix="$out/" "$out/corpus" fuzz/corpus/zone
