#!/usr/bin/env bash
# From a bare machine with Python to a distilled student: makes .venv, installs, trains, prints a table, draws a plot.
# Run again, it reuses what is there. PYTHON names another interpreter; arguments go to tools/demo.py.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/make_venv.sh demo
exec .venv/bin/python tools/demo.py "$@"
