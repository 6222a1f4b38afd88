"""What was tried to make a step of pretraining faster: `python -m benchmarks.pretraining_variants`, about two minutes.

Each variant changes one thing of the plain step of `benchmarks.pretraining_step` and takes turns with it on one thread. The
table has the ratio of CPU seconds, plain over variant: above 1 the variant is faster. With `--compile`, torch.compile is
among them, which takes some minutes more. A second table has the parts of a step, plain and ours.
"""
import argparse
import ctypes
import resource
import statistics
import time
import warnings

import torch

from benchmarks.pretraining_step import BFLOAT16, RECIPE, Plain, images, ours, seconds
from diec.app.pretrain import upsampling_on_coarse_grid

B = RECIPE.batch_size


class ChannelsLast(Plain):
    def __init__(self, x):
        super().__init__(x)
        self.unet.to(memory_format=torch.channels_last)


class Float32(Plain):
    autocast = False


class Bfloat16Weights(Plain):
    "The U-Net computes with weights in bfloat16; float32 weights are updated, and copied to it"
    def __call__(self, batch_size=B):
        copies = {k: p.detach().bfloat16().requires_grad_() for k, p in self.unet.named_parameters()}
        loss = self.functional_loss(copies, batch_size)
        loss.backward()
        for k, p in self.unet.named_parameters(): p.grad = copies[k].grad.float()
        return self.update(loss)

    def functional_loss(self, weights, batch_size):
        unet, self.unet = self.unet, lambda x, t: torch.func.functional_call(unet, weights, (x, t))
        try: return self.loss(batch_size)
        finally: self.unet = unet


class CoarseGrid(Plain):
    def loss(self, batch_size):
        with upsampling_on_coarse_grid(self.unet): return super().loss(batch_size)


class SmallBatches(Plain):
    "Four batches of 16, whose gradients add up"
    def __call__(self, batch_size=B):
        for _ in range(4):
            loss = self.loss(batch_size//4)/4
            loss.backward()
        return self.update(loss)


class Compiled(Plain):
    def __init__(self, x):
        super().__init__(x)
        self.eager, start = self.unet, time.perf_counter()
        self.unet = torch.compile(self.eager, dynamic=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore") # dynamo's about a cached function of diffusers
            self()
        print(f"torch.compile took {time.perf_counter() - start:.0f} seconds")


VARIANTS = {"bfloat16 autocast off (float32)": Float32, "weights and images in channels_last": ChannelsLast,
            "weights in bfloat16, float32 copies for the optimizer": Bfloat16Weights,
            "four batches of 16 in place of one of 64": SmallBatches,
            "upsampling layers computed on the coarse grid": CoarseGrid, "all that is kept: our step": ours}


def ratios(variants: dict, turns: int, steps: int) -> dict:
    "Name -> plain seconds over the variant's, turn by turn"
    x, found = images(), {name: [] for name in variants}
    plain, made = Plain(x), {name: make(x) for name, make in variants.items()}
    for step in (plain, *made.values()): step()
    for _ in range(turns):
        reference = seconds(plain, steps)
        for name, step in made.items(): found[name].append(reference/seconds(step, steps))
    return found


def parts(n: int = 20) -> dict:
    "Milliseconds of the parts besides forward and backward passes, plain and as they are now"
    from diffusers.training_utils import EMAModel
    from torch.nn.utils import clip_grad_norm_
    plain, rows = Plain(images()), {}
    weights = list(plain.unet.parameters())
    plain.loss(8).backward()
    fused = torch.optim.AdamW(weights, fused=True)
    ema = EMAModel(weights, decay=0.999, foreach=True)
    pairs = {"AdamW, fused": (plain.optimizer.step, fused.step),
             "EMA, foreach": (lambda: plain.ema.step(weights), lambda: ema.step(weights)),
             "clipping, foreach": (lambda: clip_grad_norm_(weights, 1.), lambda: clip_grad_norm_(weights, 1., foreach=True)),
             "order of 70,000 images, kept for an epoch": (lambda: torch.randperm(70_000), lambda: None)}
    for name, pair in pairs.items():
        for f in pair: f()
        rows[name] = [1e3*seconds(f, n) for f in pair]
    return rows


def faults(steps: int = 3) -> str:
    "Seconds in the system, with glibc's own settings and if it keeps freed memory"
    step, found = ours(images()), []
    for keep in (False, True):
        if keep: ctypes.CDLL(None).mallopt(-1, 2**31 - 1), ctypes.CDLL(None).mallopt(-3, 2**30)
        step()
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(steps): step()
        after = resource.getrusage(resource.RUSAGE_SELF)
        found.append((after.ru_stime - before.ru_stime)/steps*1e3)
    return "page faults: {:.0f} ms a step in the system; {:.0f} ms if glibc keeps freed memory".format(*found)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="steps a turn")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    extra = {"torch.compile of the U-Net": Compiled} if args.compile else {}
    print(f"bfloat16 autocast: {BFLOAT16}\n\n| variant | plain step / variant (least to most) |\n| :-- | --: |")
    for name, r in ratios(VARIANTS | extra, args.turns, args.steps).items():
        print(f"| {name} | {statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f}) |", flush=True)
    print("\n| part | plain, ms | now, ms |\n| :-- | --: | --: |")
    for name, (before, now) in parts().items(): print(f"| {name} | {before:.1f} | {now:.1f} |", flush=True)
    print(f"\n{faults()}")


if __name__ == "__main__":
    main()
