# Made from pretrain.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

from __future__ import annotations
import argparse
import copy
import json
import math
import time
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, NamedTuple
import numpy as np
import torch
from fastcore.basics import patch
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import affine_grid, conv2d, grid_sample
from tqdm.auto import tqdm
from diec.core.checkpoint import check_origin, fingerprint, load_state, save_state
from diec.core.compat import diffusers
from diec.core.distributed import has_fast_bfloat16, rank_and_world_size, warn_if_threads_differ
from diec.core.files import check_replaceable
from diec.core.interrupt import deferred_signals, finished
from diec.core.names import find_unet
from diec.core.neighbors import nearest_neighbors
from diec.core.rng import Stream, generator
from diec.core.validation import check_integer, check_number
from diec.data.datasets import dataset_names, load_dataset
from diec.data.images import as_images, fit_to
from diec.features import DEFAULT_LAYER, Extractor, Layer
from diec.search import neighbor_information
from diec.trainer import ClusterModel
from diec.unet import denoising_loss, load_unet, new_scheduler, new_unet, save_unet, unet_size
from diffusers import DDPMScheduler, UNet2DModel
__all__ = ['Recipe', 'Pretrained', 'pretrain', 'make_unet']

@dataclass(frozen=True)
class Recipe:
    """How a U-Net is pretrained.

    Parameters
    ----------
    n_steps : int, default 8000
        Optimizer steps; with early stopping, at most.
    batch_size : int, default 64
        Images a step, over all processes.
    learning_rate : float, default 1e-3
        Peak of the learning rate of AdamW.
    schedule : {"cosine", "constant"}, default "cosine"
        The learning rate after a linear warm-up: a cosine to zero at `n_steps`, or the peak to the end.
    warmup_steps : int, default 500
        Steps of warm-up.
    weight_decay : float, default 1e-2
        Weight decay of AdamW.
    ema_decay : float, default 0.999
        Decay of the exponential moving average of the weights, which is the result.
    grad_clip : float, default 1.0
        Largest norm of the gradient.
    prediction_type : str, default "epsilon"
        What the network predicts, see `new_scheduler`.
    beta_schedule : str, default "squaredcos_cap_v2"
        How noise grows, see `new_scheduler`.
    snr_gamma : float or None, default None
        Bound of the signal-to-noise ratio in min-SNR weighting (Hang et al., 2023); None weighs all timesteps alike.
    augment : float, default 0.05
        Size of random affine maps of the images, as a share of their side; 0 leaves the images as they are.
    early_stopping : bool, default False
        Stop when the embedding has stopped improving, see `embedding_information`, and return the best weights. It
        needs the constant schedule.
    n_clusters : int, default 10
        Clusters K of that measure.
    random_state : int, default 0
        Seed of weights, batches, timesteps and noise.
    """
    n_steps: int = 8000
    batch_size: int = 64
    learning_rate: float = 0.001
    schedule: str = 'cosine'
    warmup_steps: int = 500
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    grad_clip: float = 1.0
    prediction_type: str = 'epsilon'
    beta_schedule: str = 'squaredcos_cap_v2'
    snr_gamma: float | None = None
    augment: float = 0.05
    early_stopping: bool = False
    n_clusters: int = 10
    random_state: int = 0

    def check(self):
        ...
SCHEDULES = ('cosine', 'constant')

def _learning_rate(recipe: Recipe, step: int) -> float:
    ...

def loss_weight(scheduler, t, snr_gamma: float | None):
    ...

def warped(x, amount: float, g):
    ...

def _epoch_order(n: int, random_state: int, epoch: int) -> torch.Tensor:
    ...

def _batch_rows(n: int, recipe: Recipe, step: int) -> list:
    ...

def _batch(images, recipe: Recipe, step: int, n_timesteps: int):
    ...

def _two_taps(weight: torch.Tensor, dim: int) -> torch.Tensor:
    ...

class _Interleave(Function):
    """Even and odd rows and columns of an image -> the image; torch's own operations copy it twice each way"""

    @staticmethod
    def forward(ctx, y):
        ...

    @staticmethod
    def backward(ctx, grad):
        ...

def upsampled_conv(conv: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    ...

def _is_plain(m) -> bool:
    ...

@contextmanager
def upsampling_on_coarse_grid(unet):
    ...
MOST_IMAGES = 5000

def _some_rows(n: int) -> np.ndarray:
    ...

def initial_clusters(unet, scheduler, images, n_clusters: int) -> tuple:
    ...

def embedding_information(unet, scheduler, images, n_clusters: int) -> float:
    ...
FIRST_MEASURE = 4000
LEAST_RISE = 0.005

def _is_due(step: int, n_steps: int) -> bool:
    ...

def _has_ripened(values: list) -> bool:
    ...

class Pretrained(NamedTuple):
    """The result of pretraining.

    Parameters
    ----------
    unet : UNet2DModel
        The U-Net with the averaged weights, in evaluation mode.
    scheduler : DDPMScheduler
        Its noise schedule.
    history : dict
        The lists "step" and "loss", and "seconds"; with early stopping, the lists "measured" (steps) and
        "information", see `embedding_information`.
    """
    unet: UNet2DModel
    scheduler: DDPMScheduler
    history: dict

class _Run:
    """The state of a pretraining run: everything that a checkpoint must hold"""

    def __init__(self, unet, recipe: Recipe, accelerator):
        ...

    def save(self, path, origin: dict):
        ...

    def load(self, path, origin: dict):
        ...

    @property
    def over(self) -> bool:
        ...

    def measure(self, scheduler, images):
        ...

    def set_result(self):
        ...

def _fill_recipe(origin):
    ...

def _loss(run: _Run, scheduler, images):
    ...

def _train_step(run: _Run, scheduler, images) -> float:
    ...

def _start(images, recipe: Recipe, unet) -> tuple:
    ...

def pretrain(images: np.ndarray | torch.Tensor, recipe: Recipe=Recipe(), unet: UNet2DModel | None=None, checkpoint: str | Path | None=None, checkpoint_every: int=500, stop_at: int | None=None, progress: bool=True) -> Pretrained:
    ...
WINDOW = 100

def _least(loss):
    ...

def diverging(loss: list) -> bool:
    ...

def _check_loss(run: _Run, loss: float):
    ...

def _timed_step(run: _Run, scheduler, images, bar):
    ...

def _train(run: _Run, scheduler, images, end: int, checkpoint, every: int, origin: dict, progress: bool):
    ...
_CARD = '---\nlibrary_name: diffusers\nlicense: apache-2.0\ntags: [diffusion, clustering, unconditional-image-generation]\n---\n# U-Net `{name}`\n\nA `UNet2DModel` pretrained to denoise the {n:,} images of *{name}* ({source}),\n{channels} x {size} x {size} after padding, in [-1, 1]. Labels were not used.\n\nDiEC reads its features: `diec.DiEC(n_clusters=..., unet="{name}")`. It is too small to generate good images.\n\n- Parameters: {parameters:,}, stored as float16. Levels: {levels}. Cosine schedule, T = {T}.\n- Recipe: {recipe}.\n- Data checksum (SHA-256 of the images): `{checksum}`.\n- {epochs:.0f} epochs in {minutes:.0f} minutes on {device}; torch {torch}, diffusers {diffusers}.\n- Denoising loss, mean of the first 100 steps: {first:.4f}; of the last 100: {last:.4f}. The curve, in `history.json`:\n\n| step | loss (mean of a twentieth of the run) |\n| ---: | ---: |\n{curve}\n{information}\nMake it again: `{command}`.\n'

def _curve(loss) -> str:
    ...

def _information(history: dict) -> str:
    ...

def _device_name(device) -> str:
    ...

def _command(name: str, recipe: Recipe, start=None) -> str:
    ...

def _model_card(data, recipe: Recipe, trained: Pretrained, device: str | None=None, command: str | None=None) -> str:
    ...

def _files(card: str, history: dict, before: dict={}) -> dict:
    ...

def _start_from(start, recipe: Recipe) -> tuple:
    ...

def make_unet(name: str | Path, out: str | Path, checkpoint: str | Path | None=None, recipe: Recipe=Recipe(), progress: bool=True, settings: dict | None=None, start: str | Path | None=None) -> Pretrained:
    ...
UNTIL_RIPE = Recipe(n_steps=256000, schedule='constant', early_stopping=True, ema_decay=0.9995)
COOLDOWN = Recipe(n_steps=4000, warmup_steps=100, random_state=1)

def _parser() -> argparse.ArgumentParser:
    ...

def main(argv=None):
    ...
