# SPDX-License-Identifier: MIT
# `make demo` and `make test` are all a newcomer needs; each makes its own .venv. What CI runs is in .ci/run.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL_STEPS ?= 1000
# Compilers put what they build here; nothing else does.
BUILD := build

SOURCES := $(shell find core bindings src -type f -not -path '*/__pycache__/*') meson.build meson.options pyproject.toml tools/version.py

.PHONY: demo test slow check bench clean test-c sanitize fuzz versions sid

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

test: $(VENV)/.installed
	$(BIN)/python -m pytest --hypothesis-seed=0
	$(BIN)/python -m pytest --hypothesis-seed=0 --doctest-modules --doctest-glob='*.md' --pyargs slabmalloc README.md docs

slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.installed $(VENV)/.bench
	$(BIN)/python benchmarks/run.py

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "slabmalloc needs Python 3.11 or later; this is %s: make PYTHON=python3.x" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	touch $@

# Not editable: what the tests see is what a user gets.
$(VENV)/.installed: $(VENV)/.made $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[test]'
	touch $@

$(VENV)/.check: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: $$($(BIN)/python tools/extra.py check)
	touch $@

$(VENV)/.bench: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$($(BIN)/python tools/extra.py bench)
	touch $@

C_FILES := $(shell find core bindings tests/c tests/misuse fuzz examples/c benchmarks -name '*.[ch]' 2>/dev/null)

check: $(VENV)/.check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy src/slabmalloc
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)
	$(BIN)/python tools/check_includes.py

include tools/native.mk

clean:
	rm -rf $(BUILD) $(VENV)
