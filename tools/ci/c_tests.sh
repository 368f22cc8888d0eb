#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# c_tests.sh NAME [meson option…]: the C tests, examples and misuse programs in one build, compiled by $CC, warnings being
# errors. Without the extension: the core has to stand on its own. NAME valgrind: those of the C tests that are quick there.
set -euo pipefail
name=$1 build=build/c-$1
shift
export PATH=$PWD/.venv/bin:$PATH
export ASAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1
mkdir -p build
runner=() tests=()
case $name in
    # Short runs in a slow build find what long ones find.
    asan | tsan | aarch64) export SLABMALLOC_MODEL_STEPS=${SLABMALLOC_MODEL_STEPS:-2000} ;;&
    aarch64 | valgrind) export SLABMALLOC_EMULATED=1 ;;&
    # Where a kernel randomizes addresses further than ThreadSanitizer's map reaches, its programs don't even start.
    tsan) setarch --addr-no-randomize true 2> /dev/null && runner=(setarch --addr-no-randomize) ;;
    valgrind)
        command -v valgrind > /dev/null || { echo "skipped: no valgrind"; exit 0; }
        export SLABMALLOC_MODEL_STEPS=${SLABMALLOC_MODEL_STEPS:-500} SLABMALLOC_THREADS_PERCENT=${SLABMALLOC_THREADS_PERCENT:-5}
        # Three are slow; and of what mremap adds to a block that it moves valgrind (3.19) thinks that nobody may touch it.
        tests=(--wrapper "valgrind --quiet --error-exitcode=99" $(cd tests/c && ls test_*.c | sed 's/\.c$//' |
            grep -vx -e test_arena -e test_heap_adoption -e test_huge -e test_threads_races))
        ;;
esac
[ -d "$build" ] && set -- --reconfigure "$@"
meson setup "$build" -Dnative=disabled -Dtests=true -Dwerror=true "$@" > "$build.setup" 2>&1 || { cat "$build.setup"; exit 1; }
"${runner[@]}" meson test -C "$build" --print-errorlogs "${tests[@]}"
