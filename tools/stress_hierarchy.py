"""Stress the hierarchy with caveman graphs: `python -m tools.stress_hierarchy --out times.csv`.

A caveman graph consists of equal cliques ("caves"), whose mirror images make many merges cost exactly the same. The
file gets a row after each fit, and fits that it already contains are not repeated. Exit status 1 if a fit finds other
clusters than the caves, or takes longer than `--limit` seconds.
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


def fit_seconds(caves: int, size: int, seed: int) -> float:
    "Fit one graph, check that each cave is a cluster, and return the CPU seconds"
    start = time.process_time()
    model = ReverseHierarchicalDiffusion(random_state=seed).fit(nx.caveman_graph(caves, size))
    seconds = time.process_time() - start
    found = model.labels_.reshape(caves, size)
    if model.n_clusters_ != caves or (found != found[:, :1]).any() or len(np.unique(found)) != caves:
        raise AssertionError(f"caveman_graph({caves}, {size}), seed {seed}: "
                             f"the {model.n_clusters_} clusters are not the caves")
    return seconds


def _range(text: str) -> range:
    "The range of 'first-last'"
    first, last = map(int, text.split("-"))
    return range(first, last + 1)


def _finished(path: Path) -> set: # (caves, size, seed)
    "The fits that a file already contains"
    if not path.exists(): return set()
    with path.open(newline="") as file: return {tuple(map(int, row[:3])) for row in csv.reader(file) if len(row) == 4}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--caves", type=_range, default=range(5, 61), help="first-last (default: 5-60)")
    parser.add_argument("--sizes", type=_range, default=range(3, 11), help="first-last (default: 3-10)")
    parser.add_argument("--seeds", type=_range, default=range(20), help="first-last (default: 0-19)")
    parser.add_argument("--limit", type=float, default=30., help="CPU seconds allowed for a fit (default: 30)")
    parser.add_argument("--out", type=Path, required=True, help="CSV file of caves, size, seed, seconds")
    args = parser.parse_args()
    finished, slow = _finished(args.out), []
    with args.out.open("a", newline="", buffering=1) as file:
        fits = list(itertools.product(args.caves, args.sizes, args.seeds))
        random.Random(0).shuffle(fits) # so that an interrupted run has done a fair sample
        for caves, size, seed in fits:
            if (caves, size, seed) in finished: continue
            seconds = fit_seconds(caves, size, seed)
            csv.writer(file).writerow([caves, size, seed, f"{seconds:.2f}"])
            if seconds > args.limit: slow.append((caves, size, seed))
    raise SystemExit(f"slower than {args.limit} s: {slow}" if slow else 0)


if __name__ == "__main__": main()
