# Each target works alone on a fresh machine that has Python 3.11 and reaches a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
PARTS := pyproject.toml constraints.txt
# Two OpenMP threads beside a busy neighbour are slower than one.
SINGLE := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test check bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## run the shipped pairs on public images, results in demo/
	$(BIN)/sfumato demo --out demo

test: $(VENV)/.test ## run all tests, with coverage
	$(SINGLE) $(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term:skip-covered

check: $(VENV)/.test ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.test ## list the benchmarks; NAME=... runs one
	$(SINGLE) $(BIN)/python -m benchmarks $(NAME)

clean: ## remove the environment, results of the demo and caches
	rm -rf $(VENV) demo dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find src tests benchmarks recipes -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, $(PYTHON) is %d.%d; name another: make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(PARTS) | $(BIN)/python
	$(INSTALL) -e '.[demo]'
	@touch $@

$(VENV)/.test: $(PARTS) | $(BIN)/python
	$(INSTALL) -e '.[dev,train,nnunet,demo,fast,difficulty,sam,text,distributed]'
	@touch $@ $(VENV)/.demo
