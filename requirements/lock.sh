#!/usr/bin/env bash
# Make the locks, with hashes and without torch. What is pinned stays pinned where it still fits:
# `requirements/lock.sh --upgrade` takes the newest.
set -euo pipefail
cd "$(dirname "$0")/.."

lock() {
  .venv/bin/uv pip compile --quiet --no-config --python-version 3.11 \
    --override requirements/overrides.txt --excludes requirements/excludes.txt \
    --generate-hashes --no-header "$@"
}
lock "$@" requirements/requirements.in --output-file requirements.lock
lock "$@" requirements/dev.in --constraint requirements.lock --output-file requirements-dev.lock
lock "$@" requirements/sbom.in --constraint requirements.lock --output-file requirements/sbom.lock
