#!/usr/bin/env bash
# `test.sh`: all checks that a change can break, the fastest first. `test.sh slow`: the tests marked slow.
set -euo pipefail
cd "$(dirname "$0")/.."
unset DIEC_DATA # no check depends on the user's files
export TQDM_DISABLE=1 MPLBACKEND=agg PYTHONWARNINGS=ignore::DeprecationWarning
step() { printf '\n== %s\n' "$1"; }
run_tests() { step "tests/, $1"; python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "$1"; }
fingerprint() { find nbs diec -type f \( -name '*.ipynb' -o -name '*.py' \) -not -path '*/.ipynb_checkpoints/*' | sort | xargs sha256sum; }

if [ "${1-}" = slow ]; then
  run_tests slow
  exit
fi

step "style and imports (ruff)"
ruff check benchmarks nbs tests tools workflow
ruff format --check tests

step "nbdev_export and nbdev_clean change nothing"
before=$(fingerprint)
nbdev_export
nbdev_clean
after=$(fingerprint)
if [ "$before" != "$after" ]; then
  echo "The notebooks and the package were out of step. These files have changed; commit them:"
  diff <(echo "$before") <(echo "$after") || true
  exit 1
fi

step "README.md is in step with nbs/index.ipynb"
python -m tools.readme --check

step "the notebooks' own tests"
# tests/workflow/test_batch.py runs the experiments on small data; those that collect results read the committed ones here
OMP_NUM_THREADS=1 nbdev_test --n_workers 2 --timing --do_print --skip_folder_re '^([_.]|experiments)'
OMP_NUM_THREADS=1 nbdev_test --n_workers 2 --timing --do_print --path nbs/experiments --file_re '_(table|figure)[.]ipynb$'

run_tests "not slow"
