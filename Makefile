# demo and test need Python 3.11+, git and a C++ compiler; everything is installed into .venv, which is made
# when it is missing or out of date.
# Without a compiler, and slowly: make demo BUILD_OPTION=--config-settings=wheel.cmake=false
PYTHON ?= python3
BIN = .venv/bin
BUILD_OPTION = --config-settings=cmake.define.CMAKE_COMPILE_WARNING_AS_ERROR=ON
RUN = runs/demo
BENCH = runs/bench
# From the clone: the installed package stays as it was when Python sources change.
LSM2 = $(BIN)/python -m lsm2

# For tests and benchmarks; lsm2 sets it itself. OpenMP threads that wait spinning make every small operation several
# times slower as soon as a core is shared.
export OMP_WAIT_POLICY = PASSIVE

.PHONY: help demo test test-quick sanitize bench lint clean

help:
	@echo "make demo       simulate a cohort, train a model of 1M parameters, evaluate and probe it, write a report"
	@echo "make test       all tests that this machine can run"
	@echo "make test-quick most of them, without compilers and further processes, in under 90 s"
	@echo "make bench      compare kernels and training steps with others; writes $(BENCH)/report.html"
	@echo "make sanitize   the kernel tests on C++ built with sanitizers"
	@echo "make lint       style and types"
	@echo "make clean      remove what was installed, built and trained here"

demo: .venv/installed
	$(LSM2) simulate $(RUN)/cohort --people 120 --days-per-person 7 --seed 0 --replace
	$(LSM2) pretrain tiny --data $(RUN)/cohort --out $(RUN)/run --resume --steps 1000 --learning-rate 2e-3 --max-visible 256 --max-queries 128
	$(LSM2) evaluate $(RUN)/run --data $(RUN)/cohort
	$(LSM2) probe $(RUN)/run --data $(RUN)/cohort --labels $(RUN)/cohort/labels.csv --target age --covariates sex
	$(LSM2) probe $(RUN)/run --data $(RUN)/cohort --labels $(RUN)/cohort/labels.csv --target hypertension --covariates age sex
	$(LSM2) report $(RUN)/run

# Two processes, as measured: 60 s instead of 98 s for test-quick on 2 cores. The benchmarks' tests run alone, because
# pytest-benchmark switches itself off beside pytest-xdist.
PYTEST_TWICE = $(BIN)/python -m pytest -n 2 --dist loadfile

test: .venv/installed .triton-3.6/installed
	$(PYTEST_TWICE) tests/kernels tests/lsm2 tests/test_layers.py tests/test_makefile.py tests/test_readme.py
	$(BIN)/python -m pytest tests/benchmarks

test-quick: .venv/installed
	$(PYTEST_TWICE) -m "not slow and not subprocess" tests/lsm2 tests/kernels tests/test_layers.py

# The kernel tests once more, on C++ kernels built to end at any access out of bounds, overflow or data race.
sanitize: .venv/installed
	tests/sanitize.sh address
	tests/sanitize.sh thread

bench: .venv/installed
	mkdir -p $(BENCH)
	$(BIN)/python -m pytest benchmarks --benchmark-json=$(BENCH)/suites.json
	$(BIN)/python -m benchmarks.measure.report $(BENCH) --out $(BENCH)/report.html

lint: .venv/installed
	$(BIN)/clang-format --dry-run --Werror csrc/*.cpp csrc/*.h tests/kernels/*.cpp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

clean:
	rm -rf .venv .triton-3.6 build runs/demo

.venv/installed: pyproject.toml constraints.txt $(wildcard csrc/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lsm2-kernels needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt $(BUILD_OPTION) ".[all]"
	touch $@

# The oldest Triton that is supported, for the ahead-of-time compilation tests: beside the installed one, never imported with it.
.triton-3.6/installed: | .venv/installed
	$(BIN)/python -m pip install --quiet --no-deps --target .triton-3.6 triton==3.6.0
	touch $@
