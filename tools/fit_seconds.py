"""Compare the time of DiEC's `fit` with that of a baseline: `python -m tools.fit_seconds`.

Same images, one thread each, in turns; CPU seconds and wall-clock seconds. DiEC loads a U-Net that comes with the
package, so its pretraining does not count. The baseline always trains its autoencoder.
"""
import argparse
import time

import torch

from diec.data.datasets import load_dataset
from diec.estimator import DiEC
from diec.evaluation.baselines import OPTIONAL_BASELINES, run_baseline
from diec.evaluation.metrics import clustering_accuracy, markdown_table
from diec.evaluation.results import mean_std


def timed(call) -> tuple: # what it returns, CPU seconds, wall-clock seconds
    "Time a call"
    cpu, clock = time.process_time(), time.perf_counter()
    labels = call()
    return labels, time.process_time() - cpu, time.perf_counter() - clock


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist-5k",
                        help="a data set with a U-Net in the package (default: mnist-5k)")
    parser.add_argument("--baseline", default="DEC", choices=tuple(OPTIONAL_BASELINES),
                        help="the other method (default: DEC)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one turn for each (default: 0 1 2)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    data, found = load_dataset(args.dataset), {}
    K = len(data.classes)
    for seed in args.seeds:
        calls = {"DiEC": lambda: DiEC(K, args.dataset, random_state=seed, device="cpu").fit_predict(data.images),
                 args.baseline: lambda: run_baseline(args.baseline, data.images, K, seed)}
        for name, call in calls.items():
            labels, cpu, clock = timed(call)
            accuracy = clustering_accuracy(data.labels, labels)
            found.setdefault(name, []).append((accuracy, cpu, clock))
            print(f"{name}, seed {seed}: ACC {100*accuracy:.1f}, {cpu:.0f} CPU s, {clock:.0f} wall-clock s", flush=True)
    print(markdown_table([
        {"method": name, "ACC": mean_std([x[0] for x in runs]),
         "CPU seconds": mean_std([x[1] for x in runs], percent=False),
         "wall-clock seconds": mean_std([x[2] for x in runs], percent=False)} for name, runs in found.items()]))
    ratios = ", ".join(f"{a[1]/b[1]:.2f}" for a, b in zip(found["DiEC"], found[args.baseline]))
    print(f"CPU seconds of DiEC over those of {args.baseline}, turn by turn: {ratios}")


if __name__ == "__main__":
    main()
