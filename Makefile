# chatlab: `make lab` opens the workshop, `make test` passes. `make help` lists the rest.

# The first of these that is 3.11 or newer; `make PYTHON=…` decides otherwise.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; \
  done; echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
# Set up again exactly when what is to be installed has changed.
STAMP := $(VENV)/.ready-$(shell cat pyproject.toml requirements.lock | cksum | cut -d ' ' -f 1)
# A folder that `make bundle` filled: set-up then needs no network. bundle/ is used without being named.
BUNDLE ?=
export BUNDLE
BUNDLE_ARGS ?=
LAB_ARGS ?=
LOCK_ARGS ?=
MINUTES ?= 5
SEED ?=
CHAOS_ARGS ?=
BENCH_ARGS ?=
DEMO_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help .venv lab fresh test check notebooks demo chaos bench bundle lock environment clean

help: ## this list
	@awk -F ':.*## ' '/^[A-Za-z.][A-Za-z._-]*:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

lab: $(STAMP) ## open the workshop in JupyterLab, in your own copies under work/
	@$(BIN)/python authoring/work.py lab $(LAB_ARGS)

fresh: $(STAMP) ## start one notebook of work/ over: NB=03, or NB=exercises/03; yours is kept as 03….mine.ipynb
	@$(BIN)/python authoring/work.py fresh $(NB)

test: $(STAMP) ## check, the tests, and every notebook
	@$(BIN)/python tests/run.py

check: $(STAMP) ## style, types, and notebooks in step with their sources
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python authoring/build.py --check

notebooks: $(STAMP) ## build and execute notebooks/, exercises/ and solutions/ from authoring/ (NB=01 for one lesson)
	$(BIN)/python authoring/build.py $(NB)

demo: $(STAMP) ## show it to a room: two chat windows, a cluster to break, the checker: DEMO_ARGS="--host 0.0.0.0"
	@$(BIN)/chatlab demo $(DEMO_ARGS)

chaos: $(STAMP) ## break a cluster at random while clients talk, and judge what they saw: MINUTES=5 SEED=7 CHAOS_ARGS=--stock
	@$(BIN)/python -m chatlab.lab.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(CHAOS_ARGS)

bench: $(STAMP) ## measure chatlab against Node and stock python-socketio, 12 minutes: BENCH_ARGS="--only acks-16"
	@$(BIN)/python -m bench.run $(BENCH_ARGS)

.venv: $(STAMP) ## everything that the other targets need, in .venv (they call it themselves)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "chatlab needs Python 3.11 or newer, and $(PYTHON) is" \
	    "$$($(PYTHON) -V 2>&1 | head -n 1). Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) (about a minute, and only when something changed) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "No virtual environment could be made. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python authoring/set_up.py $(if $(filter bundle,$(MAKECMDGOALS)),--index)
	@rm -f $(VENV)/.ready-* && touch $@

bundle: $(STAMP) ## all that set-up downloads, for a room without network, in bundle/ or BUNDLE=folder: BUNDLE_ARGS=--room
	@$(BIN)/python authoring/make_bundle.py $(BUNDLE_ARGS)

lock: ## write requirements.lock from pyproject.toml (LOCK_ARGS=--upgrade takes newer versions)
	$(PYTHON) -m venv .cache/lock
	.cache/lock/bin/pip install --quiet --disable-pip-version-check uv
	.cache/lock/bin/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  --quiet --output-file requirements.lock $(LOCK_ARGS)

environment: $(STAMP) ## install what environment.yml gives to conda and Binder into an empty environment, and use it
	$(BIN)/python tests/install_environment.py

clean: ## remove .venv and every cache; never touches work/
	rm -rf .venv .cache .pytest_cache .ruff_cache .mypy_cache .hypothesis dist build tests/js/node_modules bench/peer/node_modules
	find . -name __pycache__ -type d -not -path './work/*' -prune -exec rm -rf {} +
