#!/usr/bin/env bash
# Make .venv from requirements.lock.
#   PYTHON         interpreter, 3.11 (default: python3.11, else python3)
#   TORCH_BACKEND  cpu (default), cu130, ...: which build of torch
#   PIP_FIND_LINKS a folder that holds a torch wheel wins over the index of the backend
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION=0.13.9
TORCH_VERSION=2.13.0
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

install() { VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv pip install --quiet --no-config --no-deps "$@"; }
if ! .venv/bin/python -c "import importlib.metadata as m; assert m.version('torch').split('+')[0] == '$TORCH_VERSION'" 2>/dev/null; then
  if [ -n "${PIP_FIND_LINKS:-}" ] && compgen -G "$PIP_FIND_LINKS/torch-$TORCH_VERSION*-cp311-*" >/dev/null; then
    install --find-links "$PIP_FIND_LINKS" "torch==$TORCH_VERSION"
  else
    install --torch-backend="${TORCH_BACKEND:-cpu}" "torch==$TORCH_VERSION"
  fi
fi
install --require-hashes -r requirements.lock
install --editable .
