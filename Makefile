# Every target does its own set-up: a virtual environment in .venv, made once and brought up to
# date when pyproject.toml or a source changes. `make help` lists the targets.

.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:

# The first Python 3.10 or newer; `make PYTHON=...` chooses another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
	&& echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TESTS ?= tests
PYTEST_ARGS ?=
BENCH_ARGS ?=

SOURCES := setup.py $(wildcard binconv/*.pyx binconv/*.pxd csrc/*.c csrc/*.h csrc/*.def csrc/include/*.h)
C_TESTS := $(wildcard csrc/tests/*.c)

##@ The two commands
demo: $(VENV)/.built ## Set up, then classify real handwritten digits with a binary network
	$(BIN)/python -m binconv demo

test: $(VENV)/.built $(VENV)/.extra-test $(if $(TORCH),$(VENV)/.extra-train) ## Set up, then run the tests (TORCH=1 brings what some skip without)
	$(BIN)/pytest $(TESTS) $(PYTEST_ARGS)

##@ Development
build: $(VENV)/.built ## Set up the virtual environment and build the extension modules in place

ctest: build/ctest/run ## Build and run the C tests
	build/ctest/run

asan: ctest-asan pytest-asan ## Run the C and the Python tests under AddressSanitizer and UndefinedBehaviorSanitizer

tsan: build/ctest/run-tsan ## Run many callers of the library's own threads under ThreadSanitizer
	build/ctest/run-tsan

test-arm: $(VENV)/.built $(VENV)/.extra-test ## Run the C and the Python tests on an emulated aarch64 (on Debian, as root the first time)
	BUILD_PYTHON=$(BIN)/python tools/arm/test.sh

test-emulated: $(BIN)/python ## Run the C tests on emulated processors: x86-64 without AVX, Haswell, 32-bit Arm, Cortex-A72
	BUILD_PYTHON=$(BIN)/python tools/arm/emulated.sh

cross: $(BIN)/python ## Compile csrc for macOS, Windows and musl, warnings as errors
	BUILD_PYTHON=$(BIN)/python tools/cross.sh

test-metal: $(VENV)/.built $(VENV)/.extra-test $(VENV)/.extra-metal ## Run the tests of the GPU path (on Debian as root, installs a software driver)
	tools/vulkan.sh
	$(BIN)/pytest tests/test_metal_*.py $(PYTEST_ARGS)

lint: $(VENV)/.built $(VENV)/.extra-dev $(VENV)/.extra-test ## Check style and types: ruff, mypy --strict, clang-format
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)

format: $(VENV)/.extra-dev ## Rewrite the sources in the project's form
	$(BIN)/ruff check --fix --select I
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(C_FILES)

bench: $(VENV)/.built $(VENV)/.extra-bench ## Measure layers side by side with other libraries and print a table
	$(BIN)/python bench/compare.py $(BENCH_ARGS)

instructions: $(BIN)/python ## Hold kernels to the numbers of instructions in bench/instructions.json
	$(BIN)/python bench/instructions.py

instructions-update: $(BIN)/python ## State these numbers anew
	$(BIN)/python bench/instructions.py --update

clean: ## Remove everything that was built, but not the virtual environment
	rm -rf build dist *.egg-info binconv/*.so binconv/*.pyd $(VENV)/.built
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## Remove the virtual environment as well
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

help: ## Show this help
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo test build test-metal ctest test-arm test-emulated cross asan tsan ctest-asan pytest-asan lint format bench instructions instructions-update clean distclean help

# --- the virtual environment ----------------------------------------------------------------------

# The requirements stand in pyproject.toml only; these two read them from there.
BUILD_REQUIRES = $(shell sed -n 's/^requires = \[\(.*\)\]$$/\1/p' pyproject.toml | sed 's/", "/" "/g')
EXTRA = $(BIN)/python -W ignore -c 'import sys; \
	from setuptools.config.pyprojecttoml import read_configuration; \
	project = read_configuration("pyproject.toml")["project"]; \
	extra = sys.argv[1]; \
	print(*project["optional-dependencies"][extra] if extra else project["dependencies"], sep="\n")'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "binconv needs Python 3.10 or newer with the venv module" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.requirements: pyproject.toml | $(BIN)/python
	@echo "Installing what binconv needs into $(VENV)"
	@$(PIP) install -q $(BUILD_REQUIRES)
	@$(EXTRA) "" > $@.txt
	@$(PIP) install -q -r $@.txt
	@touch $@

# What one extra of pyproject.toml asks for.
$(VENV)/.extra-%: pyproject.toml | $(VENV)/.requirements
	@echo "Installing the extra $* into $(VENV)"
	@$(EXTRA) $* > $@.txt
	@$(PIP) install -q -r $@.txt
	@touch $@

$(VENV)/.built: $(SOURCES) pyproject.toml $(VENV)/.requirements
	@echo "Building binconv"
	@$(PIP) install -q --no-build-isolation --no-deps -e .
	@touch $@

# --- C tests and sanitizers -----------------------------------------------------------------------

C_FILES = $(wildcard csrc/*.[ch] csrc/include/*.h csrc/tests/*.[ch] csrc/tests/stress/*.c examples/c/*.[ch] tests/clib/*.c bench/*.c)
C_SOURCES = $(wildcard csrc/*.c) $(C_TESTS)
WARNINGS := -Wall -Wextra -Wpedantic -Werror
C_FLAGS := -std=c11 -ffp-contract=off -Icsrc/include -Icsrc $(WARNINGS)
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
THREADS ?= -pthread

build/ctest/run: $(C_SOURCES) $(C_FILES) $(wildcard csrc/*.def)
	mkdir -p $(@D)
	$(CC) -O2 -g $(C_FLAGS) $(THREADS) $(C_SOURCES) -lm -o $@

build/ctest/run-asan: $(C_SOURCES) $(C_FILES) $(wildcard csrc/*.def)
	mkdir -p $(@D)
	$(CC) -O1 -g $(C_FLAGS) $(SANITIZE) $(THREADS) $(C_SOURCES) -lm -o $@

build/ctest/run-tsan: csrc/tests/stress/threads.c $(C_FILES) $(wildcard csrc/*.c csrc/*.def)
	mkdir -p $(@D)
	$(CC) -O1 -g $(C_FLAGS) -fsanitize=thread $(THREADS) $< $(wildcard csrc/*.c) -lm -o $@

ctest-asan: build/ctest/run-asan
	ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 build/ctest/run-asan

# CPython and NumPy keep memory to the end of the process, so leaks are looked for in C only. The
# tests run from build/asan, where the package that Python finds is the instrumented one, and with
# --capture=sys, so that a report on stderr is seen. PyTorch's exceptions need libstdc++ to be there
# before the sanitizer. Tests that build things or run PyTorch are left
# out, as they would sanitize the compiler and PyTorch.
NOT_SANITIZED := test_clib.py test_cython_api.py test_packaging.py test_readme.py test_torch.py

pytest-asan: $(SOURCES) $(VENV)/.built $(VENV)/.extra-test
	BINCONV_SANITIZE=address,undefined $(BIN)/python setup.py -q build --build-base build/asan
	cd build/asan && \
	PYTHONPATH=$$(echo "$(CURDIR)"/build/asan/lib.*) PYTHONMALLOC=malloc \
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so.6)" \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
	$(abspath $(BIN))/pytest -c $(CURDIR)/pyproject.toml --rootdir $(CURDIR) -p no:cacheprovider --capture=sys \
		$(addprefix $(CURDIR)/,$(TESTS)) $(NOT_SANITIZED:%=--ignore=$(CURDIR)/tests/%) $(PYTEST_ARGS)
