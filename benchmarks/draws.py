"""What fewer noise draws cost: `python -m benchmarks.draws`.

The search for the timestep runs with four draws at each timestep, with two, with one, and with as many as the noise
needs, which is the default. For each: passes through the U-Net, the timestep found, and its regret, the accuracy
(percentage points) of k-means that is lost against the best of 16 timesteps. All are scored with the same embedding of
eight draws. Labels serve for the scores alone.
"""
import argparse

import numpy as np
import torch

from diec.data.datasets import ImageSet, load_dataset
from diec.evaluation.metrics import clustering_accuracy, markdown_table
from diec.evaluation.results import mean_std
from diec.features import DEFAULT_LAYER, Extractor, split_layers
from diec.search import Clusterability, CommonSpace, kmeans, search_timestep
from diec.unet import load_unet

LAYER = split_layers(DEFAULT_LAYER)
VARIANTS = {"four draws": (4, True), "two draws": (2, True), "one draw": (1, True), "as the noise needs": (2, False)}


def kmeans_accuracy(extract: Extractor, images: torch.Tensor, labels: np.ndarray, t: int) -> float:
    "Accuracy of k-means at a timestep, in percent"
    e = extract.embed(images, LAYER, t)[LAYER[0]]
    z = CommonSpace.fit(e).transform(e)
    return 100*clustering_accuracy(labels, kmeans(z, len(np.unique(labels))).labels_)


def compare(data: ImageSet, unet: str, m: int, seed: int) -> list:
    "A row for each variant of the search, on m images"
    network, scheduler = load_unet(unet)
    new = lambda n_draws: Extractor(network, scheduler, n_draws, seed)
    some = np.sort(np.random.default_rng(seed).permutation(len(data))[:m])
    images, labels = new(1).prepare(data.images[some]), data.labels[some]
    ts = np.linspace(0, 0.7*len(scheduler.betas), 16).astype(int).tolist()
    score = {t: kmeans_accuracy(new(8), images, labels, t) for t in ts}
    rows = []
    for name, (n_draws, all_draws) in VARIANTS.items():
        S = Clusterability(new(n_draws), images, len(data.classes), m=m, random_state=seed, all_draws=all_draws)
        found = search_timestep(S)
        if found.t not in score: score[found.t] = kmeans_accuracy(new(8), images, labels, found.t)
        rows.append({"draws": name, "passes": len(images)*sum(e.n_draws for e in found.evaluations), "t": found.t})
    best = max(score.values())
    return [row | {"regret": best - score[row["t"]]} for row in rows]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["digits", "mnist-5k"], metavar="NAME[:UNET]",
                        help="data sets, each with the U-Net to read (default: digits mnist-5k, each with its own)")
    parser.add_argument("--m", type=int, default=1000, help="images of a search (default: 1000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    for word in args.datasets:
        name, _, unet = word.partition(":")
        runs = [compare(load_dataset(name), unet or name, args.m, seed) for seed in args.seeds]
        print(f"{name}, U-Net {unet or name}, {args.m} images, {len(runs)} seeds: mean and standard deviation")
        rows = [{"draws": same[0]["draws"]} | {k: mean_std([r[k] for r in same], percent=False)
                                              for k in ("passes", "t", "regret")} for same in zip(*runs)]
        print(markdown_table(rows), flush=True)


if __name__ == "__main__":
    main()
