#!/usr/bin/env bash
# Makes .venv, installs the package with what the tests need, runs ruff and the tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/make_venv.sh dev
.venv/bin/ruff check .
exec .venv/bin/python -m pytest "$@"
