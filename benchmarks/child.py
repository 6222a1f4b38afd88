"""Runs one part of DiEC for each line on its standard input, and answers with the CPU seconds.

`python -m benchmarks.against` starts it with the package of one source tree and with that of another, so it may use
only what both have.
"""
import argparse
import subprocess
import sys
import time

sys.path.pop(0) # the folder of this file; the package comes from PYTHONPATH


def images_of(dataset: str, n: int):
    "The first n images of a data set"
    from diec import load_dataset
    return load_dataset(dataset).images[:n]


def extraction(dataset: str, n: int):
    "Embeddings at the default layer"
    from diec import load_unet
    from diec.features import Extractor, Layer
    extract = Extractor(*load_unet(dataset), n_draws=4, random_state=0)
    x = extract.prepare(images_of(dataset, n))
    return lambda: extract.embed(x, (Layer("mid_block+up_blocks.0"),), 50)


def fit(dataset: str, n: int):
    "A fit with the default settings"
    from diec import DiEC
    x = images_of(dataset, n)
    return lambda: DiEC(10, unet=dataset, device="cpu", random_state=0).fit(x)


def pretraining(dataset: str, n: int):
    "Forty steps"
    from diec.app.pretrain import Recipe, pretrain
    x = images_of(dataset, n)
    return lambda: pretrain(x, Recipe(n_steps=40), progress=False)


def hierarchy(dataset: str, n: int):
    "A hierarchy over pixels"
    from diec import ReverseHierarchicalDiffusion
    x = images_of(dataset, n)
    points = x.reshape(len(x), -1)
    return lambda: ReverseHierarchicalDiffusion().fit(points)


PARTS = {"extraction": extraction, "fit": fit, "pretraining": pretraining, "hierarchy": hierarchy}
IMPORT = "import time\nfrom diec import DiEC\nprint(time.process_time())" # a process of its own, from its very start


def seconds_of(call) -> float:
    "CPU seconds of a call, on one thread, whatever an import has set"
    import torch
    torch.set_num_threads(1)
    start = time.process_time()
    call()
    return time.process_time() - start


def import_seconds() -> float:
    "CPU seconds of a process that imports the estimator"
    return float(subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=[*PARTS, "imports"])
    parser.add_argument("dataset")
    parser.add_argument("images", type=int)
    args = parser.parse_args()
    import diec
    print(diec.__file__, flush=True)
    if args.part == "imports": measured = import_seconds
    else:
        call = PARTS[args.part](args.dataset, args.images)
        def measured(): return seconds_of(call)
    for _ in sys.stdin: print(measured(), flush=True)


if __name__ == "__main__": main()
