# Made from features.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

from __future__ import annotations
import json
import logging
import math
import os
import re
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from copy import copy
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING
import numpy as np
import torch
import torch.nn.functional as F
from fastcore.basics import patch
from tqdm.auto import tqdm
from .core.checkpoint import fingerprint as tensor_checksum
from .core.compat import diffusers
from .core.distributed import Shard, has_fast_bfloat16, rank_and_world_size
from .core.files import atomic_file
from .core.interrupt import deferred_signals, finished
from .core.rng import Stream, generator
from .core.validation import check_integer, one_line
from .data.images import StoredImages, as_images, fit_to
from .networks import Adapter, block_names, first_output, network_cost
from .unet import ACTIVATION_BYTES, input_shape, unet_fingerprint
from diffusers import DDPMScheduler, UNet2DModel
from diec.networks import FlowSchedule
__all__ = ['DEFAULT_LAYER', 'layer_names', 'activations', 'image_noise', 'pool_features', 'join_features', 'Extractor']

def layer_names(unet: UNet2DModel | Adapter) -> tuple[str, ...]:
    ...

class Layer(str):
    """The name of a layer, or of several joined by "+"; `names` holds the single ones, each once"""

    def __new__(cls, name):
        ...

def split_layers(layers: str | Iterable[str]) -> tuple[Layer, ...]:
    ...

def single_names(layers: Iterable[Layer]) -> tuple[str, ...]:
    ...

def check_unet(unet):
    ...

def layer_modules(unet: UNet2DModel, layers: Iterable[Layer]) -> dict:
    ...

class _LastLayer(Exception):
    """Raised inside a forward pass after the last of the wanted layers"""

@contextmanager
def _hooked(modules: dict, early_exit: bool, as_map: Callable):
    ...

def activations(unet: UNet2DModel | Adapter, xt: torch.Tensor, t: int | torch.Tensor, layers: str | Iterable[str], early_exit: bool=True) -> dict[str, torch.Tensor]:
    ...

def _run_to_layers(unet, xt, t, layers: tuple[Layer, ...], early_exit: bool) -> dict:
    ...

def _has_trunk(unet: UNet2DModel, layers: Iterable[Layer]) -> bool:
    ...

class Trunk(torch.nn.Module):
    """A U-Net up to the deepest of some blocks: images and timesteps (B,) to the activations of these blocks, by name"""

    def __init__(self, unet: UNet2DModel, layers: Iterable[Layer]):
        ...

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> dict:
        ...

    def blocks(self, x: torch.Tensor, emb: torch.Tensor) -> list:
        ...

def image_noise(images: torch.Tensor, n_draws: int, random_state: int=0, shape: tuple[int, ...] | None=None) -> torch.Tensor:
    ...

def pool_features(a: torch.Tensor, max_side: int=4) -> torch.Tensor:
    ...

def join_features(found: dict[str, torch.Tensor], layer: str, max_side: int=4) -> torch.Tensor:
    ...
DEFAULT_LAYER = 'mid_block+up_blocks.0'

def mean_over_draws(draws: Iterable[dict], n_draws: int) -> dict:
    ...
PRECISIONS = ('auto', 'float32', 'bfloat16')

def resolve_precision(precision: str, device: torch.device) -> str:
    ...

class Extractor:
    compiler_fails = False
    unit_range = False

    def __init__(self, unet: UNet2DModel | Adapter, scheduler: DDPMScheduler | FlowSchedule, n_draws: int=2, random_state: int=0, batch_size: int=256, max_side: int=4, max_bytes: int=2 ** 31, cache_dir: str | Path | None=None, precision: str='auto'):
        ...

    def _memory(self) -> int:
        ...

    def _max_batch_size(self) -> int:
        ...

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        ...

    def noised(self, x0: torch.Tensor, t: int) -> torch.Tensor:
        ...

    def arithmetic(self):
        ...

    def read(self, xt: torch.Tensor, t: int, layers: tuple[Layer, ...]) -> dict:
        ...

    def draw_batch(self, x0: torch.Tensor, layers: tuple[Layer, ...], t: int) -> Iterator[dict]:
        ...

    def embed_batch(self, x0: torch.Tensor, layers: tuple[Layer, ...], t: int) -> dict:
        ...

    def noise_shares(self, images: torch.Tensor, layers: tuple[Layer, ...], t: int) -> dict:
        ...

    def with_draws(self, n_draws: int) -> Extractor:
        ...

    def enough_draws(self, images: torch.Tensor, layers: tuple[Layer, ...], t: int) -> int:
        ...

    def prepare(self, images: np.ndarray | torch.Tensor) -> torch.Tensor:
        ...

    def fit_to_unet(self, images: torch.Tensor) -> torch.Tensor:
        ...

    def check_layer(self, layer: Layer):
        ...

    def check_timestep(self, t: int) -> int:
        ...

    def _check_prepared(self, images):
        ...

    def fingerprint(self, images: torch.Tensor, **settings) -> str:
        ...

    def cache_name(self, images: torch.Tensor, layers: tuple[Layer, ...], t: int) -> str:
        ...

    def clear_stale(self):
        ...

    def compiling_pays(self, layers: tuple[Layer, ...], n_images: int) -> bool:
        ...

    def _compile(self, layers: tuple[Layer, ...]) -> bool:
        ...

    @contextmanager
    def compiled_for(self, layers: tuple[Layer, ...], n_images: int):
        ...

    def embed(self, images: torch.Tensor, layers: str | Iterable[str], t: int, progress: bool=False) -> dict:
        ...

    def _store(self, images, layers, t: int, shard: Shard) -> EmbeddingArrays:
        ...

    def __call__(self, images: np.ndarray | torch.Tensor, layers: str | Iterable[str], t: int, progress: bool=False) -> dict:
        ...

    def draws(self, images: torch.Tensor, layers: str | Iterable[str], t: int, progress: bool=False) -> dict:
        ...
Extractor.__doc__ = 'Read the embeddings e_bar(l, t) of images off a diffusion model.\n\nParameters\n----------\nunet : UNet2DModel or Adapter\n    The pretrained network, which is not changed.\nscheduler : DDPMScheduler or FlowSchedule\n    Its noise schedule.\nn_draws : int, default 2\n    Noise draws R that an embedding is averaged over, 1 or more; see `image_noise`.\nrandom_state : int, default 0\n    Seed of the noise.\nbatch_size : int, default 256\n    Images in one forward pass; reduced where activations or draws would take more than `ACTIVATION_BYTES`.\nmax_side : int, default 4\n    Largest height and width of a pooled map, see `pool_features`.\nmax_bytes : int, default 2**31\n    Embeddings of a data set that take more bytes are stored in a temporary file instead of memory.\ncache_dir : str, Path or None, default None\n    Folder in which embeddings are cached, so that an interrupted or repeated call does not compute them twice.\nprecision : {"auto", "float32", "bfloat16"}, default "auto"\n    Arithmetic of the forward pass; see `resolve_precision`.\n'
MAX_PIXELS = 2 ** 22
LATENT_BYTES = 2 ** 28

@contextmanager
def _bfloat16(device: str):
    ...
NOISE_SHARE = 0.02
PROBE = 32

def noise_share(first: torch.Tensor, second: torch.Tensor) -> float:
    ...

def _reserve(f, n_bytes: int):
    ...

def _allocate(shape: tuple, max_bytes: int) -> np.ndarray:
    ...

class EmbeddingArrays:
    """The embeddings of a data set, filled batch by batch: layer -> (N, D)"""

    def __init__(self, n_images: int, max_bytes: int):
        ...

    def allocate(self, layer: str, n_features: int) -> np.ndarray:
        ...

    def write(self, where: slice, batch: dict):
        ...

    def result(self) -> dict:
        ...
SAVE_INTERVAL = 30

class EmbeddingCache(EmbeddingArrays):
    """Embeddings in files, with an index of the completed batches of this process"""

    def __init__(self, folder: Path, name: str, n_images: int, n_batches: int, max_bytes: int=2 ** 31):
        ...

    def _read_index(self):
        ...

    def _open(self, i: int, n_features: int, mode: str='r+') -> np.memmap:
        ...

    def allocate(self, layer: str, n_features: int) -> np.memmap:
        ...

    def _checksum(self, where: slice) -> int:
        ...

    def write(self, where: slice, batch: dict):
        ...

    def save(self):
        ...

    def result(self) -> dict:
        ...

def delete_stale(folder: str | Path, used: set):
    ...

class CompiledTrunk:
    """A trunk that is compiled for batches of one size"""

    def __init__(self, trunk: Trunk, batch_size: int, backend: str='inductor'):
        ...

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> dict:
        ...
COMPILE_FLOPS = {'avx512_bf16': 200000000000000.0, 'amx': 20000000000000.0}

def _bar(batches: list, t: int, progress: bool) -> Iterable[slice]:
    ...
