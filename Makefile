# Recipes of one line each; `make` alone lists them. A Makefile, not a justfile: most machines of developers have make, and just would have
# to be installed first. Without make, type the lines: nothing else here depends on it, neither .ci/run nor the tests.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup hooks quick test lint format types layers pages check wheel lowest ray bench

help:    ## list the recipes
	@sed -n 's/^\([a-z]*\): *## */\1\t/p' Makefile | expand -t 10

setup:   ## make .venv with everything that a change needs
	$(PYTHON) -m venv .venv && $(BIN)/pip install -q -e '.[dev]'

hooks:   ## let git run lint and format before each commit
	$(BIN)/pre-commit install

quick:   ## the tests of the inner loop, under a minute
	$(BIN)/python -m pytest -m quick

test:    ## all tests
	$(BIN)/python -m pytest

lint:    ## ruff: rules and format
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format:  ## ruff: mend what it can
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types:   ## mypy
	$(BIN)/mypy

layers:  ## import-linter: which room may import which
	$(BIN)/lint-imports

pages:   ## write all that the code makes of docs; without a .venv here: make pages PYTHON=/path/to/python
	PYTHONPATH=. $(if $(filter file,$(origin PYTHON)),$(BIN)/python,$(PYTHON)) tests/support/reference_pages.py

check:   ## what a change must pass, from scratch, in a copy
	bash .ci/run

wheel:   ## the wheel, installed in a venv of its own, runs a job
	bash .ci/wheel $(BIN)/python

lowest:  ## all tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	$(PYTHON) -m venv --clear .venv-lowest && .venv-lowest/bin/pip install -q uv && .venv-lowest/bin/uv pip install -q -p .venv-lowest/bin/python --resolution lowest-direct -e '.[test]' && .venv-lowest/bin/python -m pytest

ray:     ## the tests of the engine ray, on real clusters, with Ray in .venv-ray (240 MB); Linux, as root or with user namespaces
	$(PYTHON) -m venv .venv-ray && .venv-ray/bin/pip install -q -e '.[test,ray]' && .venv-ray/bin/python -m pytest -n0 -rs tests/flow/test_ray.py

bench:   ## speed, as ratios to a bare loop (benchmarks/README.md)
	$(BIN)/python -m benchmarks.speed
