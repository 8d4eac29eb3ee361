# Everything a person or CI runs. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PY := .venv/bin/python
export DVC_NO_ANALYTICS := 1
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Where it is set, every process compiles its libraries anew, which takes longer than most have to do.
unexport PYTHONDONTWRITEBYTECODE

# Whose run is meant: the demo's, or that of a list of your own.
OF = $(if $(SOURCES),--sources "$(SOURCES)") $(if $(NAME),--name "$(NAME)")
WORKSPACE = $(if $(NAME),runs/$(NAME),.)

# The image, and what it is built from. `.ci/docker-engine env` prints some of these.
DOCKER ?= docker
IMAGE ?= mssync:dev
IN_IMAGE := Dockerfile .dockerignore pyproject.toml requirements.lock requirements-dev.lock requirements/torch.txt requirements/sbom.lock README.md LICENSE src
GIT_SHA = $(or $(shell git rev-parse HEAD 2>/dev/null),unknown)
GIT_DIRTY = $(if $(filter unknown,$(GIT_SHA)),unknown,$(if $(shell git status --porcelain -- $(IN_IMAGE)),true,false))
BUILD_ARGS = GIT_SHA GIT_DIRTY $(foreach name,BASE_IMAGE TORCH_BACKEND TORCH_INDEX WEIGHTS,$(if $($(name)),$(name)))
NEEDS_DOCKER = $(DOCKER) info >/dev/null 2>&1 || { echo "an image needs a Docker engine, and none answers '$(DOCKER) info': start or install Docker; on a CI machine without it: eval \"\$$(.ci/docker-engine start)\"" >&2; exit 1; }

.PHONY: help setup demo test check format repro retry funnel links dag mlflow lock image sbom test-image \
  compile run-local parity ablation clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# Set-up runs again only when what it installs has changed.
.venv/.done: requirements.lock requirements-dev.lock requirements/torch.txt requirements/setup.sh pyproject.toml
	@requirements/setup.sh
	@touch $@

setup: .venv/.done ## Make .venv from the locks (PYTHON=..., TORCH_BACKEND=cpu)

demo: setup ## Run the whole chain on a synthetic corpus, or SOURCES=list.csv [NAME=...] on your own
	@mssync demo $(OF)

test: setup ## Run all tests (no GPU, no network), a file a core (ARGS="-n 0": one after the other)
	@$(PY) -m pytest -q -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup ## Formatting, lint, types, import arrows, spelling: what CI runs
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports
	@hadolint Dockerfile
	@codespell src components pipeline bench tests docs manifests *.md *.yaml

format: setup ## Format and sort imports
	@ruff check --fix-only --quiet .
	@ruff format .

repro: setup ## Run the stages whose inputs, parameters or code changed
	@mssync demo $(OF)

retry: setup ## Try again what could not be downloaded (SOURCES=, NAME= as for demo; AGAIN="gone geo"), then go on
	@MSSYNC_AGAIN="$(AGAIN)" mssync demo --retry $(OF)

funnel: setup ## Show how many clips each stage kept, and why not the others (NAME=...)
	@mssync funnel --ledger "$(WORKSPACE)/ledger"

links: setup ## Show how many links of the list still answer, run after run (NAME=...)
	@mssync links --ledger "$(WORKSPACE)/ledger"

dag: setup ## Draw the chain
	@dvc dag

mlflow: setup ## Serve the MLflow pages of a run on http://127.0.0.1:5000 (NAME=...)
	@cd "$(WORKSPACE)" && [ -f mlflow.db ] || { echo "$(WORKSPACE) has no mlflow.db: run the chain first (make demo)" >&2; exit 1; }; \
	mlflow server --backend-store-uri sqlite:///mlflow.db --port 5000

lock: setup ## Make the locks anew (ARGS=--upgrade: newest versions)
	@requirements/lock.sh $(ARGS)

image: ## Build the container image (IMAGE=mssync:dev, BASE_IMAGE=, TORCH_BACKEND=, TORCH_INDEX=, WEIGHTS=fetch)
	@$(NEEDS_DOCKER)
	@DOCKER_BUILDKIT=1 $(DOCKER) build $(foreach name,$(BUILD_ARGS),--build-arg "$(name)=$($(name))") --tag "$(IMAGE)" .

sbom: ## Write down what is in the image: build/sbom/ (IMAGE=mssync:dev)
	@$(NEEDS_DOCKER)
	@mkdir -p build/sbom
	@for file in python.cdx.json debian.tsv; do $(DOCKER) run --rm --network none "$(IMAGE)" cat /opt/sbom/$$file >build/sbom/$$file || exit 1; done
	@ls -l build/sbom

test-image: setup ## Test the container image (IMAGE=mssync:dev)
	@$(NEEDS_DOCKER)
	@$(DOCKER) image inspect "$(IMAGE)" >/dev/null 2>&1 || { echo "there is no image $(IMAGE): make image" >&2; exit 1; }
	@DOCKER="$(DOCKER)" MSSYNC_IMAGE="$(IMAGE)" $(PY) -m pytest -q -m docker tests/image $(ARGS)

compile: setup ## Write the Kubeflow graph to build/pipeline.yaml (SHARDS=8, IMAGE=name@sha256:...)
	@MSSYNC_IMAGE="$(IMAGE)" $(PY) -m pipeline compile $(if $(SHARDS),--shards $(SHARDS)) $(ARGS)

run-local: setup ## Run the Kubeflow graph here (RUNNER=docker, SHARDS=2, SOURCES=, NAME= as for demo)
	@case "$(NAME)" in [!A-Za-z0-9]*|*[!A-Za-z0-9._-]*) echo "NAME is letters, digits, . _ -, found '$(NAME)'" >&2; exit 1;; esac
	@MSSYNC_IMAGE="$(IMAGE)" $(PY) -m pipeline run-local $(if $(SHARDS),--shards $(SHARDS)) $(if $(RUNNER),--runner $(RUNNER)) \
	  $(if $(SOURCES),--sources "$(SOURCES)") $(if $(NAME),--workspace "$(WORKSPACE)") $(ARGS)

parity: setup ## Check that DVC, processes and containers make the same of eight clips (ENGINES="dvc docker")
	@MSSYNC_IMAGE="$(IMAGE)" $(PY) -m pipeline.parity $(foreach name,$(ENGINES),--engine $(name)) $(ARGS)

ablation: setup ## Print what DVC's experiments scored, mean and interval over seeds (docs/experiments.md)
	@$(PY) -m bench.ablation $(ARGS)

clean: ## Remove what the demo made here; your runs/, corpus and media cache stay
	rm -rf data ledger models evaluation promotion run.json dvc.lock mlflow.db \
	  mlflow.unsent mlruns dvc-remote build .dvc/tmp
