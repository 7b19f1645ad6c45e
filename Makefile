# Needs python3 (3.11 or newer, with venv) and make; everything else is fetched into .venv with pip, from wherever pip is
# configured to look. ARGS passes words through: make serve ARGS="--port 9000", make test ARGS="tests/ledger -x".

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.installed-base
DEV := $(VENV)/.installed-dev
BENCH := $(VENV)/.installed-bench
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help serve install test check bench soak format reference lock clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

serve: $(BASE) ## install what is needed, then run the server on 127.0.0.1:8420
	@$(BIN)/dayspring serve $(ARGS)

install: $(BASE) ## install what the server needs, and stop there

test: $(DEV) ## run every test this machine can run; skipped ones say what enables them
	@$(BIN)/python dev/fetch_test_models.py
	@$(BIN)/python dev/fetch_node_client.py
	@$(BIN)/python -m pytest -m "not soak" $(ARGS)

check: $(DEV) ## lint, types, import contracts, ratchets, generated pages up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "not model" tests/house $(ARGS)

bench: $(BENCH) ## measure this machine, write dev/benchmarks/*.json and the README's figures
	@$(BIN)/python dev/fetch_test_models.py
	$(BIN)/python -m dev.bench $(ARGS)

soak: $(DEV) ## the long tests: kills at random instants, fuzz, endurance
	@$(BIN)/python dev/fetch_test_models.py
	@$(BIN)/python -m pytest -m soak --timeout 3600 $(ARGS)

format: $(DEV) ## rewrite the code as ruff formats it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: $(DEV) ## rewrite docs/reference from the code
	$(BIN)/python dev/reference.py

lock: ## resolve the newest versions in a fresh environment and rewrite constraints.txt
	$(PYTHON) dev/lock.py

clean: ## remove the environment and every cache; models and data stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# A stamp is newer than what it was made from, so a second run starts without asking pip. The install is editable: a
# pulled change needs no new one unless the dependencies changed.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Dayspring needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another with: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Could not make $(VENV). On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(BASE): pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing Dayspring into $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(DEV): pyproject.toml constraints.txt dev/groups.py | $(VENV)/bin/python
	@echo "Installing Dayspring and its development tools into $(VENV) ..."
	@$(BIN)/python dev/groups.py dev > $(VENV)/dev-requirements.txt
	@$(PIP) --editable '.[all]' --requirement $(VENV)/dev-requirements.txt
	@touch $(BASE) $@

$(BENCH): $(DEV)
	@$(BIN)/python dev/groups.py bench > $(VENV)/bench-requirements.txt
	@$(PIP) --requirement $(VENV)/bench-requirements.txt
	@touch $@
