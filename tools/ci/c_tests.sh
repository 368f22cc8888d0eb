#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# c_tests.sh NAME [meson option…]: the C tests, examples and misuse programs in one build, compiled by $CC, warnings being
# errors. Without the extension: the core has to stand on its own.
set -euo pipefail
name=$1 build=build/c-$1
shift
export PATH=$PWD/.venv/bin:$PATH
export ASAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1
mkdir -p build
runner=()
case $name in
    # Short runs in a slow build find what long ones find.
    asan | tsan | aarch64) export SLABMALLOC_MODEL_STEPS=${SLABMALLOC_MODEL_STEPS:-2000} ;;&
    aarch64) export SLABMALLOC_EMULATED=1 ;;
    # Where a kernel randomizes addresses further than ThreadSanitizer's map reaches, its programs don't even start.
    tsan) setarch --addr-no-randomize true 2> /dev/null && runner=(setarch --addr-no-randomize) ;;
esac
[ -d "$build" ] && set -- --reconfigure "$@"
meson setup "$build" -Dnative=disabled -Dtests=true -Dwerror=true "$@" > "$build.setup" 2>&1 || { cat "$build.setup"; exit 1; }
"${runner[@]}" meson test -C "$build" --print-errorlogs
