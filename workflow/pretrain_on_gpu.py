"""Pretrain several U-Nets side by side on one GPU, by the recipe of `diec.app.pretrain`.

    python -m workflow.pretrain_on_gpu OUT --minutes 20

A U-Net this small leaves most of a GPU idle, so each one trains in a thread with a stream of its own, and a step is one
replay of a CUDA graph. The averaged weights are saved and measured, by processes on the CPU, after 500, 1,000, 2,000,
... steps. A run ends when its embedding has stopped improving, by the rule of `diec.app.pretrain`, or when the time is
up. OUT then holds a folder for each run: the U-Net, its model card and `curve.json`, with the measures at each of those
steps. The scores in it are for display; nothing here is chosen by them.
"""
from __future__ import annotations

import argparse
import json
import math
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from diec.app import pretrain as recipes
from diec.app.pretrain import UNTIL_RIPE, Pretrained, Recipe
from diec.data.datasets import load_dataset
from diec.data.images import fit_to
from diec.evaluation.metrics import knn_accuracy, scores
from diec.search import neighbor_information
from diec.unet import denoising_loss, load_unet, new_scheduler, new_unet, save_unet, unet_size

WIDE = replace(UNTIL_RIPE, batch_size=128, learning_rate=5e-4)
FIRST_LOOK = 500 # steps; then each time that they have doubled
HOST_STEPS = 50 # steps between looks at the clock


@dataclass(frozen=True)
class Job:
    """One U-Net to pretrain."""

    name: str
    dataset: str
    recipe: Recipe = UNTIL_RIPE
    channels: tuple[int, ...] | None = None
    n_images: int | None = None # the first ones of the data set; None: all


JOBS = {job.name: job for job in (
    Job("usps", "usps"),
    Job("mnist", "mnist"),
    Job("mnist-60k", "mnist", n_images=60_000),
    Job("fashion-mnist", "fashion-mnist"),
    Job("cifar10", "cifar10"),
    Job("fashion-mnist-min-snr", "fashion-mnist", replace(UNTIL_RIPE, n_steps=16_000, snr_gamma=5.)),
    Job("fashion-mnist-not-augmented", "fashion-mnist", replace(UNTIL_RIPE, n_steps=16_000, augment=0.)),
    Job("fashion-mnist-wide", "fashion-mnist", WIDE, (48, 96, 192, 256)),
    Job("fashion-mnist-large-batch", "fashion-mnist", WIDE),
    Job("cifar10-wide", "cifar10", WIDE, (64, 128, 192, 256)),
)}


def load_data(job: Job):
    """The images of a job."""
    data = load_dataset(job.dataset)
    return data.subset(slice(job.n_images)) if job.n_images else data


def load_images(job: Job):
    """The images of a job, and the same as the U-Net takes them."""
    data = load_data(job)
    images = torch.as_tensor(data.images)
    return data, fit_to(images, unet_size(max(images.shape[-2:])), images.shape[1])


