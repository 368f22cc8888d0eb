#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# c_tests.sh NAME COMPILER [meson option…]: the C tests, examples and misuse programs in one build, warnings being errors.
set -euo pipefail
name=$1 compiler=$2
shift 2
bin=$PWD/.venv/bin build=build/c-$name
mkdir -p build
export PATH=$bin:$PATH CC=$compiler
# Short runs under a sanitizer find what long ones find.
case $name in asan | tsan) export SLABMALLOC_MODEL_STEPS=${SLABMALLOC_MODEL_STEPS:-2000} ;; esac
export TSAN_OPTIONS=halt_on_error=1 ASAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
[ -d "$build" ] || meson setup "$build" -Dnative=enabled -Dtests=true -Dwerror=true "$@" > "$build.log" 2>&1 || {
    cat "$build.log" >&2
    exit 1
}
meson test -C "$build" --print-errorlogs
