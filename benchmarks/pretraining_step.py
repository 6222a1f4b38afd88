"""Compare a step of pretraining with a plain one: `python -m benchmarks.pretraining_step`, about a minute.

The plain step is the default recipe in torch and diffusers: AdamW, EMAModel, and bfloat16 autocast where the processor
has it. Both steps train the U-Net of mnist-5k (32x32 pixels, batches of 64) and take turns in one process on one
thread. CPU seconds are compared, since other processes change elapsed time.
"""
import argparse
import statistics
import time

from diec.core.compat import mend_torchvision

mend_torchvision() # before diffusers, which imports torchvision where it finds it

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch.nn.functional import affine_grid, grid_sample
from torch.utils.flop_counter import FlopCounterMode

from diec.app.pretrain import Recipe, _Run, _train_step
from diec.core.distributed import has_fast_bfloat16
from diec.unet import new_scheduler, new_unet, unet_size

RECIPE, N_IMAGES = Recipe(), 5_000
BFLOAT16 = has_fast_bfloat16(torch.device("cpu"))


def images() -> torch.Tensor:
    "As many images as mnist-5k has; what they show does not change the time"
    return torch.rand(N_IMAGES, 1, 32, 32, generator=torch.Generator().manual_seed(0))*2 - 1


class Plain:
    "The step of the recipe, written in plain torch and diffusers"
    autocast = BFLOAT16

    def __init__(self, x):
        self.x, self.unet, self.scheduler = x, new_unet(unet_size(28), 1).train(), new_scheduler()
        weights = self.unet.parameters()
        self.optimizer = torch.optim.AdamW(weights, RECIPE.learning_rate, weight_decay=RECIPE.weight_decay)
        self.ema = EMAModel(self.unet.parameters(), decay=RECIPE.ema_decay, use_ema_warmup=True, power=3/4)

    def loss(self, batch_size: int):
        rows = torch.randperm(len(self.x))[:batch_size]
        t, noise = torch.randint(0, 1000, (batch_size,)), torch.randn(batch_size, 1, 32, 32)
        maps = torch.eye(2, 3) + RECIPE.augment*(2*torch.rand(batch_size, 2, 3) - 1)*torch.tensor([1., 1., 2.])
        grid = affine_grid(maps, noise.shape, align_corners=False)
        x0 = grid_sample(self.x[rows], grid, padding_mode="border", align_corners=False)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            predicted = self.unet(self.scheduler.add_noise(x0, noise, t), t).sample
            return (predicted.float() - noise).square().mean()

    def __call__(self, batch_size: int = RECIPE.batch_size) -> float:
        loss = self.loss(batch_size)
        loss.backward()
        return self.update(loss)

    def update(self, loss) -> float:
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), RECIPE.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.unet.parameters())
        return loss.item()


def ours(x):
    "The step of `diec.app.pretrain`"
    run, scheduler = _Run(new_unet(unet_size(28), 1).train(), RECIPE, Accelerator(cpu=True)), new_scheduler()
    return lambda: _train_step(run, scheduler, x)


def seconds(f, n: int) -> float:
    "CPU seconds of a call, from n calls"
    start = time.process_time()
    for _ in range(n): f()
    return (time.process_time() - start)/n


def matrix_product(size: int = 1024):
    "A product of two matrices, in the type that the convolutions use, and its operations"
    a = torch.randn(size, size).to(torch.bfloat16 if BFLOAT16 else torch.float32)
    return lambda: a@a, 2*size**3


def operations(step) -> int:
    "The multiplications and additions of a step"
    with FlopCounterMode(display=False) as counted: step()
    return counted.get_total_flops()


def compare(turns: int = 5, steps: int = 3) -> dict:
    """Let the plain step and ours take turns.

    Parameters
    ----------
    turns : int, default 5
        Turns of each.
    steps : int, default 3
        Steps a turn.

    Returns
    -------
    dict
        "ratio" (plain seconds over ours, median), "ratios" (turn by turn), and for "plain", "ours" the images per CPU
        second, GFLOP/s and share of the matrix product's GFLOP/s.
    """
    torch.set_num_threads(1)
    x = images()
    (product, product_flops), variants = matrix_product(), {"plain": Plain(x), "ours": ours(x)}
    flops = {name: operations(step) for name, step in variants.items()} # also warms up
    found = {name: [] for name in (*variants, "product")}
    for _ in range(turns):
        for name, step in variants.items(): found[name].append(seconds(step, steps))
        found["product"].append(seconds(product, 10))
    peak = product_flops/min(found["product"])/1e9
    result = {"ratios": [p/o for p, o in zip(found["plain"], found["ours"])], "product_gflops": peak}
    result["ratio"] = statistics.median(result["ratios"])
    for name in variants:
        s = statistics.median(found[name])
        speed = flops[name]/s/1e9
        result[name] = {"images_per_second": RECIPE.batch_size/s, "gflop": flops[name]/1e9, "gflops": speed,
                        "share_of_product": speed/peak}
    return result


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps a turn")
    args = parser.parse_args(argv)
    found = compare(args.turns, args.steps)
    for i, ratio in enumerate(found["ratios"]): print(f"turn {i + 1}: plain step / our step = {ratio:.2f}")
    print(f"median {found['ratio']:.2f}")
    kind = "bfloat16" if BFLOAT16 else "float32"
    for name in ("plain", "ours"):
        f = found[name]
        print(f"{name:5}  {f['images_per_second']:6.1f} images per CPU second  {f['gflop']:5.1f} GFLOP a step  "
              f"{f['gflops']:5.1f} GFLOP/s = {f['share_of_product']:.0%} of a {kind} matrix product's "
              f"{found['product_gflops']:.0f}")


if __name__ == "__main__":
    main()
