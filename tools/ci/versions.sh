#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `make test` on every CPython from 3.11 on that this machine has, on PATH or in pyenv, but the one that `make test` takes by
# itself; an environment for each in build/. A free-threaded build (3.13t) is a version of its own.
set -euo pipefail
declare -A python_of
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2] + sys.abiflags)' 2> /dev/null; }
for python in $(compgen -c python3. | grep -xE 'python3\.[0-9]+t?') "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python; do
    # A shim of pyenv may stand on PATH for a version that is not active: it does not run.
    version=$(version_of "$python") || continue
    minor=${version#3.}
    [ "${minor%%[!0-9]*}" -ge 11 ] && python_of[$version]=$python
done
unset "python_of[$(version_of python3)]"
[ ${#python_of[@]} -gt 0 ] || { echo "skipped: no other CPython from 3.11 on"; exit 77; }

mkdir -p build
mapfile -t versions < <(printf '%s\n' "${!python_of[@]}" | sort -V)
failed=()
for version in "${versions[@]}"; do
    echo "== CPython $version"
    make --no-print-directory test PYTHON="${python_of[$version]}" VENV="build/python-$version" || failed+=("$version")
done
echo "on CPython: ${versions[*]}; failed: ${failed[*]:-none}"
[ ${#failed[@]} = 0 ]
