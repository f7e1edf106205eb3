# make help says what there is.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STORAGE ?= $(HOME)/cpsc-runs
KILLS ?= 50
COUNT ?= 10000
SEED ?= 0
# Half of the time the tests wait for processes that start.
WORKERS ?= 2
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install demo ui test lint types contracts unit test-slow chaos fuzz audit gpu-check format lock clean

help:           ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

install: $(VENV)/.installed         ## create .venv and install the project in it
demo: install   ## run the digits sweep, start to end, on this machine
	$(BIN)/cpsc-orchestrate sweep experiments/digits.yaml --storage $(STORAGE)

ui: install     ## open MLflow on what the demo produced
	$(BIN)/cpsc-orchestrate ui --storage $(STORAGE)

test: lint types contracts unit     ## everything that must hold: lint, types, import contract, tests

lint: $(VENV)/.installed-test       ## formatting and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-test      ## static types
	$(BIN)/mypy

contracts: $(VENV)/.installed-test  ## which package may import which
	$(BIN)/lint-imports --no-cache

unit: $(VENV)/.installed-test       ## the fast tests
	$(BIN)/pytest -m "not slow and not gpu" --numprocesses $(WORKERS) --dist loadfile

test-slow: $(VENV)/.installed-test  ## the tests that take minutes
	$(BIN)/pytest -m slow

chaos: $(VENV)/.installed-test      ## real sweeps under a random killer: make chaos KILLS=50 SEED=0
	$(BIN)/python -m tests.chaos --kills $(KILLS) --seed $(SEED)

fuzz: $(VENV)/.installed-test       ## damaged experiment files at the door: make fuzz COUNT=10000 SEED=0
	$(BIN)/python -m tests.fuzz --count $(COUNT) --seed $(SEED)

audit:          ## known vulnerabilities of the versions in constraints.txt; asks the network
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --disable-pip-version-check --quiet 'pip-audit>=2.10,<3'
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

gpu-check: $(VENV)/.installed-test  ## the tests that need a GPU and the step benchmark on it, in one table
	$(BIN)/python experiments/benchmarks/gpu_check.py

format: $(VENV)/.installed-test     ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/.installed-test       ## write constraints.txt from what is installed
	$(BIN)/python -m pip freeze --exclude-editable --exclude setuptools --exclude pip > constraints.txt

clean:          ## remove .venv and caches, keep every sweep
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* build *.egg-info

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	touch $@
