"""Fit the hierarchy to caveman graphs, whose mirror images cost the same to merge: `python -m tools.caveman --out times.csv`.

A row for each fit is written at once; fits that the file already holds are not repeated. Exit status 1 if a fit found other clusters than the caves, or took longer than `--limit` seconds.
"""
import argparse
import csv
import itertools
import random
import time
from pathlib import Path

import networkx as nx
import numpy as np

from diec.hierarchy.estimator import ReverseHierarchicalDiffusion


def fit_seconds(caves:int, size:int, seed:int) -> float:
    "Fit one graph, check that each cave is a cluster, and return the seconds of this process"
    start = time.process_time()
    model = ReverseHierarchicalDiffusion(random_state=seed).fit(nx.caveman_graph(caves, size))
    seconds = time.process_time() - start
    caves_found = model.labels_.reshape(caves, size)
    if model.n_clusters_ != caves or (caves_found != caves_found[:, :1]).any() or len(np.unique(caves_found)) != caves:
        raise AssertionError(f"caveman_graph({caves}, {size}), seed {seed}: {model.n_clusters_} clusters, which are not the caves")
    return seconds


def _range(text:str) -> range:
    first, last = map(int, text.split("-"))
    return range(first, last + 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--caves", type=_range, default=range(5, 61), help="first-last")
    parser.add_argument("--sizes", type=_range, default=range(3, 11), help="first-last")
    parser.add_argument("--seeds", type=_range, default=range(20), help="first-last")
    parser.add_argument("--limit", type=float, default=30., help="seconds of processor time that a fit may take")
    parser.add_argument("--out", type=Path, required=True, help="CSV file of caves, size, seed, seconds")
    args = parser.parse_args()
    done, slow = set(), []
    if args.out.exists():
        with args.out.open(newline="") as file: done = {tuple(map(int, row[:3])) for row in csv.reader(file) if len(row) == 4}
    with args.out.open("a", newline="", buffering=1) as file:
        fits = list(itertools.product(args.caves, args.sizes, args.seeds))
        random.Random(0).shuffle(fits) # what was done of a run that is cut short is a fair sample
        for caves, size, seed in fits:
            if (caves, size, seed) in done: continue
            seconds = fit_seconds(caves, size, seed)
            csv.writer(file).writerow([caves, size, seed, f"{seconds:.2f}"])
            if seconds > args.limit: slow.append((caves, size, seed))
    raise SystemExit(f"slower than {args.limit} s: {slow}" if slow else 0)


if __name__ == "__main__": main()
