#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# stress.sh SECONDS [FORM...]: tests/stress/stress.c for its share of the time in each form, or those named: asan (with UBSan),
# tsan, valgrind, preload (the program on libslabmalloc.so). The seed of the first round is $STRESS_SEED, or 1; each round
# prints its own, and one that fails the command that repeats it.
set -euo pipefail
seconds=$1 status=0
shift
[ $# -gt 0 ] || set -- asan tsan valgrind preload
export PATH=$PWD/.venv/bin:$PATH
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1
checked=(-Dnative=disabled -Dtests=true -Dwerror=true -Dchecked=true -Doptimization=1 -Ddebug=true -Db_lundef=false)
mkdir -p build
for form in "$@"; do
    # By gcc: clang 14 writes what valgrind 3.19 can't read.
    build=build/stress CC=gcc options=() runner=() program=stress targets=tests/stress/stress
    case $form in
        asan) build=build/stress-asan CC=clang options=(-Db_sanitize=address,undefined) ;;
        tsan)
            build=build/stress-tsan CC=clang options=(-Db_sanitize=thread)
            setarch --addr-no-randomize true 2> /dev/null && runner=(setarch --addr-no-randomize) # as in c_tests.sh
            ;;
        valgrind)
            command -v valgrind > /dev/null || { echo "skipped: no valgrind"; continue; }
            runner=(valgrind --quiet --trace-children=yes --error-exitcode=99)
            ;;
        preload)
            program=stress_any targets="tests/stress/stress_any bindings/libslabmalloc.so"
            runner=(env "LD_PRELOAD=$PWD/$build/bindings/libslabmalloc.so")
            ;;
    esac
    [ -d "$build" ] || CC=$CC meson setup "$build" "${checked[@]}" "${options[@]}" > "$build.setup" 2>&1 ||
        { cat "$build.setup"; exit 1; }
    ninja --quiet -C "$build" $targets
    echo "$form:"
    "${runner[@]}" "$build/tests/stress/$program" $((seconds / $#)) "${STRESS_SEED:-1}" || status=1
done
exit $status
