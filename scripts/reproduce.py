"""The main job: run nbs/experiments/cluster.ipynb by papermill and show its table. `python -m scripts.reproduce --help`."""
import argparse
import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="digits", help="a data set with a U-Net in the package: digits (default), mnist-5k")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--head-alone", action="store_true", help="do not fine-tune the U-Net")
    args = parser.parse_args()
    import papermill
    out = ROOT/"results"/args.dataset
    out.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(
        ROOT/"nbs"/"experiments"/"cluster.ipynb", out/"cluster.ipynb", cwd=ROOT/"nbs"/"experiments", kernel_name="python3",
        parameters=dict(dataset=args.dataset, seed=args.seed, fine_tune_unet=not args.head_alone, out=os.path.relpath(out, ROOT/"nbs"/"experiments")))
    facts = json.loads((out/"table.json").read_text())
    print(f"\n{args.dataset}, seed {args.seed}; DiEC reads {facts['layer']} at t = {facts['t']}\n")
    print((out/"table.md").read_text())
    shown = out.relative_to(Path.cwd()) if out.is_relative_to(Path.cwd()) else out
    print(f"Table, figures and the executed notebook are in {shown}/")


if __name__ == "__main__":
    main()
