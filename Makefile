PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

SOURCES := $(shell find csrc -name "*.h" -o -name "*.cpp" -o -name "*.cu")

# Warnings of the C++ compiler are errors here; on a user's machine they are not.
export STM_FAST_STRICT = 1

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-page test-kernels test-arm64 test-wheel test-datumaro test-notebooks docs budgets sanitize check bench bench-gpu bench-suite weights clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv with the pinned requirements and this package, editable

$(INSTALLED): requirements.txt pyproject.toml setup.py stm_fast/ops/compiled/recipe.py $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned requirements into $(VENV): this takes a few minutes the first time."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install ## segment a clip rendered here, score it and write its pictures to stm-fast-demo/
	$(BIN)/stm-fast demo

# A file of tests stays in one process: its fixtures are made once.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile

test: install ## run the tests; GPU kernels are interpreted (Triton) and emulated (CUDA)
	$(BIN)/pytest $(PARALLEL)
	TRITON_INTERPRET=1 STM_FAST_EMULATE_CUDA=1 $(BIN)/pytest $(PARALLEL) tests/kernels

test-slow: install ## run the tests that `make test` leaves out
	$(BIN)/pytest -m slow

test-page: install ## try the page of `stm-fast annotate` in chromium, which apt-get installs where it is missing
	@command -v chromium >/dev/null || test -n "$$STM_FAST_CHROMIUM" || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
	|| { echo "make test-page needs chromium, and cannot install it: install it, or name it in STM_FAST_CHROMIUM" >&2; exit 1; }
	$(BIN)/pytest -m page tests/app/page

test-kernels: install ## test the compiled kernels by themselves, without torch; those for CUDA are emulated
	$(BIN)/python tests/csrc/build.py build/kernels
	build/kernels/kernels
	$(BIN)/python tests/csrc/build.py build/kernels --test cuda
	build/kernels/cuda

test-arm64: install ## the same, compiled for 64-bit ARM and run by qemu-user (packages g++-aarch64-linux-gnu, qemu-user)
	$(BIN)/python tests/csrc/build.py build/arm64 --machine aarch64 --compiler aarch64-linux-gnu-g++ -static
	qemu-aarch64 build/arm64/kernels

test-wheel: install ## build a wheel as pip does, install it in an environment of its own, and use it; takes some minutes
	$(BIN)/pytest --override-ini faulthandler_timeout=0 tests/packaging/wheel.py

# Datumaro needs an older Pillow and another build of OpenCV than the requirements.
DATUMARO := build/datumaro

$(DATUMARO)/.installed: | $(INSTALLED)
	$(BIN)/python -m venv --clear $(DATUMARO)
	$(DATUMARO)/bin/python -m pip install --quiet --disable-pip-version-check datumaro==1.13.12
	@touch $@

test-datumaro: install $(DATUMARO)/.installed ## read exports with datumaro, which has an environment of its own
	STM_FAST_DATUMARO=$(abspath $(DATUMARO)/bin/python) $(BIN)/pytest tests/export/test_datumaro.py

test-notebooks: $(VENV)/.notebooks ## run the notebooks of examples/ from beginning to end
	$(BIN)/pytest --override-ini faulthandler_timeout=0 tests/examples/notebooks.py

$(VENV)/.notebooks: $(INSTALLED) requirements-notebooks.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-notebooks.txt
	@touch $@

# MkDocs reads the code without importing it, so its environment needs nothing of the package.
SITE := build/docs

$(SITE)/.installed: requirements-docs.txt
	$(PYTHON) -m venv --clear $(SITE)
	$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements-docs.txt
	@touch $@

docs: $(SITE)/.installed ## build the documentation site into build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/python -m mkdocs build --quiet
	@echo "open build/site/index.html"

# The oldest triton that is supported, beside the pinned one.
OLDEST_TRITON := build/triton-3.6

$(OLDEST_TRITON): | $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@.partial triton==3.6.0
	mv $@.partial $@

SANITIZED := -O1 -g -fno-omit-frame-pointer

budgets: install $(OLDEST_TRITON) ## compile the GPU kernels for every chip and compare what they need with the committed budgets
	$(BIN)/python -m tools.triton_budgets
	PYTHONPATH=$(OLDEST_TRITON) $(BIN)/python -m tools.triton_budgets
	$(BIN)/python -m tools.cuda_budgets

sanitize: install ## the same under AddressSanitizer with UndefinedBehaviorSanitizer, and under ThreadSanitizer
	$(BIN)/python tests/csrc/build.py build/address $(SANITIZED) -fsanitize=address,undefined -fno-sanitize-recover=all
	build/address/kernels
	$(BIN)/python tests/csrc/build.py build/address --test cuda $(SANITIZED) -fsanitize=address,undefined -fno-sanitize-recover=all
	build/address/cuda few
	$(BIN)/python tests/csrc/build.py build/thread $(SANITIZED) -fsanitize=thread
	build/thread/kernels
	$(BIN)/python tests/csrc/build.py build/thread --test cuda $(SANITIZED) -fsanitize=thread
	$(BIN)/python tests/csrc/barriers.py build/thread/cuda

bench: $(VENV)/.bench ## measure the read beside its rivals, for docs/performance.md, into build/bench; on an idle machine
	$(BIN)/python -m benchmarks.read.cpu build/bench

bench-gpu: install ## check and measure the read on this machine's GPU, into build/bench; takes up to ten minutes
	$(BIN)/python -m benchmarks.read.gpu.first_light build/bench

bench-suite: $(VENV)/.bench ## the same shapes as a pytest-benchmark suite, to compare one state of the code with another
	$(BIN)/pytest benchmarks --benchmark-autosave --benchmark-columns=median,iqr,rounds --benchmark-sort=name

$(VENV)/.bench: $(INSTALLED) requirements-bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-bench.txt
	@touch $@

check: install ## lint, formatting and types, of Python, C++ and JavaScript
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/oxlint stm_fast/app/static
	$(BIN)/clang-format --dry-run --Werror $(SOURCES) benchmarks/read/*.cpp tests/csrc/*.cpp tests/csrc/*.h

weights: install ## train the compact model from nothing, in runs/; takes hours and resumes where it stopped
	$(BIN)/stm-fast train compact runs/compact
	$(BIN)/stm-fast train compact-crowds runs/compact-crowds start=runs/compact/last.safetensors synthetic.pictures=runs/compact/sources
	$(BIN)/stm-fast train compact-ghosts runs/compact-ghosts start=runs/compact-crowds/last.safetensors synthetic.pictures=runs/compact/sources
	$(BIN)/python -m tools.mix_weights runs/compact-crowds/last.safetensors runs/compact-ghosts/last.safetensors runs/compact.safetensors

clean: ## remove what was built and written, but not the packages in .venv
	rm -rf $(INSTALLED) stm_fast/*.so build dist stm-fast-demo *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .benchmarks .coverage
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +
