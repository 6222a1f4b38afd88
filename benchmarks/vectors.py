"""How long embeddings of your own take: `python -m benchmarks.vectors` clusters 10,000 pictures by 512 numbers each.

Two sets: a Gaussian mixture with clusters of one size and shape, and a harder one, whose clusters are long, unequal
and close to each other. It prints the stages of `diec cluster photos --embeddings vectors.npy`, its accuracy and NMI,
and the same of k-means, and fails if a run takes more than a minute on two cores. Options are passed on, such as -k 10.
"""

import csv
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.cluster import KMeans

from diec.evaluation.metrics import clustering_accuracy, nmi

N, D, K, LIMIT, CORES = 10_000, 512, 10, 60, 2


def mixture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    "Round clusters of one size, and their labels"
    y = rng.integers(K, size=N)
    return rng.normal(0, 0.2, (K, D))[y] + rng.normal(size=(N, D)), y


def hard(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    "Clusters of unequal sizes, each long in 20 directions of its own, and their labels"
    share = np.geomspace(1, 8, K)
    y = rng.choice(K, N, p=share / share.sum())
    X = rng.normal(0, 0.25, (K, D))[y] + rng.normal(size=(N, D))
    for k in range(K):
        X[y == k] += rng.normal(0, 1.5, (np.sum(y == k), 20)) @ rng.normal(0, 0.3, (20, D))
    return X, y


def make_pictures(folder: Path, rng: np.random.Generator) -> list[str]:
    "Write small pictures that all differ, and return their names"
    folder.mkdir()
    names = [f"{i:05}.png" for i in range(N)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / name)
    return names


def children_seconds() -> float:
    "Processor seconds of the subprocesses so far"
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def diec(home: Path, out: str) -> tuple[np.ndarray, float, float, str]:
    "Labels in the order of the names, seconds by the clock and of the processor, and the line of the stages"
    command = [sys.executable, "-m", "diec.app.cli", "cluster", "photos", "--embeddings", "vectors.npy", "--out", out]
    start, before = time.perf_counter(), children_seconds()
    done = subprocess.run(
        [*command, *sys.argv[1:]],
        cwd=home,
        env=os.environ | {"OMP_NUM_THREADS": str(CORES)},
        capture_output=True,
        text=True,
    )
    seconds, cpu = time.perf_counter() - start, children_seconds() - before
    if done.returncode:
        sys.exit(done.stderr)
    stages = next(line for line in done.stdout.splitlines() if re.search(r"read .*, .*report ", line))
    with open(home / out / "labels.csv", encoding="utf-8") as f:
        rows = sorted(csv.DictReader(f), key=lambda row: row["file"])
    return np.array([int(row["cluster"]) for row in rows]), seconds, cpu, stages


def main():
    slow = []
    with tempfile.TemporaryDirectory() as home:
        home, rng = Path(home), np.random.default_rng(0)
        names = make_pictures(home / "photos", rng)
        (home / "vectors.csv").write_text("\n".join(["file", *names]) + "\n")
        for make in (mixture, hard):
            X, y = make(rng)
            np.save(home / "vectors.npy", X.astype(np.float32))
            labels, seconds, cpu, stages = diec(home, make.__name__)
            start, before = time.perf_counter(), time.process_time()
            baseline = KMeans(K, n_init=10, random_state=0).fit_predict(X.astype(np.float32))
            took, took_cpu = time.perf_counter() - start, time.process_time() - before
            print(f"{make.__name__}: {N:,} x {D}, {K} clusters\n  {stages}")
            for who, found, s, c in (("diec", labels, seconds, cpu), ("k-means", baseline, took, took_cpu)):
                n_found = len(set(found.tolist()))
                quality = f"accuracy {clustering_accuracy(y, found):.3f}, NMI {nmi(y, found):.3f}, {n_found} clusters"
                print(
                    f"  {who}: {s:.1f} s by the clock, {c:.1f} s of the processor, {quality}",
                    flush=True,
                )
            slow += [make.__name__] * (seconds > LIMIT)
    if slow:
        sys.exit(f"more than {LIMIT} s: {', '.join(slow)}")


if __name__ == "__main__":
    main()
