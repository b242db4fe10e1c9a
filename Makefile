PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

CSRC := $(shell find csrc -name "*.h" -o -name "*.cpp")

# Warnings of the C++ compiler are errors here; on a user's machine they are not.
export STM_FAST_STRICT = 1

.DEFAULT_GOAL := help
.PHONY: help install demo test check weights clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv with the pinned requirements and this package, editable

$(INSTALLED): requirements.txt pyproject.toml setup.py stm_fast/ops/compiled/recipe.py $(CSRC)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned requirements into $(VENV): this takes a few minutes the first time."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install ## segment a clip rendered here, score it and write its pictures to stm-fast-demo/
	$(BIN)/stm-fast demo

test: install ## run the tests
	$(BIN)/pytest

check: install ## lint, formatting and types, of Python and C++
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CSRC)

weights: install ## train the compact model from nothing, in runs/compact; takes hours and goes on where it stopped
	$(BIN)/stm-fast train synthetic runs/compact

clean: ## remove what was built and written, but not the packages in .venv
	rm -rf $(INSTALLED) stm_fast/*.so build dist stm-fast-demo *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .benchmarks .coverage
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +
