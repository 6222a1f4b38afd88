"""Measure the U-Nets of the package after their cooldown, as `workflow.pretrain_on_gpu` measured them before it.

    python -m workflow.measure_cooldown mnist cifar10

The result goes into `curve.json` of the U-Net. The scores in it are for display; nothing is chosen by them.
"""
from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import torch

from diec.core.names import find_unet, unet_names
from diec.unet import load_unet, save_unet
from workflow.pretrain_on_gpu import JOBS, mean_loss, measure


def add_measure(folder: Path) -> dict:
    """Measure the cooled U-Net of a folder, and write the result into its curve."""
    files = {name: (folder/name).read_text() for name in ("README.md", "history.json", "curve.json")}
    history, curve = json.loads(files["history.json"]), json.loads(files["curve.json"])
    if "before" not in history: sys.exit(f"{folder} must hold a U-Net after its cooldown, got one without")
    n_steps = re.search(r"n_steps (\d+)", files["README.md"])[1] # of the last run; the one before comes after it
    values = measure(str(folder), JOBS[folder.name], torch.get_num_threads(), "cpu")
    curve["cooldown"] = {"steps": int(n_steps), "loss": mean_loss(history["loss"])} | values
    files["curve.json"] = json.dumps(curve, indent=1) + "\n"
    save_unet(folder, *load_unet(folder), files, half=True)
    return curve["cooldown"]


def main(argv=None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m workflow.measure_cooldown", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="+", choices=sorted({*JOBS} & {*unet_names()}), help="U-Nets of the package")
    for name in parser.parse_args(argv).names: print(name, json.dumps(add_measure(find_unet(name))))


if __name__ == "__main__": main()
