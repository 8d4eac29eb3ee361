# Everything a person or CI runs. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PY := .venv/bin/python
export DVC_NO_ANALYTICS := 1
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Whose run is meant: the demo's, or that of a list of your own.
OF = $(if $(SOURCES),--sources "$(SOURCES)") $(if $(NAME),--name "$(NAME)")
WORKSPACE = $(if $(NAME),runs/$(NAME),.)

.PHONY: help setup demo test check format repro retry funnel dag mlflow lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# Set-up runs again only when what it installs has changed.
.venv/.done: requirements.lock requirements/setup.sh pyproject.toml
	@requirements/setup.sh
	@touch $@

setup: .venv/.done ## Make .venv from the lock (PYTHON=..., TORCH_BACKEND=cpu)

demo: setup ## Run the whole chain on a synthetic corpus, or SOURCES=list.csv [NAME=...] on your own
	@mssync demo $(OF)

test: setup ## Run all tests (no GPU, no network)
	@$(PY) -m pytest -q $(ARGS)

check: setup ## Formatting, lint, types, import arrows, spelling: what CI runs
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports
	@codespell src tests docs *.md *.yaml

format: setup ## Format and sort imports
	@ruff check --fix-only --quiet .
	@ruff format .

repro: setup ## Run the stages whose inputs, parameters or code changed
	@mssync demo $(OF)

retry: setup ## Try again what could not be downloaded (SOURCES=, NAME= as for demo), then go on
	@mssync demo --retry $(OF)

funnel: setup ## Show how many clips each stage kept, and why not the others (NAME=...)
	@mssync funnel --ledger "$(WORKSPACE)/ledger"

dag: setup ## Draw the chain
	@dvc dag

mlflow: setup ## Serve the MLflow pages of a run on http://127.0.0.1:5000 (NAME=...)
	@cd "$(WORKSPACE)" && [ -f mlflow.db ] || { echo "$(WORKSPACE) has no mlflow.db: run the chain first (make demo)" >&2; exit 1; }; \
	mlflow server --backend-store-uri sqlite:///mlflow.db --port 5000

lock: setup ## Make requirements.lock anew
	@requirements/lock.sh

clean: ## Remove what the demo made here; your runs/, corpus and media cache stay
	rm -rf data ledger models evaluation promotion run.json dvc.lock mlflow.db \
	  mlruns dvc-remote .dvc/tmp
