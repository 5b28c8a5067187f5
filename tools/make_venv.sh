# Sourced by quickstart.sh and run_tests.sh: `. tools/make_venv.sh EXTRAS` makes .venv with the package and its extras.
# What was installed is noted in .venv, so that a second run does not ask pip again until setup.py changes.
extras=$1
wanted="$(cksum < setup.py) $extras"
if ! grep -qxF "$wanted" .venv/mmkd_atsc.installed 2>/dev/null; then
  [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
  echo "installing into .venv (PyTorch is several GB the first time) ..."
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
  echo "$wanted" >> .venv/mmkd_atsc.installed
fi
