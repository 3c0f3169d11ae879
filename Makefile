# The words of this project; `make` alone lists them.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)

# Everything Prefect keeps lies in .state, apart from the user's own Prefect. Targets are relative: make splits a target
# at spaces, which the path of a clone may hold.
STATE := .state/prefect
export PREFECT_HOME := $(CURDIR)/$(STATE)
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1

help:  ## list the words
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

install: $(VENV)/ready-dev  ## make .venv with everything, at the pinned versions

# What runs need is installed without what tests and linters need: half a gigabyte less.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
$(VENV)/ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "steerflow needs Python 3.11 or later on the PATH"; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "installing into $(VENV): some minutes where packages are downloaded"
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@

$(STATE):
	@mkdir -p $@

discover: $(VENV)/ready | $(STATE)  ## the whole pipeline on the embedded model: data/specs/quickstart.yaml
	$(BIN)/python -m flows quickstart

ARGS ?=
# As many workers as cores: each multiplies on one thread. Linux' batch policy has the thread that MLX hands its work to
# wait until it was handed all of it, in place of a switch for every operation (docs/log.md).
ONE_THREAD := OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 OMP_NUM_THREADS=1
AS_BATCH := $(shell command -v chrt >/dev/null && chrt -b 0 true 2>/dev/null && echo chrt -b 0)
PYTEST := $(ONE_THREAD) $(AS_BATCH) $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: install | $(STATE)  ## the test suite, a file on each core at a time; ARGS=… are pytest's own arguments
	$(PYTEST) $(ARGS)

quick: install | $(STATE)  ## most tests, in a quarter of the time: no browser, server or whole run
	$(PYTEST) -m 'not (slow or registry or real or server or matrix or long)' $(ARGS)

lint: install  ## linter, formatter and type checker
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

NIGHTLY ?= on
ifneq ($(filter up,$(MAKECMDGOALS)),)
ifeq ($(filter on off,$(NIGHTLY)),)
$(error NIGHTLY is '$(NIGHTLY)': say NIGHTLY=on, or NIGHTLY=off for no sweep at night)
endif
endif

up: $(VENV)/ready | $(STATE)  ## start server, deployments and workers in the background; NIGHTLY=off: no sweep at night
	@$(BIN)/python -m flows.service up --nightly "$(NIGHTLY)"

down:  ## stop what `make up` started
	@test ! -x $(BIN)/python || $(BIN)/python -m flows.service down

password: $(VENV)/ready | $(STATE)  ## what the page of Prefect's server asks for
	@$(BIN)/python -m flows.service password

figures: install  ## style figures of this tree, beside those of other codebases
	$(BIN)/python tools/figures.py

reference: install  ## write docs/views.md, docs/spec.md and docs/glossary.md from what they describe
	$(BIN)/python tools/reference.py

notebooks: install  ## run examples/notebooks and write their outputs: some minutes
	$(BIN)/python tools/notebooks.py

clean: down  ## remove the environment and caches, not the store
	rm -rf $(VENV) .state .pytest_cache .mypy_cache .ruff_cache

.PHONY: help install discover test quick lint up down password figures reference notebooks clean
.DEFAULT_GOAL := help
