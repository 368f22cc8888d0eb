# SPDX-License-Identifier: MIT
# The core by itself: tests in several builds, fuzzing, the protocol's model; and the tests on other Pythons. Logs and
# binaries go to build/.

CI := tools/ci

$(VENV)/.native: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$($(BIN)/python tools/extra.py native)
	touch $@

# Each with both compilers: as users get it, and with assertions.
test-c: $(VENV)/.native
	$(CI)/c_tests.sh gcc-fast gcc
	$(CI)/c_tests.sh gcc-checked gcc -Dchecked=true
	$(CI)/c_tests.sh clang-fast clang
	$(CI)/c_tests.sh clang-checked clang -Dchecked=true

sanitize: $(VENV)/.native
	$(CI)/c_tests.sh asan clang -Dchecked=true -Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false
	$(CI)/c_tests.sh tsan clang -Dchecked=true -Doptimization=1 -Db_sanitize=thread -Db_lundef=false

aarch64:
	$(CI)/aarch64.sh

fuzz:
	$(CI)/fuzz.sh $(or $(SECONDS_TO_FUZZ),60)

protocol:
	$(PYTHON) tests/model/spin/run.py

versions:
	$(CI)/versions.sh

sid:
	$(CI)/sid.sh

pure:
	$(CI)/pure.sh $(PYTHON)

.PHONY: aarch64 protocol pure
