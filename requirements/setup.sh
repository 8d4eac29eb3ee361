#!/usr/bin/env bash
# Make .venv from both locks.
#   PYTHON         interpreter, 3.11 (default: python3.11, else python3)
#   TORCH_BACKEND  cpu (default), cu130, ...: which build of torch
#   PIP_FIND_LINKS a folder that holds a torch wheel wins over the index of the backend
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION=0.13.9
torch=$(<requirements/torch.txt)
python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || python=python3
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo "no $python")
if [ "$version" != 3.11 ]; then
  echo "mssync needs Python 3.11, found: $version. Install it, or name it: make setup PYTHON=/path/to/python3.11" >&2
  exit 1
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv || {
  echo "Python cannot make a virtual environment: on Debian, apt-get install python3-venv" >&2
  exit 1
}
.venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"

uv_install() { VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv pip install --quiet --no-config "$@"; }
if [ -n "${PIP_FIND_LINKS:-}" ] && compgen -G "$PIP_FIND_LINKS/torch-${torch#torch==}*-cp311-*" >/dev/null; then
  torch_from=(--find-links "$PIP_FIND_LINKS")
else
  torch_from=(--torch-backend="${TORCH_BACKEND:-cpu}")
fi
if ! .venv/bin/python -c "import importlib.metadata as m; assert m.version('torch').split('+')[0] == '${torch#torch==}'" 2>/dev/null; then
  uv_install --no-deps "${torch_from[@]}" "$torch"
fi
uv_install --no-deps --require-hashes -r requirements.lock
uv_install --no-deps --require-hashes -r requirements-dev.lock
# The CUDA builds need libraries that no lock names; the CPU build has all it needs by now.
uv_install "${torch_from[@]}" "$torch"
uv_install --no-deps --no-build-isolation --editable .
