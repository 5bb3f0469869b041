# Everything a checkout needs lands in .venv and node_modules. A machine needs Python 3.11 or newer and make.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

RUN := .venv/.run
DEV := .venv/.dev
NODE := node_modules/.stamp

# Another interpreter's packages, for `make test-python PYTHON=python3.13`.
OTHER = .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# The chance of `make storm`, and how many times as much is done as in `make test`.
STORM_SEED ?= $(shell date +%s)
STORM_SCALE ?= 20

# What `make deployment` and `make bench` take further, such as `make deployment ARGS="--port 3211"`.
ARGS ?=

.PHONY: all demo test lint types schema-check versions functions-test python-test test-python storm bench deployment schema format clean

all: $(DEV) $(NODE)  ## Install everything

$(RUN): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(DEV): $(RUN)
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

# Node comes from PyPI with the development tools.
$(NODE): $(DEV) package.json package-lock.json
	$(BIN)/npm ci --no-audit --no-fund
	touch $@

demo: $(RUN)  ## Store, page, search, change and delete conversations; embedded, or on CONVEX_URL
	$(BIN)/python examples/demo.py

test: lint types schema-check versions functions-test python-test  ## Check everything; the Python tests come last

# One after the other, so that each is readable and pytest has the last word.
.NOTPARALLEL:

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV) $(NODE)
	$(BIN)/mypy
	$(BIN)/npm run --silent typecheck

schema-check: $(DEV)
	$(BIN)/python -m convexorm schema mastra_convex.entities --fragment mastraTables --out convex/mastra/tables.ts --check

versions: $(NODE)  ## Typecheck and bundle the functions with other versions of convex and TypeScript
	$(BIN)/npm run --silent versions

functions-test: $(NODE)
	$(BIN)/npm run --silent test

python-test: $(DEV) $(NODE)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

$(OTHER)/.dev: pyproject.toml
	$(PYTHON) -m venv $(OTHER)
	$(OTHER)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(OTHER)/bin/python -m pip install --quiet --editable . --group dev
	touch $@

test-python: $(OTHER)/.dev  ## Run the Python tests on another interpreter: make test-python PYTHON=python3.13
	test -e $(NODE) || { PATH=$(CURDIR)/$(OTHER)/bin:$$PATH npm ci --no-audit --no-fund && touch $(NODE); }
	$(OTHER)/bin/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

storm: $(DEV) $(NODE)  ## Put the library under storms: STORM_SEED=7 STORM_SCALE=100 ARGS="-k fork"
	STORM_SEED=$(STORM_SEED) STORM_SCALE=$(STORM_SCALE) $(BIN)/python -m pytest --quiet --capture=no tests/storm $(ARGS)

bench: $(DEV) $(NODE)  ## Print what the operations cost, beside SQLAlchemy and bare httpx2
	$(BIN)/python -m bench $(ARGS)

deployment: $(NODE)  ## Serve convex/ on this machine through Convex's HTTP API
	$(BIN)/npm run --silent deployment -- $(ARGS)

schema: $(DEV)  ## Write convex/mastra/tables.ts again from the entities
	$(BIN)/python -m convexorm schema mastra_convex.entities --fragment mastraTables --out convex/mastra/tables.ts

format: $(DEV)  ## Format the Python sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove what was installed and cached
	rm -rf .venv .venv-* node_modules dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
