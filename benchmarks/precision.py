"""What bfloat16 costs in quality: `python -m benchmarks.precision`.

Fits DiEC with `precision="float32"` and with `precision="bfloat16"` for each seed. The accuracy of the two may differ
by at most 0.2 points in the mean over the seeds; the exit status is 1 if it differs by more.
"""
import argparse
import inspect
from collections.abc import Callable

import numpy as np
import torch

from diec.data.datasets import load_dataset
from diec.estimator import DiEC
from diec.evaluation.metrics import clustering_accuracy, markdown_table
from diec.evaluation.results import mean_std

BAR = 0.2 # points
PRECISIONS = "float32", "bfloat16"


def labels_of(dataset: str, images: np.ndarray, n_clusters: int, seed: int, precision: str) -> np.ndarray:
    "The clusters that DiEC finds"
    settings = {"precision": precision, "device": "cpu", "random_state": seed}
    return DiEC(n_clusters, dataset, **settings).fit_predict(images)


def runs(dataset: str, seeds: list, labels_of: Callable = labels_of) -> list: # a row for each seed
    "Accuracy of each precision, in percent, and the share of images that both put in the same cluster"
    data, rows = load_dataset(dataset), []
    for seed in seeds:
        found = {p: labels_of(dataset, data.images, len(data.classes), seed, p) for p in PRECISIONS}
        row = {"seed": seed} | {p: 100*clustering_accuracy(data.labels, found[p]) for p in PRECISIONS}
        rows.append(row | {"same": 100*clustering_accuracy(*found.values())})
        print(f"{dataset}, seed {seed}: " + ", ".join(f"{k} {row[k]:.2f}" for k in PRECISIONS), flush=True)
    return rows


def summary(dataset: str, rows: list) -> dict:
    "The row of a data set in the table"
    differences = [r["bfloat16"] - r["float32"] for r in rows]
    return {"data set": dataset, "seeds": len(rows)} | {
        f"ACC, {p}": mean_std([r[p] for r in rows], 2, percent=False) for p in PRECISIONS} | {
        "difference": f"{np.mean(differences):+.2f}", "largest": f"{max(differences, key=abs):+.2f}",
        "same cluster": f"{np.mean([r['same'] for r in rows]):.2f}",
        "within the bar": "yes" if abs(np.mean(differences)) <= BAR else "no"}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["digits", "mnist-5k"], help="(default: digits mnist-5k)")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    args = parser.parse_args(argv)
    if "precision" not in inspect.signature(DiEC).parameters:
        raise SystemExit("DiEC has no parameter precision in this version, so there is nothing to compare")
    torch.set_num_threads(1)
    rows = [summary(d, runs(d, list(range(args.seeds)))) for d in args.datasets]
    print(markdown_table(rows))
    raise SystemExit(int(any(r["within the bar"] == "no" for r in rows)))


if __name__ == "__main__": main()
