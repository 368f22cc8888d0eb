# SPDX-License-Identifier: MIT
# The core by itself, in several builds; and the package on other Pythons. All that is built goes to build/.

CI := tools/ci

$(VENV)/.native: $(VENV)/.made pyproject.toml tools/extra.py
	$(PIP) $$($(BIN)/python tools/extra.py native)
	touch $@

# As users get it and with assertions, by both compilers.
test-c: $(VENV)/.native
	CC=gcc $(CI)/c_tests.sh gcc-fast
	CC=gcc $(CI)/c_tests.sh gcc-checked -Dchecked=true
	CC=clang $(CI)/c_tests.sh clang-fast
	CC=clang $(CI)/c_tests.sh clang-checked -Dchecked=true

SANITIZED := -Dchecked=true -Doptimization=1 -Ddebug=true -Db_lundef=false

sanitize: $(VENV)/.native
	CC=clang $(CI)/c_tests.sh asan $(SANITIZED) -Db_sanitize=address,undefined
	CC=clang $(CI)/c_tests.sh tsan $(SANITIZED) -Db_sanitize=thread

valgrind: $(VENV)/.native
	CC=gcc $(CI)/c_tests.sh valgrind -Dchecked=true -Doptimization=1 -Ddebug=true

# Longer by hand: make stress STRESS_SECONDS=3600
stress: $(VENV)/.native
	$(CI)/stress.sh $(or $(STRESS_SECONDS),100)

aarch64: $(VENV)/.native
	$(CI)/c_tests.sh aarch64 -Dchecked=true --cross-file $(CI)/aarch64.ini

fuzz:
	$(CI)/fuzz.sh $(or $(FUZZ_SECONDS),60)

protocol:
	$(PYTHON) tests/model/spin/run.py

pure:
	$(CI)/pure.sh $(PYTHON)

versions:
	$(CI)/versions.sh

numpy: $(VENV)/.installed
	$(CI)/numpy.sh $(BIN)/python

sid: $(VENV)/.made
	$(CI)/sid.sh $(BIN)/python

.PHONY: test-c sanitize valgrind stress aarch64 fuzz protocol pure versions numpy sid
