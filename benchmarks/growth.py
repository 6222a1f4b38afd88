"""How time and memory grow with the number of images: `python -m benchmarks.growth --largest 100000`.

Each part runs on 1,000, 10,000, ... images in a process of its own. The images are digits, enlarged to 16 x 16 pixels,
repeated and disturbed; they lie in a file and are read in batches. A U-Net of a few thousand weights reads them, so
that the time of the rest shows. With an exponent of 1 a cost is proportional to the number of images; with 0 it is
constant.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import ROOT, PeakMemory
from diec.evaluation.metrics import markdown_table

SIDE, T, K, BLOCK = 16, 50, 10, 10_000
NUMBERS = 1000, 10_000, 100_000, 1_000_000
COSTS = {"CPU s": "seconds", "memory, MB": "own", "with mapped files, MB": "total"} # heading -> key


def disturbed(n: int, seed: int) -> np.ndarray: # (n, 1, 16, 16), uint8
    "Digits, repeated, enlarged, and with noise"
    from diec.data.datasets import load_dataset
    rng, pixels = np.random.default_rng(seed), (load_dataset("digits").images + 1)*127.5
    images = pixels[rng.integers(0, len(pixels), n)].repeat(2, 2).repeat(2, 3)
    return np.clip(images + rng.normal(0, 20, images.shape), 0, 255).round().astype(np.uint8)


def write_images(path: Path, n: int) -> np.memmap: # (n, 1, 16, 16), uint8
    "Write n images block by block, and open them for reading"
    with path.open("wb") as f:
        for i in range(0, n, BLOCK): f.write(disturbed(min(BLOCK, n - i), i).tobytes())
    return np.memmap(path, np.uint8, "r", shape=(n, 1, SIDE, SIDE))


def tiny_unet() -> tuple:
    "A small U-Net with random weights, and its schedule"
    from diec.unet import new_scheduler, new_unet
    return new_unet(SIDE, block_out_channels=(8, 16, 16), random_state=0).eval(), new_scheduler()


def extraction(images, folder: Path):
    "Embeddings, written to disk as they are computed"
    from diec.features import DEFAULT_LAYER, Extractor, Layer
    extract = Extractor(*tiny_unet(), n_draws=1, cache_dir=folder/"embeddings")
    x = extract.prepare(images)
    return lambda: extract.embed(x, (Layer(DEFAULT_LAYER),), T)


def _estimator(folder: Path):
    "DiEC with the tiny U-Net and few epochs; its embeddings lie on disk"
    from diec import DiEC
    from diec.trainer import TrainingConfig
    few = TrainingConfig(head_epochs=4, warmup_epochs=2, tol=-1.)
    return DiEC(K, tiny_unet(), timestep=T, n_draws=1, training_config=few, checkpoint=folder/"fit.safetensors",
                device="cpu", random_state=0)


def fit(images, folder: Path):
    "A fit at a given timestep, with four epochs"
    model = _estimator(folder)
    return lambda: model.fit(images)


def predict(images, folder: Path):
    "Labels, by a model that was fitted to a thousand images"
    model = _estimator(folder).fit(np.array(images[:1000]))
    return lambda: model.predict(images)


def hierarchy(images, folder: Path):
    "A hierarchy over points of 64 dimensions: the images, averaged down to 8 x 8"
    from diec import ReverseHierarchicalDiffusion
    points = np.empty((len(images), 64), np.float32)
    for i in range(0, len(images), BLOCK):
        x = images[i:i + BLOCK].reshape(-1, 8, 2, 8, 2)
        points[i:i + BLOCK] = x.mean((2, 4), dtype=np.float32).reshape(-1, 64)
    return lambda: ReverseHierarchicalDiffusion().fit(points)


PARTS = {"extraction": extraction, "fit": fit, "predict": predict, "hierarchy": hierarchy}


def child(part: str, n: int):
    "Measure a part in this process, and print its cost"
    import torch
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        call, warm_up = (PARTS[part](write_images(folder/f"{m}.u8", m), folder/str(m)) for m in (n, 200))
        warm_up() # what it loads and allocates does not depend on n
        start = time.process_time()
        with PeakMemory() as memory: call()
        seconds = time.process_time() - start
    print(json.dumps({"part": part, "images": n, "seconds": seconds, "own": memory.own, "total": memory.total}))


def cost(part: str, n: int) -> dict:
    "Measure a part in a process of its own"
    env = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    # with this threshold for maps, glibc returns freed memory at once
    words = [sys.executable, "-m", "benchmarks.growth", "--child", part, str(n)]
    done = subprocess.run(words, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode: raise SystemExit(f"{part} of {n:,} images ended with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def exponent(rows: list, key: str) -> float:
    "The p of a cost growing as n^p, between the two largest numbers of images; nan where the cost is too small"
    if len(rows) < 2: return math.nan
    (a, b), (x, y) = ([r[k] for r in rows[-2:]] for k in ("images", key))
    return math.log(y/x)/math.log(b/a) if min(x, y) > 0 else math.nan


def _number(value: float) -> str: return "" if math.isnan(value) else f"{value:.2f}"


def table(rows: list) -> str:
    "A row for each part and number of images, and the exponents in the last row of a part"
    shown = []
    for part in dict.fromkeys(r["part"] for r in rows):
        own = [r for r in rows if r["part"] == part]
        shown += [{"part": part, "images": f"{r['images']:,}"} | {name: f"{r[key]:,.1f}" for name, key in COSTS.items()}
                  for r in own]
        shown.append({"part": part, "images": "exponent"} | {k: _number(exponent(own, v)) for k, v in COSTS.items()})
    return markdown_table(shown)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, choices=NUMBERS, default=NUMBERS[1],
                        help="largest number of images (default: 10000)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="(default: all)")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child: return child(args.child[0], int(args.child[1]))
    rows = []
    for part in args.parts:
        for n in (n for n in NUMBERS if n <= args.largest):
            rows.append(cost(part, n))
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))


if __name__ == "__main__": main()
