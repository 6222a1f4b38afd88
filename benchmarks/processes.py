"""Compare one process and two, of one thread each, in pretraining, extraction or a fit:
`python -m benchmarks.processes`.

The two take turns. Prints images per second over all processes, without imports and start-up: of pretraining, the
images of its steps; of extraction and of a fit that trains the U-Net too, the images of the data set. The numbers are
meaningful only with two idle cores or more.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from diec.data.datasets import load_dataset
from diec.evaluation.metrics import markdown_table
from diec.evaluation.results import mean_std


def pretrain_part(images, dataset: str, steps: int) -> float:
    "Images per second of the steps of pretraining"
    from diec.app.pretrain import Recipe, pretrain
    recipe = Recipe(n_steps=steps, random_state=0)
    return steps*recipe.batch_size/pretrain(images, recipe, progress=False).history["seconds"]


def extract_part(images, dataset: str, steps: int) -> float:
    "Images per second of extraction at the default layer"
    from diec.features import DEFAULT_LAYER, Extractor
    from diec.unet import load_unet
    extract = Extractor(*load_unet(dataset))
    images, start = extract.prepare(images), time.perf_counter()
    extract.embed(images, (DEFAULT_LAYER,), 100)
    return len(images)/(time.perf_counter() - start)


def fit_part(images, dataset: str, steps: int) -> float:
    "Images per second of a short fit in which the U-Net is trained for one epoch"
    from diec.estimator import DiEC
    from diec.trainer import TrainingConfig
    config, start = TrainingConfig(head_epochs=2, warmup_epochs=1, joint_epochs=1), time.perf_counter()
    DiEC(10, dataset, timestep=100, fine_tune_unet=True, training_config=config, random_state=0).fit(images)
    return len(images)/(time.perf_counter() - start)


PARTS = {"pretrain": pretrain_part, "extract": extract_part, "fit": fit_part}


def child(part: str, dataset: str, steps: int, out: Path):
    "One process of a run: write images per second"
    import torch

    from diec.core.distributed import is_main, rank_and_world_size
    torch.set_num_threads(1)
    rank_and_world_size() # join the other processes before the clock starts
    speed = PARTS[part](load_dataset(dataset).images[:2000], dataset, steps)
    if is_main(): out.write_text(str(speed))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="pretrain", help="what to measure (default: pretrain)")
    parser.add_argument("--dataset", default="digits", help="its first 2,000 images, and its U-Net (default: digits)")
    parser.add_argument("--steps", type=int, default=40, help="pretraining steps per turn (default: 40)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each (default: 3)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child: return child(args.part, args.dataset, args.steps, args.child)
    found = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)/"speed"
        words = ["-m", "benchmarks.processes", "--part", args.part, "--dataset", args.dataset,
                 "--steps", str(args.steps), "--child", str(out)]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        for turn in range(args.turns):
            for n, speeds in found.items():
                launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(n)] if n > 1 else []
                subprocess.run([sys.executable, *launcher, *words], env=env, check=True)
                speeds.append(float(out.read_text()))
                print(f"turn {turn}, {n} process(es): {speeds[-1]:.1f} images per second", flush=True)
    rows = [{"processes": n, "images per second": mean_std(v, percent=False)} for n, v in found.items()]
    print(markdown_table(rows))
    ratios = ", ".join(f"{b/a:.2f}" for a, b in zip(found[1], found[2]))
    print(f"speed of two processes over one, turn by turn: {ratios} (on {os.cpu_count()} cores)")


if __name__ == "__main__":
    main()
