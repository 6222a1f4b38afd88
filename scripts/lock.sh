#!/usr/bin/env bash
# Resolve settings.ini's requirements in an empty environment and pin what came out. PyTorch's version is pinned first, so
# that the lock does not depend on which builds a machine is offered.
set -euo pipefail
python=${1:-python3}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/python" - >"$work/wanted" <<'P'
from configparser import ConfigParser
c = ConfigParser(); c.read("settings.ini"); d = c["DEFAULT"]
print("torch==2.13.0", "torchvision==0.28.0", "setuptools>=69", "wheel", *[r for k in d if k.endswith("requirements") and k != "slurm_requirements" for r in d[k].split()], sep="\n")
P
"$work/venv/bin/pip" install --quiet -r "$work/wanted"
{ echo "# Exact versions of everything, made by 'make lock'. Tested with Python 3.11."
  "$work/venv/bin/pip" freeze --all --exclude pip --exclude clustpy | sed -E 's/\+cpu$//'; } >"$work/lock"
mv "$work/lock" requirements.lock
# apart: it is built from source, and where that fails all else shall stand
{ echo "# ClustPy, whose requirements are in requirements.lock; made by 'make lock'."; "$work/venv/bin/pip" freeze --all | grep -i '^clustpy=='; } >requirements-clustpy.lock
