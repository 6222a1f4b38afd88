"""How long `fit` takes beside a baseline: `python -m tools.fit_seconds`. Same images, one thread each, in turns; CPU seconds and the clock's.

DiEC reads a U-Net that comes with the package, so its pretraining is not counted; the baseline trains its autoencoder, as it always must.
"""
import argparse
import time

import torch

from diec.evaluation.baselines import PEERS, run_baseline
from diec.data.datasets import load_dataset
from diec.estimator import DiEC
from diec.evaluation.metrics import clustering_accuracy, markdown_table
from diec.evaluation.results import mean_std


def timed(call):
    cpu, clock = time.process_time(), time.perf_counter()
    labels = call()
    return labels, time.process_time() - cpu, time.perf_counter() - clock


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist-5k", help="a data set with a U-Net in the package (default: mnist-5k)")
    parser.add_argument("--baseline", default="DEC", choices=tuple(PEERS), help="the method beside it (default: DEC)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a turn each (default: 0 1 2)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    data, found = load_dataset(args.dataset), {}
    K = len(data.classes)
    for seed in args.seeds:
        for name, call in (("DiEC", lambda: DiEC(K, args.dataset, random_state=seed, device="cpu").fit_predict(data.images)), (args.baseline, lambda: run_baseline(args.baseline, data.images, K, seed))):
            labels, cpu, clock = timed(call)
            found.setdefault(name, []).append((clustering_accuracy(data.labels, labels), cpu, clock))
            print(f"{name}, seed {seed}: ACC {100*found[name][-1][0]:.1f}, {cpu:.0f} CPU seconds, {clock:.0f} by the clock", flush=True)
    print(markdown_table([{"method": n, "ACC": mean_std([x[0] for x in v]), "CPU seconds": mean_std([x[1] for x in v], percent=False), "seconds by the clock": mean_std([x[2] for x in v], percent=False)} for n, v in found.items()]))
    ratio = [a[1]/b[1] for a, b in zip(found["DiEC"], found[args.baseline])]
    print(f"CPU seconds of DiEC as a share of {args.baseline}'s, turn by turn: {', '.join(f'{r:.2f}' for r in ratio)}")


if __name__ == "__main__":
    main()
