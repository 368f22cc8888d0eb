#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The C tests as aarch64 programs, by emulation: what is portable is shown by a second processor.
set -euo pipefail
out=build/aarch64
mkdir -p "$out"
export SLABMALLOC_MODEL_STEPS=${SLABMALLOC_MODEL_STEPS:-2000}
failed=0
for source in tests/c/test_*.c; do
    name=$(basename "$source" .c)
    aarch64-linux-gnu-gcc -static -std=c11 -O2 -Wall -Wextra -Wundef -Wconversion -Werror -DSLABMALLOC_CHECKED=1 \
        -Icore/include -Icore "$source" core/*/*.c -lpthread -o "$out/$name"
    if timeout 300 qemu-aarch64 "$out/$name" > "$out/$name.log" 2>&1; then
        echo "ok      $name"
    else
        echo "failed  $name"
        tail -n 20 "$out/$name.log"
        failed=1
    fi
done
exit $failed
