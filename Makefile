# Each target does its own set-up: a virtual environment with the versions of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: compare test check format readme clean

compare: $(VENV)/compare.done  ## the main job on embedded real data; the last line is the path of the report
	@$(BIN)/equipoise compare $(ARGS)

test: $(VENV)/dev.done  ## all tests
	$(BIN)/python -m pytest -n auto $(ARGS)

check: $(VENV)/dev.done  ## format, lint, docstrings and their examples, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q src

format: $(VENV)/dev.done  ## rewrite what `check` can rewrite
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

readme: $(VENV)/dev.done  ## rewrite the README's tables from the cards
	$(BIN)/python tools/readme.py

clean:
	rm -rf $(VENV) report .coverage .hypothesis .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first: nothing else may choose another build of it
$(VENV)/torch.done: $(VENV)/bin/python constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	@touch $@

$(VENV)/compare.done: $(VENV)/torch.done pyproject.toml
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[compare]'
	@touch $@

$(VENV)/dev.done: $(VENV)/compare.done
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
