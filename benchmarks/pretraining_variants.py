"""What was tried to make a step of pretraining faster: `python -m benchmarks.pretraining_variants`, about two minutes.

Each variant changes one thing of the plain step of `benchmarks.pretraining_step` and takes turns with it on one thread.
The table has the ratio of CPU seconds, plain over variant: above 1 the variant is faster. `--compile` measures
torch.compile alone, which takes some minutes. Two more tables have what a step spends its time on, and
the parts besides the passes through the network.
"""
import argparse
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
    "Milliseconds of parts besides the passes through the network, plain and otherwise"
    from diffusers.training_utils import EMAModel
    from torch.nn.utils import clip_grad_norm_
    plain, rows = Plain(images()), {}
    weights = list(plain.unet.parameters())
    plain.loss(8).backward()
    fused = torch.optim.AdamW(weights, fused=True)
    emas = [EMAModel(weights, decay=0.999, foreach=foreach) for foreach in (False, True)]
    pairs = {"AdamW; fused (kept)": (plain.optimizer.step, fused.step),
             "EMAModel; foreach": [lambda ema=ema: ema.step(weights) for ema in emas],
             "clipping; foreach": [lambda f=f: clip_grad_norm_(weights, 1., foreach=f) for f in (False, True)],
             "order of 70,000 images; once an epoch (kept)": (lambda: torch.randperm(70_000), lambda: None)}
    for name, pair in pairs.items():
        for f in pair: f()
        rows[name] = [1e3*seconds(f, n) for f in pair]
    return rows


OPERATIONS = {"convolutions": ("convolution", ), "group norm and SiLU": ("group_norm", "silu"),
              "copies, casts, upsampling": ("copy", "upsample", "stack", "cat"),
              "AdamW, EMA, clipping": ("adam", "Optimizer", "foreach", "norm", "lerp", "sqrt", "addcdiv")}


def kind(name: str) -> str:
    "The row of the table that an operation counts in"
    return next((k for k, words in OPERATIONS.items() if any(w in name for w in words)), "everything else")


def profiled(step, n: int = 3) -> dict:
    "Row of the table -> share of a step's time"
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        for _ in range(n): step()
    total, shares = 0, dict.fromkeys((*OPERATIONS, "everything else"), 0)
    for e in found.key_averages():
        shares[kind(e.key)] += e.self_cpu_time_total
        total += e.self_cpu_time_total
    return {k: v/total for k, v in shares.items()}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="steps a turn")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile alone")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    variants = {"torch.compile of the U-Net": Compiled} if args.compile else VARIANTS
    print(f"bfloat16 autocast: {BFLOAT16}\n\n| variant | plain step / variant (least to most) |\n| :-- | --: |")
    for name, r in ratios(variants, args.turns, args.steps).items():
        print(f"| {name} | {statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f}) |", flush=True)
    if args.compile: return
    x = images()
    before, now = profiled(Plain(x)), profiled(ours(x))
    print("\n| operations | share of the plain step | of our step |\n| :-- | --: | --: |")
    for k in before: print(f"| {k} | {before[k]:.0%} | {now[k]:.0%} |")
    print("\n| part | plain, ms | otherwise, ms |\n| :-- | --: | --: |")
    for name, (plain, other) in parts().items(): print(f"| {name} | {plain:.1f} | {other:.1f} |", flush=True)


if __name__ == "__main__":
    main()
