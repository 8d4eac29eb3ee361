#!/usr/bin/env bash
# Make requirements.lock anew: newest versions that fit requirements.in, with hashes, without torch.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/uv pip compile --quiet --upgrade --no-config --python-version 3.11 \
  requirements/requirements.in --override requirements/overrides.txt --excludes requirements/excludes.txt \
  --generate-hashes --no-header --output-file requirements.lock
