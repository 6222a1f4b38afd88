"""What a cheaper search costs: `python -m benchmarks.regret draws` and `python -m benchmarks.regret sizes`.

The search for the timestep runs with fewer noise draws (four, two, one, or as many as the noise needs, the default), or
on fewer images (the default is a rule, `diec.search.subset_size`). For each: passes through the U-Net (without those
that tell how many draws are needed, 64 a timestep), the timestep found, and its regret, the accuracy (percentage
points) of k-means that is lost against the best of 16 timesteps. All are scored on the same images, with the same
embeddings of four draws. Labels serve for the scores alone.
"""
import argparse
from functools import cache

import numpy as np
import torch

from diec.data.datasets import ImageSet, load_dataset
from diec.evaluation.metrics import clustering_accuracy, markdown_table
from diec.evaluation.results import mean_std
from diec.features import DEFAULT_LAYER, Extractor, split_layers
from diec.search import Clusterability, CommonSpace, kmeans, search_timestep, subset_size
from diec.unet import load_unet

LAYER = split_layers(DEFAULT_LAYER)
SIZES = (250, 500, 1000, 2000, 4000)


def variants(part: str, n_clusters: int, n_images: int) -> dict:
    "Name -> draws R, whether all of them are taken, and images of the subset"
    m = subset_size(n_clusters)
    if part == "draws":
        return {"four draws": (4, True, m), "two draws": (2, True, m), "one draw": (1, True, m),
                "as the noise needs": (2, False, m)}
    sizes = sorted(size for size in {*SIZES, m} if size <= n_images)
    return {f"{size:,} images" + ", the rule"*(size == m): (2, False, size) for size in sizes}


def scores(extractor: Extractor, images: torch.Tensor, data: ImageSet):
    "A function from a timestep to the accuracy of k-means there, in percent"
    @cache
    def accuracy(t: int) -> float:
        e = extractor.embed(images, LAYER, t)[LAYER[0]]
        found = kmeans(CommonSpace.fit(e).transform(e), len(data.classes)).labels_
        return 100*clustering_accuracy(data.labels, found)
    return accuracy


def compare(part: str, data: ImageSet, images: torch.Tensor, reads: Extractor, accuracy, seed: int) -> list:
    "A row for each variant of the search"
    ts, rows = np.linspace(0, 0.7*reads.T, 16).astype(int).tolist(), []
    for name, (n_draws, all_draws, m) in variants(part, len(data.classes), len(data)).items():
        extractor = Extractor(reads.unet, reads.scheduler, n_draws, seed)
        S = Clusterability(extractor, images, len(data.classes), m=m, random_state=seed, all_draws=all_draws)
        found = search_timestep(S)
        rows.append({"search": name, "passes": len(S.subset)*sum(e.n_draws for e in found.evaluations), "t": found.t,
                     "accuracy": accuracy(found.t)})
    best = max(accuracy(t) for t in ts + [row["t"] for row in rows])
    return [row | {"regret": best - row["accuracy"]} for row in rows]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("draws", "sizes"), help="what is varied")
    parser.add_argument("--datasets", nargs="+", default=["digits", "mnist-5k"], metavar="NAME[:UNET]",
                        help="data sets, each with the U-Net to read (default: digits mnist-5k, each with its own)")
    parser.add_argument("--images", type=int, default=5000, help="images of a set, drawn at random (default: 5000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    for word in args.datasets:
        name, _, unet = word.partition(":")
        data = load_dataset(name)
        data = data.subset(np.sort(np.random.default_rng(0).permutation(len(data))[:args.images]))
        reads = Extractor(*load_unet(unet or name), 4)
        images = reads.prepare(data.images)
        accuracy = scores(reads, images, data)
        runs = [compare(args.part, data, images, reads, accuracy, seed) for seed in args.seeds]
        print(f"{name}, U-Net {unet or name}, {len(data):,} images, {len(runs)} seeds: mean and standard deviation")
        rows = [{"search": same[0]["search"]} | {k: mean_std([r[k] for r in same], percent=False)
                                                 for k in ("passes", "t", "regret")} for same in zip(*runs)]
        print(markdown_table(rows), flush=True)


if __name__ == "__main__":
    main()