class Trainer:
    """The state of one run on a device, and its training step."""

    def __init__(self, job: Job, images: torch.Tensor, device: torch.device, dtype=torch.bfloat16,
                 layout=torch.contiguous_format):
        self.job, self.recipe, self.device = job, job.recipe, device
        self.images, self.dtype, self.layout = images.to(device), dtype, layout
        unet = new_unet(images.shape[-1], images.shape[1], job.channels, job.recipe.random_state)
        self.unet = unet.to(device, memory_format=layout).train()
        self.scheduler = new_scheduler()
        self.scheduler.alphas_cumprod = self.scheduler.alphas_cumprod.to(device)
        self.parameters = list(self.unet.parameters())
        self.averaged = [p.detach().clone() for p in self.parameters]
        on_gpu = device.type == "cuda"
        lr = torch.tensor(self.recipe.learning_rate, device=device) if on_gpu else self.recipe.learning_rate
        self.optimizer = torch.optim.AdamW(self.parameters, lr=lr, weight_decay=self.recipe.weight_decay,
                                           fused=True, capturable=on_gpu)
        self.count = torch.zeros((), dtype=torch.long, device=device) # steps, as the graph sees them
        self.losses = torch.zeros(self.recipe.n_steps + 100, device=device)
        self.weight = recipes.loss_weight(new_scheduler(), torch.arange(1000), self.recipe.snr_gamma).to(device)
        self.order = torch.arange(len(images), device=device)
        self.random = torch.Generator(device).manual_seed(self.recipe.random_state)
        self.step, self.seconds, self.graph = 0, 0., None
        self.stream = torch.cuda.Stream(device) if on_gpu else None

    def reshuffle(self) -> None:
        """Draw the order of an epoch. Its last images, fewer than a batch, wait for a later epoch."""
        self.order.copy_(torch.randperm(len(self.images), device=self.device, generator=self.random))

    def batch(self) -> tuple:
        """Images under small affine maps, timesteps and noise."""
        size, draw = self.recipe.batch_size, {"device": self.device, "generator": self.random}
        start = (self.count % (len(self.images)//size))*size
        x = self.images[self.order[start + torch.arange(size, device=self.device)]]
        x = recipes.warped(x, self.recipe.augment, self.random)
        t = torch.randint(0, self.scheduler.config.num_train_timesteps, (size,), **draw)
        return x.to(memory_format=self.layout), t, torch.randn(x.shape, **draw).to(memory_format=self.layout)

    def update(self) -> None:
        """One optimizer step. Everything that changes from step to step is on the device."""
        x, t, noise = self.batch()
        with torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32, cache_enabled=False):
            loss = (self.weight[t]*denoising_loss(self.unet, self.scheduler, x, t, noise)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.grad_clip, foreach=True)
        self.count += 1
        if self.device.type == "cuda":
            warm = (self.count.float()/self.recipe.warmup_steps).clamp(max=1.)
            self.optimizer.param_groups[0]["lr"].copy_(self.recipe.learning_rate*warm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average()
        self.losses.index_copy_(0, self.count[None] - 1, loss.detach().float()[None])

    @torch.no_grad()
    def average(self) -> None:
        """Move the averaged weights, as `EMAModel` of diffusers does with its warm-up."""
        decay = (1 - self.count.float()**-0.75).clamp(0, self.recipe.ema_decay)
        moves = torch._foreach_sub(self.parameters, self.averaged)
        torch._foreach_mul_(moves, 1 - decay)
        torch._foreach_add_(self.averaged, moves)

    def capture(self) -> None:
        """Record a step as a CUDA graph; the steps that it takes to get there count as training."""
        with torch.cuda.stream(self.stream):
            self.reshuffle()
            for _ in range(4): self.update()
            self.step = 4
            self.stream.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            self.graph.register_generator_state(self.random)
            with torch.cuda.graph(self.graph, stream=self.stream): self.update()
        torch.cuda.synchronize()

    def advance(self, to: int) -> None:
        """Take steps until step `to`."""
        started, epoch = time.perf_counter(), len(self.images)//self.recipe.batch_size
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            while self.step < to:
                if self.step % epoch == 0: self.reshuffle()
                self.graph.replay() if self.graph else self.update()
                self.step += 1
            if self.stream: self.stream.synchronize()
        self.seconds += time.perf_counter() - started

    def history(self) -> dict:
        """The loss of each step so far."""
        steps, losses = list(range(1, self.step + 1)), self.losses[:self.step].tolist()
        return {"step": steps, "loss": losses, "seconds": self.seconds, "measured": [], "information": []}

    def snapshot(self, folder: Path) -> None:
        """Save the U-Net with its averaged weights."""
        unet = new_unet(self.images.shape[-1], self.images.shape[1], self.job.channels).eval()
        with torch.no_grad():
            for p, mean in zip(unet.parameters(), self.averaged, strict=True): p.copy_(mean.cpu())
        save_unet(folder, unet, new_scheduler(), half=True)


VARIANTS = ((torch.bfloat16, torch.contiguous_format), (torch.bfloat16, torch.channels_last),
            (torch.float32, torch.contiguous_format))


def fastest(job: Job, images: torch.Tensor, device: torch.device) -> tuple:
    """The arithmetic and memory layout in which a U-Net trains fastest: measured."""
    rates = {}
    for variant in VARIANTS:
        trainer = Trainer(job, images, device, *variant)
        trainer.capture()
        trainer.advance(10)
        trainer.seconds = 0.
        trainer.advance(60)
        rates[variant] = 50/trainer.seconds
    print(job.name, {f"{dtype}, {layout}": round(rate) for (dtype, layout), rate in rates.items()}, flush=True)
    return max(rates, key=rates.get)


def measure(folder: str, job: Job, threads: int, device: str) -> dict:
    """The label-free measure of a snapshot, and scores of its initial clusters for the curve."""
    torch.set_num_threads(threads)
    data, images = load_images(job)
    unet, scheduler = load_unet(folder)
    z, found, near = recipes.initial_clusters(unet.to(device), scheduler, images, job.recipe.n_clusters)
    values = {"information": neighbor_information(found, near)}
    if data.labels is not None:
        labels = np.asarray(data.labels)[recipes._some_rows(len(images))]
        values |= {**scores(labels, found), "vote": knn_accuracy(z, labels)}
    return values


def mean_loss(losses: list[float]) -> float:
    """The denoising loss over the last fifth of the steps so far."""
    return float(np.mean(losses[4*len(losses)//5:]))


class Run(threading.Thread):
    """A thread that trains one U-Net until it is ripe or the time is up."""

    def __init__(self, trainer: Trainer, out: Path, pool: ProcessPoolExecutor, deadline: float, threads: int):
        super().__init__(name=trainer.job.name, daemon=True)
        self.trainer, self.out, self.pool, self.deadline, self.threads = trainer, out, pool, deadline, threads
        self.pending, self.failed = {}, None

    def values(self) -> dict[int, dict]:
        """What has been measured so far, by step."""
        done = {step: f for step, f in sorted(self.pending.items()) if f.done() and not f.cancelled()}
        return {step: f.result() for step, f in done.items() if not f.exception()}

    def eligible(self) -> dict[int, dict]:
        """Of these, the steps that the recipe looks at, and the last one."""
        return {step: v for step, v in self.values().items() if step >= min(recipes.FIRST_MEASURE, max(self.pending))}

    def over(self) -> bool:
        """Whether the recipe is done or the time is up."""
        ripe = recipes._has_ripened([v["information"] for v in self.eligible().values()])
        return ripe or self.trainer.step >= self.trainer.recipe.n_steps or time.time() > self.deadline

    def look(self, device: str = "cpu") -> None:
        """Save this step, and have it measured; by default by the CPU, since the GPU is busy."""
        t = self.trainer
        folder = self.out/"snapshots"/t.job.name/str(t.step)
        with torch.cuda.stream(t.stream) if t.stream else nullcontext(): t.snapshot(folder)
        self.pending[t.step] = self.pool.submit(measure, str(folder), t.job, self.threads, device)

    def run(self) -> None:
        """Train."""
        try:
            while not self.over():
                t = self.trainer
                due = FIRST_LOOK*2**max(0, math.ceil(math.log2((t.step + 1)/FIRST_LOOK)))
                t.advance(min(t.step + HOST_STEPS, due, t.recipe.n_steps))
                if t.step == due: self.look()
                if not math.isfinite(float(t.losses[t.step - 1])): raise FloatingPointError(f"loss at {t.step}")
            if self.trainer.step not in self.pending: self.look(self.trainer.device.type)
        except Exception as error: # reported by the main thread
            self.failed = error

    def state(self) -> str:
        """One line."""
        values = list(self.values().values())
        last = f"{values[-1]['information']:.4f}" if values else "-"
        return f"{self.name} {self.trainer.step} ({self.trainer.step/max(1e-9, self.trainer.seconds):.0f}/s) {last}" + (
            f" FAILED {self.failed!r}" if self.failed else "" if self.is_alive() else " over")

    def finish(self) -> None:
        """Write the result: the measured snapshot with the most information, its card and the curve."""
        t, values = self.trainer, self.values()
        chosen = self.eligible()
        history = t.history() | {"measured": list(chosen), "information": [v["information"] for v in chosen.values()]}
        best = max(chosen, key=lambda step: chosen[step]["information"]) if chosen else max(self.pending)
        data = load_data(t.job)
        unet, scheduler = load_unet(self.out/"snapshots"/t.job.name/str(best))
        curve = {"recipe": asdict(t.recipe), "images": len(t.images), "step": best, "seconds": t.seconds,
                 "curve": {str(step): v | {"loss": mean_loss(history["loss"][:step])} for step, v in values.items()}}
        files = recipes._files(self.card(data, Pretrained(unet, scheduler, history)), history)
        files["curve.json"] = json.dumps(curve, indent=1) + "\n"
        save_unet(self.out/t.job.name, unet, scheduler, files, half=True)

    def card(self, data, trained: Pretrained) -> str:
        """The model card."""
        job, device = self.trainer.job, self.trainer.device
        again = f"python -m workflow.pretrain_on_gpu FOLDER {job.name}"
        if job.name == job.dataset: again += f"` on a GPU, or `{recipes._command(job.name, job.recipe)}"
        text = recipes._model_card(data, job.recipe, trained, recipes._device_name(device), again)
        if job.name != job.dataset: # it is not the U-Net of that name in the package
            text = text.replace(f"# U-Net `{job.dataset}`", f"# U-Net `{job.name}`")
            text = text.replace(f'unet="{job.dataset}"', 'unet="FOLDER"')
        measured = zip(trained.history["measured"], trained.history["information"], strict=True)
        if recipes._has_ripened([v for step, v in measured if recipes._is_due(step, job.recipe.n_steps)]): return text
        why = "\nThe run ended when its time was up; by the recipe it would go on.\n"
        return text.replace("\nMake it again", f"{why}\nMake it again")


def train(names, out: Path, minutes: float, wait: float = 1., workers: int = 8, threads: int = 2, jobs=JOBS) -> list:
    """Train the named U-Nets until all are ripe or the time is up, wait for what is being measured, and write them.

    Returns the names of those that failed.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
    out.mkdir(parents=True, exist_ok=True)
    deadline = time.time() + 60*minutes
    cache = {}
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        runs, variants = [], {}
        for name in names:
            job = jobs[name]
            key = job.dataset, job.n_images
            if key not in cache: cache[key] = load_images(job)[1].to(device)
            if device.type == "cuda":
                shape = job.recipe.batch_size, job.channels
                if shape not in variants: variants[shape] = fastest(job, cache[key], device)
                trainer = Trainer(job, cache[key], device, *variants[shape])
                trainer.capture()
            else: trainer = Trainer(job, cache[key], device)
            print(f"{name}: {sum(p.numel() for p in trainer.parameters):,} parameters, ready", flush=True)
            runs.append(Run(trainer, out, pool, deadline, threads))
        for run in runs: run.start()
        while any(run.is_alive() for run in runs):
            for run in runs: run.join(10/len(runs))
            print(f"{deadline - time.time():.0f} s left:", "; ".join(run.state() for run in runs), flush=True)
        until = time.time() + 60*wait
        while time.time() < until and any(not f.done() for run in runs for f in run.pending.values()): time.sleep(1)
        for run in runs:
            for f in run.pending.values(): f.cancel()
            if run.pending: run.finish()
            print(run.state(), json.dumps(run.values()), flush=True)
        for process in list(pool._processes.values()): process.terminate()
    return [run.name for run in runs if run.failed]


def main(argv=None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m workflow.pretrain_on_gpu", description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("names", nargs="*", default=list(JOBS), help=f"of {', '.join(JOBS)}; all if none is named")
    parser.add_argument("--minutes", type=float, default=20., help="time for training")
    parser.add_argument("--wait", type=float, default=1., help="minutes that measuring may take after it")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.names if name not in JOBS]:
        parser.error(f"names must be of {', '.join(JOBS)}, got {unknown[0]}")
    if failed := train(args.names, args.out, args.minutes, args.wait): sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__": main()
