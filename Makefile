# Each target does its own set-up: a virtual environment with the versions of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CXX ?= c++
ARGS ?=
# The constraints hold for what a build fetches for itself, too: pip before 25.3 takes the first for that, later ones the second.
INSTALL := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet
LIBRARY := src/equipoise/kernels/*equipoise_kernels.*
BUILT_FROM := pyproject.toml CMakeLists.txt $(wildcard csrc/*)

.PHONY: compare test check format readme sanitize bench clean

compare: $(VENV)/compare.done  ## the main job on embedded real data; the last line is the path of the report
	@$(BIN)/equipoise compare $(ARGS)

test: $(VENV)/dev.done  ## all tests
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

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

sanitize: $(VENV)/dev.done  ## the tests of the kernels, under the address and undefined-behaviour sanitizers of GCC
	cmake -S . -B build/sanitize -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_COMPILER=$(CXX) -DEQUIPOISE_SANITIZE=ON
	cmake --build build/sanitize --parallel
	EQUIPOISE_LIBRARY=$(CURDIR)/build/sanitize/libequipoise_kernels.so ASAN_OPTIONS=detect_leaks=0 \
	  LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	  $(BIN)/python -m pytest -n auto --dist worksteal tests/kernels $(ARGS)

bench: $(VENV)/bench.done  ## speed and memory against the named peers, into benchmarks/results
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) $(LIBRARY) build report .coverage .hypothesis .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first: nothing else may choose another build of it
$(VENV)/torch.done: $(VENV)/bin/python constraints.txt
	$(INSTALL) torch
	@touch $@

# An editable installation compiles the kernels into src/equipoise/kernels, or leaves them out for want of a compiler:
# what an earlier one built would pass for the present code.
$(VENV)/compare.done: $(VENV)/torch.done $(BUILT_FROM)
	@rm -f $(LIBRARY)
	$(INSTALL) --editable '.[compare]'
	@touch $@

$(VENV)/dev.done: $(VENV)/torch.done $(BUILT_FROM)
	@rm -f $(LIBRARY)
	$(INSTALL) --editable '.[dev]'
	@touch $(VENV)/compare.done $@

# timm without what it asks for: that includes torchvision, and with it perhaps another build of torch
$(VENV)/bench.done: $(VENV)/torch.done $(BUILT_FROM)
	@rm -f $(LIBRARY)
	$(INSTALL) --editable '.[compare,bench]'
	$(INSTALL) --no-deps timm
	@touch $(VENV)/compare.done $@
