# make demo       train, certify, export and run a force field; writes one HTML report
# make test       the fast checks      make test-all   all checks      make lint   style and types
# make PYTHON=... VENV=... TARGET uses another interpreter or another folder for the environment.

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.DEFAULT_GOAL := test
.PHONY: demo test test-all lint format install clean

demo: install
	$(BIN)/python experiments/demo.py

test: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-all: install
	XLA_FLAGS= $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m ""

lint: $(VENV)/.linters
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.linters
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf dist runs .cache .pytest_cache .ruff_cache .hypothesis
	find geojax tests experiments data models -name __pycache__ -type d -prune -exec rm -rf {} +

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "geojax needs Python 3.11 or newer with venv; found none;" \
		"install one or name it: make PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	@touch $@

$(VENV)/.linters: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@
