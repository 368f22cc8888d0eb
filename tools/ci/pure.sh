#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# pure.sh PYTHON: the package on a machine without a compiler: a wheel for any platform, and the tests on it.
set -euo pipefail
out=build/pure
rm -rf "$out"
"$1" -m venv "$out/venv"
CC=there-is-no-compiler "$out/venv/bin/pip" wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$out" .
wheel=$(ls "$out"/slabmalloc-*-py3-none-any.whl)
"$out/venv/bin/pip" install --quiet --disable-pip-version-check "$wheel[test]"
"$out/venv/bin/python" -W ignore -c 'import slabmalloc; assert slabmalloc.FORM == "pure", slabmalloc.FORM'
# Asked for, so that its warning (an error in our tests) is left out.
SLABMALLOC_PURE=1 "$out/venv/bin/python" -m pytest --hypothesis-seed=0 -rfE
