"""A folder of many pictures, from files to groups: `python -m tools.bench_folder`. Prints the share of each stage, seconds and peak memory.

The pictures are those of a data set, written as files of mixed sizes and kinds in nested folders, some of them broken. The U-Net is pretrained on the way, as for anybody's own pictures; classes only score the result.
"""
import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from diec.data.datasets import load_dataset
from diec.evaluation.metrics import markdown_table, scores


def write_pictures(folder: Path, data, n: int, broken: int):
    "PNG and JPEG files of 20 to 80 pixels, gray and color, two folders deep; the class is in no name, but returned by file"
    rng, classes = np.random.default_rng(0), {}
    for i, j in enumerate(rng.permutation(len(data))[:n] if n <= len(data) else rng.integers(0, len(data), n)):
        pixels = np.round((data.images[j].transpose(1, 2, 0) + 1)*127.5).astype(np.uint8)
        picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).resize((int(rng.integers(20, 81)),)*2, Image.Resampling.BICUBIC)
        path = folder/f"{i % 7}"/f"{i % 11}"/f"{i:06d}.{'png' if i % 3 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        (picture.convert("RGB") if i % 2 else picture).save(path)
        classes[path.relative_to(folder).as_posix()] = int(data.labels[j])
    for i, name in enumerate(list(classes)[:: max(1, n//max(1, broken))][:broken]):
        path = folder/name
        path.write_bytes((b"", path.read_bytes()[:40], b"no picture")[i % 3])
        del classes[name]
    return classes


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="fashion-mnist", help="where the pictures come from (default: fashion-mnist)")
    parser.add_argument("--images", type=int, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--broken", type=int, default=50, help="how many of them cannot be read (default: 50)")
    parser.add_argument("--steps", type=int, help="of pretraining (default: the recipe's)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads (default: all cores)")
    args = parser.parse_args(argv)
    data = load_dataset(args.dataset)
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        classes = write_pictures(place/"in", data, args.images, args.broken)
        words = ["cluster", place/"in", "--out", place/"out", "-k", len(data.classes), *(["--steps", args.steps] if args.steps else []), "--quiet"]
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "diec.app.cli", *map(str, words)], env=os.environ | {"OMP_NUM_THREADS": str(args.threads)}, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode: sys.exit(done.stderr)
        print(done.stdout.replace(str(place), "PLACE"))
        rows = list(csv.DictReader(open(place/"out"/"labels.csv")))
        found = scores(np.array([classes[r["file"]] for r in rows]), np.array([int(r["cluster"]) for r in rows]))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/1024
        print(markdown_table([{"images": f"{args.images:,}", "broken": args.broken, "sorted": f"{len(rows):,}", "minutes": f"{seconds/60:.1f}", "threads": args.threads, "peak memory, MB": f"{peak:,.0f}"} | {k: f"{100*v:.1f}" for k, v in found.items()}]))


if __name__ == "__main__":
    main()
