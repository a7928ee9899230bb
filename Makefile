# Everything a newcomer needs: `make demo` and `make test`. Both start from a machine with Python ≥ 3.11, pip and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= $(shell $(PYTHON) -c "import os; print(max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)))")
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
export PIP_NO_INPUT := 1

.PHONY: help demo test test-full lint types format bench bench-gpu bench-serve docs wheel clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: $(VENV)/.run ## Train on an embedded catalogue, print a leaderboard, write a report (a few minutes)
	$(BIN)/prismrec demo --out demo-report

test: $(VENV)/.test ## Lint, types, tests (what CI runs)
	$(MAKE) --no-print-directory lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m "not slow and not cuda"

test-full: $(VENV)/.test ## Everything: training claims and the full matrix (tens of minutes)
	$(MAKE) --no-print-directory lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

lint: $(VENV)/.test ## Style and common faults
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test ## Types, strictly
	$(BIN)/mypy

format: $(VENV)/.test ## Put the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.run ## Speed and memory beside the floor of this machine (minutes; leave the machine alone meanwhile)
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.plugin_cost
	$(BIN)/python -m benchmarks.evaluation

bench-serve: $(VENV)/.test ## Requests a second, times at half load, start-up and memory of the service, on loopback (two minutes)
	$(BIN)/python -m benchmarks.serving

bench-gpu: $(VENV)/.run ## Every model on a GPU beside its floor, and FREEDOM's time to its best score (minutes; one CUDA device)
	$(BIN)/python -m benchmarks.gpu --write

docs: $(VENV)/.docs ## Build the documentation into site/
	$(BIN)/mkdocs build --strict

wheel: $(VENV)/.test ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

clean: ## Remove the environment and everything built
	rm -rf $(VENV) dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'PrismRec needs Python 3.11 or newer; this is ' + sys.version.split()[0] + '. Try: make PYTHON=python3.12 demo')"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing PrismRec into $(VENV) (once; the largest part is PyTorch)"
	$(PIP) install --no-compile -c constraints.txt -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing PrismRec and what its tests need into $(VENV) (once)"
	$(PIP) install --no-compile -c constraints.txt -e ".[test]"
	@touch $@ $(VENV)/.run

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --no-compile -c constraints.txt -e ".[docs]"
	@touch $@
