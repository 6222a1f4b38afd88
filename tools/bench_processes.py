"""Pretraining by one process and by two, one thread each, in turns: `python -m tools.bench_processes`.

Images a second of the whole, from the seconds that the steps took (imports and start apart). It says something only where there are two idle cores or more.
"""
import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from diec.data.datasets import load_dataset
from diec.evaluation.metrics import markdown_table
from diec.evaluation.results import mean_std


def child(dataset: str, steps: int, out: Path):
    "One process of the run: pretrain, and leave images a second"
    import torch
    from diec.core.distributed import is_main
    from diec.app.pretrain import Recipe, pretrain
    torch.set_num_threads(1)
    recipe = Recipe(n_steps=steps, random_state=0)
    trained = pretrain(load_dataset(dataset).images[:2000], recipe, progress=False)
    if is_main(): out.write_text(f"{steps*recipe.batch_size/trained.history['seconds']} {np.mean(trained.history['loss'][-10:])}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist-5k", help="(default: mnist-5k)")
    parser.add_argument("--steps", type=int, default=40, help="of pretraining, a turn (default: 40)")
    parser.add_argument("--turns", type=int, default=3, help="(default: 3)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child: return child(args.dataset, args.steps, args.child)
    found = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)/"speed"
        for turn in range(args.turns):
            for n, speeds in found.items():
                start = [sys.executable] if n == 1 else [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(n)]
                subprocess.run([*start, "-m", "tools.bench_processes", "--dataset", args.dataset, "--steps", str(args.steps), "--child", str(out)], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
                speed, loss = map(float, out.read_text().split())
                speeds.append(speed)
                print(f"turn {turn}, {n} process(es): {speed:.1f} images a second, loss {loss:.4f}", flush=True)
    print(markdown_table([{"processes": n, "images a second": mean_std(v, percent=False)} for n, v in found.items()]))
    print("two over one, turn by turn:", ", ".join(f"{b/a:.2f}" for a, b in zip(found[1], found[2])), f"(on {os.cpu_count()} cores)")


if __name__ == "__main__":
    main()
