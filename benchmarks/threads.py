"""Measure the cost of threads on a busy machine: `python -m benchmarks.threads`, about five minutes.

Pretraining steps of the default recipe (32x32 images, batches of 64) run next to processes that keep two cores busy.
Each variant runs in its own process, because OpenMP reads its settings when it is loaded. The variants take turns of a
few steps, so that all meet the same load. The result is the median over the turns and its ratio to one thread. Run it
on two cores without other work.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time

from benchmarks.measure import Child

VARIANTS = { # environment variables to set, or None to unset
    "one thread": {"OMP_NUM_THREADS": "1"},
    "threads that spin (OpenMP's default)": {"OMP_WAIT_POLICY": None, "GOMP_SPINCOUNT": None},
    "threads that wait passively (diec's default)": {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": None},
}
SETTINGS = "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"


def serve():
    "For each number n on standard input, run n steps and print the seconds of one"
    import torch

    from diec.app.pretrain import Recipe, pretrain
    from diec.unet import new_unet
    unet, images = new_unet(32), torch.rand(256, 1, 32, 32)*2 - 1
    print(torch.get_num_threads(), flush=True)
    for line in sys.stdin:
        history = pretrain(images, Recipe(n_steps=int(line)), unet, progress=False).history
        print(history["seconds"]/int(line), flush=True)


def child(settings: dict) -> Child:
    "A process that serves steps with some settings of OpenMP"
    env = {k: v for k, v in os.environ.items() if k not in SETTINGS} | {k: v for k, v in settings.items() if v}
    return Child(["-m", "benchmarks.threads", "--serve"], env=env)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5, help="turns of each variant, at most (default: 5)")
    parser.add_argument("--seconds", type=float, default=200,
                        help="start no further turn after this time, but run at least three (default: 200)")
    parser.add_argument("--steps", type=int, default=1, help="steps per turn (default: 1)")
    parser.add_argument("--busy", type=int, default=2, help="busy processes next to the variants (default: 2)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.serve: return serve()
    children, others = {name: child(settings) for name, settings in VARIANTS.items()}, []
    try:
        threads = {name: int(p.answer()) for name, p in children.items()}
        for p in children.values(): p.ask("1") # the first step is slow for other reasons
        others += [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(args.busy)]
        seconds = {name: [] for name in children}
        start, turns = time.perf_counter(), 0
        while turns < args.turns and (turns < 3 or time.perf_counter() - start < args.seconds):
            turns += 1
            for name, p in children.items(): seconds[name].append(p.ask(str(args.steps)))
    finally:
        for p in children.values(): p.stop()
        for p in others:
            p.kill()
            p.wait()
    report(seconds, threads, turns, args.busy)


def report(seconds: dict, threads: dict, turns: int, busy: int):
    "Print a line for each variant"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{cores} cores, {busy} busy processes; seconds per step, median of {turns} turns (lowest to highest)")
    least = statistics.median(seconds["one thread"])
    for name, s in seconds.items():
        median = statistics.median(s)
        print(f"{name:46s} {threads[name]} thread(s)   {median:6.2f}   ({min(s):.2f} to {max(s):.2f})"
              f"   {median/least:5.2f} times one thread")


if __name__ == "__main__":
    main()
