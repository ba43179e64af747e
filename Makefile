# chatlab: `make lab` opens the workshop, `make test` passes. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

.DEFAULT_GOAL := help
.PHONY: help lock

help: ## this list
	@awk -F ':.*## ' '/^[A-Za-z.][A-Za-z._-]*:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

lock: ## write requirements.lock anew from pyproject.toml (LOCK_ARGS=--upgrade takes newer versions)
	$(PYTHON) -m venv .cache/lock
	.cache/lock/bin/pip install --quiet uv
	.cache/lock/bin/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  --quiet --output-file requirements.lock $(LOCK_ARGS)
