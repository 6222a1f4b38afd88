#!/usr/bin/env bash
# Run all notebooks in place, so that the stored outputs match the code, then clean them and write the README.
set -euo pipefail
cd "$(dirname "$0")/.."
export TQDM_DISABLE=1
nbdev_export
for nb in nbs/*.ipynb nbs/{core,data,evaluation,hierarchy,method,app,guides,experiments}/*.ipynb; do
  echo "$nb"
  jupyter nbconvert --to notebook --execute --inplace --log-level ERROR --ExecutePreprocessor.timeout=1200 "$nb"
done
nbdev_clean
python -m tools.stubs
python -m tools.readme
