"""Measure what the README claims: quality, regret of the search, cost of extraction, the denoising loss after fine-tuning.

Prints tables and writes them to results/bars.md and results/bars.json. Each part that is finished is kept under runs/bars/ and not
measured again until it is deleted (`--fresh` does), so that an interrupted run goes on where it stopped.
"""
import argparse
import json
import shutil
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from diec.baselines import BASELINES, run_baseline
from diec.checkpoint import atomic_file
from diec.cot import Clusterability, CommonSpace, kmeans, search_timestep
from diec.data import load_dataset
from diec.estimator import DiEC
from diec.hooks import Extractor, activations
from diec.metrics import clustering_accuracy, format_mean_std, knn_accuracy, markdown_table, scores
from diec.trainer import ClusterModel, Schedule, Trainer, fit
from diec.unet import generator, load_unet, loss_by_timestep

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT/"runs"/"bars"
K = 10
GRID = np.linspace(0, 999, 50).round().astype(int).tolist()
GRID_IMAGES = 1000 # images of the exhaustive grid; all of them if there are fewer


def kept(key: str, measure):
    "What `measure()` returns, measured once"
    path = KEPT/f"{key}.json"
    if not path.exists():
        print(f"  measuring {key} ...", flush=True)
        result = measure()
        with atomic_file(path) as f: f.write_text(json.dumps(result))
    return json.loads(path.read_text())


def kmeans_accuracy(extract, data, t: int, seed: int) -> float:
    "Accuracy of k-means on the bottleneck at t"
    e = extract(data.images, ["mid_block"], t)["mid_block"]
    return clustering_accuracy(data.labels, kmeans(CommonSpace.fit(e).transform(e), K, seed).labels_)


def baseline(data, name, seed):
    return scores(data.labels, run_baseline(name, data.images, K, seed))


def quality(data, seed: int) -> dict:
    "DiEC's three stages, and the choices of both criteria"
    extract = Extractor(*load_unet(data.name), random_state=seed)
    S, found = Clusterability(extract, data.images, K, random_state=seed), {}
    for criterion in ("stable_chi", "chi"):
        S = S.rescored(criterion)
        result = search_timestep(S)
        found[criterion] = {"t": result.t, "evaluations": len(result.evaluations), "unimodal": result.unimodal}
    t = found["stable_chi"]["t"]
    e = extract(data.images, ["mid_block"], t)["mid_block"]
    model = ClusterModel.start(e, K, random_state=seed)
    x = model.embed(torch.from_numpy(e))
    stages = {"k-means at t*": scores(data.labels, kmeans(x, K, seed).labels_)}
    start = time.perf_counter()
    head = fit(Trainer(extract, model, "mid_block", t, schedule=Schedule(joint_epochs=0, random_state=seed)), data.images, e)
    stages["head alone"] = scores(data.labels, head) | {"seconds": time.perf_counter() - start}
    start = time.perf_counter()
    full = DiEC(K, data.name, t=t, random_state=seed).fit(data.images)
    stages["full"] = scores(data.labels, full.labels_) | {"seconds": time.perf_counter() - start}
    z = x.numpy()
    return {"search": found, "stages": stages, "knn": knn_accuracy(z, data.labels)}


def grid(data) -> dict:
    "k-means accuracy at each of 50 timesteps"
    some = data.subset(min(GRID_IMAGES, len(data)), random_state=0)
    extract = Extractor(*load_unet(data.name))
    return {str(t): kmeans_accuracy(extract, some, t, 0) for t in tqdm(GRID, desc=f"{data.name}, grid", unit="timestep")}


def at_timestep(data, t: int) -> float:
    "The grid's figure at a timestep between its points"
    some = data.subset(min(GRID_IMAGES, len(data)), random_state=0)
    return kmeans_accuracy(Extractor(*load_unet(data.name)), some, t, 0)


def early_exit(name: str, repeats: int = 15) -> dict:
    "Share of a full pass that reaching the bottleneck takes, in operations and in time"
    unet, scheduler = load_unet(name)
    x = torch.randn(128, 1, unet.config.sample_size, unet.config.sample_size, generator=generator(0))
    def run(layer):
        start = time.perf_counter()
        with torch.no_grad(): activations(unet, x, 200, [layer])
        return time.perf_counter() - start
    def operations(layer):
        with FlopCounterMode(display=False) as f: run(layer)
        return f.get_total_flops()
    share = operations("mid_block")/operations("conv_out")
    run("conv_out")
    times = [(run("mid_block"), run("conv_out")) for _ in range(repeats)] # turn by turn, so that a busy moment hits both
    ratios = [a/b for a, b in times]
    return {"operations": share, "time": statistics.median(ratios), "spread": [min(ratios), max(ratios)]}


