#!/usr/bin/env bash
# Makes .venv, installs the package with what the tests need, runs ruff, import-linter, mypy and the tests, one process a
# core (of eight at most: each holds PyTorch). Arguments go to pytest; `-n 0` among them runs the tests in one process.
# No test meets a GPU but those in tests/gpu, which run last, in a process of their own, where there is a GPU and no
# arguments choose tests. Workers that are done take tests from those that are not, so that all end together.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/make_venv.sh dev
.venv/bin/ruff check .
.venv/bin/lint-imports --no-logo
.venv/bin/mypy
.venv/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal "$@"
if [ $# -eq 0 ] && command -v nvidia-smi > /dev/null; then
  MMKD_TEST_DEVICE=cuda .venv/bin/python -m pytest -rs tests/gpu
fi
