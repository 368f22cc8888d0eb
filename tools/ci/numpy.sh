#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# numpy.sh PYTHON [release…]: the tests of NumPy's data in the wrapper form with several releases of NumPy, one after the other
# in front of what PYTHON has. Releases that have no wheel for this Python are passed over.
set -euo pipefail
python=$1
shift
[ $# -gt 0 ] || set -- 1.23 1.26 2.0 2.2 2.3 2.4 2.5
mkdir -p build
tried=() failed=()
for release in "$@"; do
    folder=build/numpy-$release-$("$python" -c 'import sys; print(sys.implementation.cache_tag)')
    [ -d "$folder" ] || "$python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps \
        --target "$folder" "numpy==$release.*" > "$folder.log" 2>&1 || { echo "== no NumPy $release here"; continue; }
    echo "== NumPy $(PYTHONPATH=$folder "$python" -c 'import numpy; print(numpy.__version__)')"
    tried+=("$release")
    PYTHONPATH=$folder "$python" -m pytest -q tests/unit/test_process_numpy.py || failed+=("$release")
done
echo "with NumPy: ${tried[*]}; failed: ${failed[*]:-none}"
[ ${#tried[@]} -gt 0 ] && [ ${#failed[@]} = 0 ]
