#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# pure.sh PYTHON: the package installed without a compiler: the library serves from its specification.
set -euo pipefail
venv=build/pure
"$1" -m venv --clear "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -Csetup-args=-Dnative=disabled '.[test]'
"$venv/bin/python" -W ignore -c 'import slabmalloc; assert slabmalloc.FORM == "pure", slabmalloc.FORM'
SLABMALLOC_PURE=1 "$venv/bin/python" -m pytest tests/unit tests/model
