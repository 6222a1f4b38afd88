"""What makes a pass of the extraction fast: `python -m benchmarks.extraction`, two to four minutes.

Passes through the U-Net of mnist-5k up to the default layer, in turns: with hooks in float32, by the trunk in float32
and in bfloat16, and compiled in both, which needs a C++ compiler. Prints images a CPU second, the speed over that of
hooks in float32, the share of the machine's matrix products, and how long compiling took.
"""
import argparse
import time
import warnings
from statistics import median

import torch

from diec.app.speed import flops_to_layer, in_turns, limits, matrix_products
from diec.evaluation.metrics import markdown_table
from diec.features import DEFAULT_LAYER, Extractor, activations, split_layers
from diec.unet import load_unet

LAYER, T = split_layers(DEFAULT_LAYER), 200


def compiled_pass(extract: Extractor, x: torch.Tensor) -> dict:
    "A pass of the trunk, which the first one compiles"
    with extract.compiled_for(LAYER, len(x)): return extract.read(x, T, LAYER)


def passes(batch_size: int) -> tuple: # name -> call of one batch; name -> seconds of compiling
    "The variants"
    unet, scheduler = load_unet("mnist-5k")
    x = torch.randn(batch_size, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    calls, compiling = {"hooks, float32": lambda: activations(unet, x, T, LAYER)}, {}
    for precision in ("float32", "bfloat16"):
        extract = Extractor(unet, scheduler, batch_size=batch_size, precision=precision)
        calls[f"trunk, {precision}"] = lambda extract=extract: extract.read(x, T, LAYER)
        compiled = Extractor(unet, scheduler, batch_size=batch_size, precision=precision)
        compiled.compiling_pays = lambda *args: True
        start = time.perf_counter()
        compiled_pass(compiled, x)
        if compiled.compiled: # else there is no compiler
            compiling[f"compiled, {precision}"] = time.perf_counter() - start
            calls[f"compiled, {precision}"] = lambda extract=compiled: compiled_pass(extract, x)
    return calls, compiling


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=256, help="images in a pass (default: 256)")
    parser.add_argument("--turns", type=int, default=7, help="turns of each (default: 7)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore") # dynamo's remarks on diffusers
    with torch.no_grad():
        calls, compiling = passes(args.batch_size)
        seconds = in_turns(calls | matrix_products(), args.turns)
    limit, flops = limits(seconds), flops_to_layer(load_unet("mnist-5k")[0])*args.batch_size
    rows = []
    for name in calls:
        ratios = sorted(a/b for a, b in zip(seconds["hooks, float32"], seconds[name]))
        s = median(seconds[name])
        rows.append({"pass": name, "images/s": round(args.batch_size/s),
                     "speed": f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                     **{f"% of {kind} product": round(100*flops/s/1e9/most) for kind, most in limit.items()},
                     "seconds of compiling": f"{compiling[name]:.0f}" if name in compiling else ""})
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
