"""Time `diec cluster` on a folder of many images: `python -m benchmarks.folder`.

Prints the share of each stage, minutes and peak memory. The images come from a data set. They are written as PNG and
JPEG files of mixed sizes in nested folders, some of them broken. The U-Net is pretrained, as for a user's own images.
The classes only score the result.
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


def write_images(folder: Path, data, n: int, n_broken: int) -> dict: # file -> class
    "PNG and JPEG files of 20 to 80 pixels, gray and color, two folders deep; no name contains the class"
    rng, classes = np.random.default_rng(0), {}
    for i, j in enumerate(rng.permutation(len(data))[:n] if n <= len(data) else rng.integers(0, len(data), n)):
        pixels = np.round((data.images[j].transpose(1, 2, 0) + 1)*127.5).astype(np.uint8)
        image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
        image = image.resize((int(rng.integers(20, 81)),)*2, Image.Resampling.BICUBIC)
        path = folder/f"{i % 7}"/f"{i % 11}"/f"{i:06d}.{'png' if i % 3 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        (image.convert("RGB") if i % 2 else image).save(path)
        classes[path.relative_to(folder).as_posix()] = int(data.labels[j])
    for i, name in enumerate(list(classes)[:: max(1, n//max(1, n_broken))][:n_broken]):
        path = folder/name
        path.write_bytes((b"", path.read_bytes()[:40], b"no picture")[i % 3])
        del classes[name]
    return classes


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="fashion-mnist", help="data set of the images (default: fashion-mnist)")
    parser.add_argument("--images", type=int, default=10_000, help="number of images (default: 10000)")
    parser.add_argument("--broken", type=int, default=50, help="number of broken files among them (default: 50)")
    parser.add_argument("--steps", type=int, help="pretraining steps (default: those of the recipe)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads (default: all cores)")
    args = parser.parse_args(argv)
    data = load_dataset(args.dataset)
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        classes = write_images(place/"in", data, args.images, args.broken)
        steps = ["--steps", args.steps] if args.steps else []
        words = ["cluster", place/"in", "--out", place/"out", "-k", len(data.classes), *steps, "--quiet"]
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "diec.app.cli", *map(str, words)], capture_output=True, text=True,
                              env=os.environ | {"OMP_NUM_THREADS": str(args.threads)})
        seconds = time.perf_counter() - start
        if done.returncode: sys.exit(done.stderr)
        print(done.stdout.replace(str(place), "PLACE"))
        rows = list(csv.DictReader(open(place/"out"/"labels.csv")))
        found = scores(np.array([classes[r["file"]] for r in rows]), np.array([int(r["cluster"]) for r in rows]))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/1024
        costs = {"images": f"{args.images:,}", "broken": args.broken, "clustered": f"{len(rows):,}",
                 "minutes": f"{seconds/60:.1f}", "threads": args.threads, "peak memory, MB": f"{peak:,.0f}"}
        print(markdown_table([costs | {k: f"{100*v:.1f}" for k, v in found.items()}]))


if __name__ == "__main__":
    main()
