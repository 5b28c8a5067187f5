#!/usr/bin/env bash
# tools/benchmark/gpu.sh OUT [arguments of gpu.py]: everything that is measured on a GPU, in four minutes at most.
set -euo pipefail
exec "${PYTHON:-python3}" "$(dirname "$0")/gpu.py" "$@"
