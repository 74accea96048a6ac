# Every target makes what it needs: the first one run creates .venv and installs into it.
#
# PYTHON     the interpreter to make .venv with (3.11 to 3.13)
# PIP_EXTRA  more options for pip, say an index that has torch built for the CPU only: on Linux the
#            usual build brings gigabytes of CUDA. pip's own settings (PIP_INDEX_URL, …) work as well.

PYTHON ?= python3
PIP_EXTRA ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_EXTRA)

RUN_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
DOCS_STAMP := $(VENV)/.installed-docs

.DEFAULT_GOAL := help
.PHONY: help demo test coverage check docs reference dist pin test-slow fuzz train-storybook bench clean
.SILENT:

help:  ## this list
	grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

demo: $(RUN_STAMP)  ## a guarded generator at work, in the terminal and in demo/index.html
	$(BIN)/python -m safelight demo

test: $(DEV_STAMP)  ## the tests, on all cores
	$(BIN)/python -m pytest --quiet -n logical --dist worksteal

coverage: $(DEV_STAMP)  ## the tests, with the lines that none of them runs; takes nearly twice as long
	$(BIN)/python -m pytest --quiet -n logical --dist worksteal --cov --cov-report=term:skip-covered

check: $(DEV_STAMP)  ## format, lint and types
	$(BIN)/ruff format --check --quiet . || { echo "Run .venv/bin/ruff format ."; exit 1; }
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

docs: $(DOCS_STAMP)  ## the documentation as a site, in site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	echo "The site is site/index.html."

reference: $(RUN_STAMP)  ## the generated parts of docs/reference/, after a change of options or policy keys
	COLUMNS=80 $(BIN)/python docs/tools/make_reference.py

dist: | $(BIN)/python  ## a wheel and an sdist, in dist/
	$(PIP) build 'setuptools>=77'
	rm -rf build dist
	$(BIN)/python -m build --no-isolation --outdir dist > /dev/null
	ls dist

pin: $(RUN_STAMP)  ## pin the packaged files as they are now, after a change on purpose
	$(BIN)/python -c 'from safelight.storage.packaged_files import write_manifest; write_manifest()'

test-slow: $(DEV_STAMP)  ## the tests that take minutes
	$(BIN)/python -m pytest --quiet -m slow --timeout 3600

fuzz: $(DEV_STAMP)  ## damaged and hostile inputs of every kind by the thousand
	PYTHONPATH=tests $(BIN)/python -m fuzz

train-storybook: $(DEV_STAMP)  ## train the embedded model again, from nothing; resumes where it was stopped
	$(BIN)/python -m safelight train

bench: $(DEV_STAMP)  ## measure, and write benchmarks/results/
	$(PIP) -e '.[generate,dev,nudenet,bench]'
	$(BIN)/python benchmarks/run.py

clean:  ## remove .venv and everything that was made
	rm -rf $(VENV) build dist demo site .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -o -name '*.egg-info' | xargs rm -rf

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "Safelight needs Python 3.11 to 3.13: make PYTHON=python3.12 …"; exit 1; }
	echo "Creating $(VENV) …"
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	echo "Installing safelight; the first time takes some minutes …"
	$(PIP) -e '.[generate]'
	touch $@

$(DEV_STAMP): $(RUN_STAMP)
	echo "Installing the tools for developers …"
	$(PIP) -e '.[generate,dev]'
	touch $@

$(DOCS_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	echo "Installing what builds the documentation …"
	$(PIP) -e '.[docs]'
	touch $@