def denoising(data, seed: int, t: int) -> dict:
    "Denoising loss on a tenth of the images, held out from fine-tuning, before and after"
    held = np.random.default_rng(seed).permutation(len(data)) < len(data)//10
    timesteps = np.linspace(5, 995, 12).astype(int)
    before, scheduler = load_unet(data.name)
    after = DiEC(K, (before, scheduler), t=t, random_state=seed).fit(data.images[~held])
    x = after.extract_.prepare(data.images[held])
    losses = [loss_by_timestep(u, scheduler, x, timesteps) for u in (before, after.unet_)]
    return {"before": losses[0].tolist(), "after": losses[1].tolist(), "ratio": float(losses[1].mean()/losses[0].mean())}


def tables(names, seeds) -> tuple:
    "Measure everything; (facts, markdown)"
    facts, quality_rows, search_rows, exit_rows, diff_rows = {}, [], [], [], []
    for name in names:
        data = load_dataset(name)
        base = {m: [kept(f"{name}-{m.replace(' ', '-')}-{s}", lambda: baseline(data, m, s)) for s in range(seeds)] for m in BASELINES}
        runs = [kept(f"{name}-diec-{s}", lambda: quality(data, s)) for s in range(seeds)]
        stages = {f"DiEC, {k}": [r["stages"][k] for r in runs] for k in runs[0]["stages"]}
        stages = {("**DiEC**" if k == "DiEC, full" else k): v for k, v in stages.items()}
        mean_std = lambda rs, k: format_mean_std(np.mean([r[k] for r in rs]), np.std([r[k] for r in rs], ddof=1))
        for method, rs in ({f"{m}, pixels": v for m, v in base.items()} | stages).items():
            quality_rows.append({"data": name, "method": method} | {k: mean_std(rs, k) for k in ("ACC", "NMI", "ARI")})
        curve = kept(f"{name}-grid", lambda: grid(data))
        best_t = max(curve, key=curve.get)
        regrets = {}
        for criterion in ("stable_chi", "chi"):
            found = [r["search"][criterion] for r in runs]
            accuracy = [kept(f"{name}-at-{f['t']}", lambda: at_timestep(data, f["t"])) for f in found]
            regrets[criterion] = [curve[best_t] - a for a in accuracy]
            search_rows.append({"data": name, "criterion": criterion, "t*": ", ".join(str(f["t"]) for f in found),
                "evaluations": max(f["evaluations"] for f in found), "unimodal": f"{sum(f['unimodal'] for f in found)} of {seeds}",
                "best t of 50": int(best_t), "ACC there": f"{curve[best_t]:.1%}",
                "regret in ACC, points": format_mean_std(np.mean(regrets[criterion]), np.std(regrets[criterion], ddof=1)), "worst": f"{100*max(regrets[criterion]):.1f}"})
        exit_ = kept(f"{name}-early-exit", lambda: early_exit(name))
        exit_rows.append({"U-Net": name, "share of the operations": f"{exit_['operations']:.1%}", "share of the time": f"{exit_['time']:.1%}",
                          "lowest to highest": "{:.1%} to {:.1%}".format(*exit_["spread"])})
        diff = [kept(f"{name}-denoising-{s}", lambda: denoising(data, s, runs[s]["search"]["stable_chi"]["t"])) for s in range(seeds if len(data) < 3000 else 1)]
        change = [d["ratio"] - 1 for d in diff]
        diff_rows.append({"U-Net": name, "loss before": f"{np.mean([d['before'] for d in diff]):.4f}", "after": f"{np.mean([d['after'] for d in diff]):.4f}",
                          "change, %": format_mean_std(np.mean(change), np.std(change, ddof=1) if len(change) > 1 else float("nan"), digits=2), "seeds": len(diff)})
        facts[name] = {"baselines": base, "runs": runs, "grid": curve, "regret": regrets, "early_exit": exit_, "denoising": diff}
    text = f"""**Quality**, in per cent, mean ± standard deviation over {seeds} seeds.

{markdown_table(quality_rows)}

**The search for the timestep**, at the bottleneck: what it loses in k-means accuracy against the best of an exhaustive grid of {len(GRID)} timesteps, mean ± standard deviation over {seeds} seeds.

{markdown_table(search_rows)}

**Early exit**: what reading the bottleneck costs, as a share of a full forward pass (medians of turns taken side by side).

{markdown_table(exit_rows)}

**Denoising loss** on the tenth of the images held out from fine-tuning (pretraining saw all of them), mean over twelve timesteps.

{markdown_table(diff_rows)}
"""
    return facts, text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["digits", "mnist-5k"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    args = parser.parse_args()
    if args.seeds < 2: parser.error("--seeds must be 2 or more (a spread is printed)")
    if args.fresh: shutil.rmtree(KEPT, ignore_errors=True)
    warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
    facts, text = tables(args.datasets, args.seeds)
    with atomic_file(ROOT/"results"/"bars.json") as f: f.write_text(json.dumps(facts, indent=1) + "\n")
    with atomic_file(ROOT/"results"/"bars.md") as f: f.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
