# SPDX-License-Identifier: MIT
# `make demo` and `make test` are all a newcomer needs; each makes its own .venv. What CI runs is in .ci/run.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary
PYTEST := $(BIN)/python -m pytest --hypothesis-seed=0
# Here nothing may pass in plain Python because a compiler or a header is missing; `pip install .` is content with that.
NATIVE ?= enabled

SOURCES := $(shell find core bindings src -type f -not -path '*/.*' -not -path '*/__pycache__/*') \
    meson.build meson.options pyproject.toml tools/list_files.py
C_FILES := $(shell find core bindings tests/c tests/misuse tests/preload tests/stress tests/suites fuzz examples/c benchmarks src -name '*.[ch]' -o -name '*.cc')

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

test: $(VENV)/.installed
	$(PYTEST)
	$(PYTEST) --doctest-modules --doctest-glob='*.md' --pyargs slabmalloc README.md docs

# CPython's own tests on slabmalloc, and whatever else takes minutes.
slow: $(VENV)/.installed
	$(PYTEST) -m slow

bench: $(VENV)/.installed $(VENV)/.bench
	$(BIN)/python benchmarks/run.py

check: $(VENV)/.check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy src/slabmalloc
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)
	@awk 'length > 120 { print FILENAME ":" FNR ": more than 120 columns"; found = 1 } END { exit found }' $(C_FILES)
	$(BIN)/python tools/check_includes.py

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "slabmalloc needs Python 3.11 or later, and this is %s: make PYTHON=python3.x" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	touch $@

# Not editable: what the tests see is what a user gets.
$(VENV)/.installed: $(VENV)/.made $(SOURCES)
	$(PIP) --config-settings=setup-args=-Dnative=$(NATIVE) '.[test]'
	touch $@

# What checks and measures us comes as wheels: nothing is compiled for it.
$(VENV)/.check $(VENV)/.bench $(VENV)/.services: $(VENV)/.%: $(VENV)/.made pyproject.toml tools/extra.py
	$(PIP) --only-binary :all: $$($(BIN)/python tools/extra.py $*)
	touch $@

include tools/native.mk

clean:
	rm -rf build $(VENV)

.PHONY: demo test slow bench check clean
