# Made from features.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

__all__ = ['DEFAULT_LAYER', 'SAVE_INTERVAL', 'MAX_PIXELS', 'layer_names', 'split_layers', 'layer_modules', 'activations', 'image_noise', 'pool_features', 'join_features', 'EmbeddingCache', 'Extractor']
import hashlib, json, math, os, re, tempfile, time, zlib
from contextlib import contextmanager, suppress
from pathlib import Path
import numpy as np
from fastcore.basics import patch
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm
from .core.files import atomic_file
from .core.validation import check_integer
from .data.images import as_images, fit_to
from .core.interrupt import deferred_signals, finished
from .core.distributed import all_reduce, rank_and_world_size
from .core.rng import Stream, generator
from .unet import ACTIVATION_BYTES, UNet2DModel, forward_cost, unet_fingerprint

def layer_names(unet) -> tuple:
    ...

def split_layers(layers) -> tuple:
    ...

def layer_modules(unet, layers) -> dict:
    ...

class _Enough(Exception):
    """Raised inside a forward pass when everything that was asked for has been seen"""

@contextmanager
def _hooked(unet, layers, early_exit: bool):
    ...

def activations(unet: UNet2DModel, xt: torch.Tensor, t, layers, early_exit: bool=True) -> dict:
    ...

def image_noise(images: torch.Tensor, n_draws: int, random_state: int=0) -> torch.Tensor:
    ...

def pool_features(a: torch.Tensor, max_side: int=4) -> torch.Tensor:
    ...

def join_features(found: dict, layer: str, max_side: int=4) -> torch.Tensor:
    ...
DEFAULT_LAYER = 'mid_block+up_blocks.0'

def _reserve(f, n_bytes: int):
    ...
SAVE_INTERVAL = 30

class EmbeddingCache:
    """Embeddings in files, and a note of the batches of this process that are whole: rows and checksum of each"""

    def __init__(self, folder: Path, name: str, n_images: int, n_batches: int):
        ...

    def room(self, layer: str, D: int):
        ...

    @property
    def done(self) -> int:
        ...

    def _crc(self, where: slice) -> int:
        ...

    def _open(self, i, D, mode='r+'):
        ...

    def count(self, where: slice):
        ...

    def save(self):
        ...

    def whole(self):
        ...
MAX_PIXELS = 2 ** 22

class Extractor:
    """Reads the embeddings e_bar(l, t) of a data set off a U-Net"""

    def __init__(self, unet: UNet2DModel, scheduler, n_draws: int=4, random_state: int=0, batch_size: int=256, max_side: int=4, max_bytes: int=2 ** 31, cache_dir: str | Path | None=None):
        ...

    def starts(self, n_images: int) -> range:
        ...

    def draws(self, images, layers, t: int, progress: bool=False) -> dict:
        ...

    def _most(self) -> int:
        ...

    def prepare(self, images) -> torch.Tensor:
        ...

    def noised(self, x0: torch.Tensor, t: int) -> torch.Tensor:
        ...

    def check_timestep(self, t) -> int:
        ...

    def batches(self, images, layers, t: int, progress: bool=False, skip: int=0):
        ...

    def __call__(self, images, layers, t: int, progress: bool=False) -> dict:
        ...

    def _copy(self, e) -> np.ndarray:
        ...

    def _name(self, images, layers, t) -> str:
        ...

    def fingerprint(self, images, **facts) -> str:
        ...

    def clear_stale(self):
        ...

    def _room(self, *shape) -> np.ndarray:
        ...

    def _whole(self, out: dict, n_images: int) -> dict:
        ...
