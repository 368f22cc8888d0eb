#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The tests on every CPython of the machine from 3.11 on: those on PATH and those that pyenv has.
set -euo pipefail
mkdir -p build
declare -A seen
found=0
for python in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python $(compgen -c | grep -xE 'python3\.[0-9]+' | sort -u); do
    command -v "$python" > /dev/null || continue
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2] if sys.version_info >= (3, 11) else "")' 2> /dev/null) || continue
    [ -n "$version" ] && [ -z "${seen[$version]:-}" ] || continue
    seen[$version]=1 found=$((found + 1))
    venv=build/python-$version
    echo "== CPython $version"
    "$python" -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check '.[test]'
    "$venv/bin/python" -m pytest -q --hypothesis-seed=0
done
[ "$found" -gt 0 ] || { echo "no CPython of 3.11 or later" >&2; exit 1; }
