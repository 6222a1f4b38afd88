"""Compare pretraining with one process and with two, of one thread each: `python -m benchmarks.processes`.

The two take turns. Prints images per second over all processes, from the time of the training steps alone (without
imports and start-up). The numbers are meaningful only with two idle cores or more.
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
    "One process of a run: pretrain, and write images per second and the final loss"
    import torch

    from diec.app.pretrain import Recipe, pretrain
    from diec.core.distributed import is_main
    torch.set_num_threads(1)
    recipe = Recipe(n_steps=steps, random_state=0)
    history = pretrain(load_dataset(dataset).images[:2000], recipe, progress=False).history
    if is_main(): out.write_text(f"{steps*recipe.batch_size/history['seconds']} {np.mean(history['loss'][-10:])}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist-5k", help="(default: mnist-5k)")
    parser.add_argument("--steps", type=int, default=40, help="pretraining steps per turn (default: 40)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each (default: 3)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child: return child(args.dataset, args.steps, args.child)
    found = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)/"speed"
        words = ["-m", "benchmarks.processes", "--dataset", args.dataset, "--steps", str(args.steps),
                 "--child", str(out)]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        for turn in range(args.turns):
            for n, speeds in found.items():
                launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(n)] if n > 1 else []
                subprocess.run([sys.executable, *launcher, *words], env=env, check=True)
                speed, loss = map(float, out.read_text().split())
                speeds.append(speed)
                print(f"turn {turn}, {n} process(es): {speed:.1f} images per second, loss {loss:.4f}", flush=True)
    rows = [{"processes": n, "images per second": mean_std(v, percent=False)} for n, v in found.items()]
    print(markdown_table(rows))
    ratios = ", ".join(f"{b/a:.2f}" for a, b in zip(found[1], found[2]))
    print(f"speed of two processes over one, turn by turn: {ratios} (on {os.cpu_count()} cores)")


if __name__ == "__main__":
    main()
