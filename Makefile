# A fresh machine needs Python 3.11 or 3.12 and make; each target first installs the rest into .venv.

SHELL := /bin/bash
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
PYTHON := .venv/bin/python
export UV_PROJECT_ENVIRONMENT := .venv
# Prefers the distribution's Python if it is complete: one that was built from source, as pyenv does, is often a fifth
# slower at everything here. UV_PYTHON names another.
complete = $(shell $(1) -c 'import bz2, ctypes, lzma, sqlite3, ssl; print("$(1)")' 2>/dev/null)
DISTRIBUTION = $(firstword $(foreach each,/usr/bin/python3.11 /usr/bin/python3.12,$(call complete,$(each))))
SYNC = $(if $(or $(UV_PYTHON),$(DISTRIBUTION)),UV_PYTHON=$(or $(UV_PYTHON),$(DISTRIBUTION))) $(UV) sync
unexport PYTHONDONTWRITEBYTECODE # with it, each process would compile the project again, and pytest each test file

.PHONY: help setup demo test test-long test-fast lint format check bench clean

help: ## Prints this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: .venv/ready ## Installs everything into .venv; afterwards .venv/bin/everlearn works from any folder

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet uv

.venv/ready: pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	$(SYNC) --frozen --compile-bytecode # the workers import torch: without bytecode each start takes twice as long
	$(PYTHON) -m compileall -q agents infra schemas
	@touch $@

demo: setup ## Runs the whole loop on sample data, on the embedded stack
	.venv/bin/everlearn demo

test: setup ## Runs the whole suite: pure tests, then contracts, then flows
	$(PYTHON) -m pytest -n 3 --dist loadgroup --no-loadscope-reorder -m "not long"

test-long: setup ## Runs the demo with its agents killed, shuffled corrections, a short campaign, the loop on PostgreSQL: forty minutes
	$(PYTHON) -m pytest tests/flows/test_demo.py tests/flows/test_shuffled_corrections.py tests/flows/test_campaign.py \
		tests/flows/test_loop_on_postgresql.py

test-fast: setup ## Runs pure modules and memory twins alone, in under a minute
	$(PYTHON) -m pytest -n 2 --dist loadgroup --no-loadscope-reorder -m fast

lint: setup ## Checks format, lint, types, import arrows, generated schemas
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PYTHON) -m schemas.generate --check

format: setup ## Formats the code and puts imports in order
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .

check: lint test ## Runs what CI runs

bench: setup ## Prints the figures of this machine, as ratios to the bare parts
	$(PYTHON) -m benchmarks.question_flow
	$(PYTHON) -m benchmarks.delivery_faults
	$(PYTHON) -m benchmarks.capture
	$(PYTHON) -m benchmarks.history
	$(PYTHON) -m benchmarks.training
	$(PYTHON) -m benchmarks.classifying
	$(PYTHON) -m benchmarks.engine_threads
	$(PYTHON) -m benchmarks.drift_check
	$(PYTHON) -m benchmarks.search_scale
	$(PYTHON) -m benchmarks.retrieval
	$(PYTHON) -m benchmarks.retrieval_system
	$(PYTHON) -m benchmarks.documents
	$(PYTHON) -m benchmarks.document_replay

clean: ## Stops the default stack, then removes the environment, caches and the default home folder
	-test -x .venv/bin/everlearn && .venv/bin/everlearn down
	rm -rf .venv .uv .cache .everlearn .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
