#!/usr/bin/env bash
# Write the lock files (tools/lock.py) in a separate environment that has pip-tools. --keep: same versions, plus new requirements of settings.ini.
set -euo pipefail
python=${1:-python3}; shift || true
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work"
"$work/bin/pip" install --quiet --upgrade pip pip-tools==7.6.2
"$work/bin/python" tools/lock.py "$@"
