# Made from embeddings.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

from __future__ import annotations
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
import numpy as np
import torch
from fastcore.basics import patch
from .core.checkpoint import fingerprint
from .data.images import as_images
from .features import Layer, join_features, single_names, split_layers
__all__ = []
PRECOMPUTED = 'precomputed'

def named(given, argument: str) -> dict:
    ...

def as_vectors(e, what: str, n: int | None=None) -> np.ndarray:
    ...

@contextmanager
def _ready(function: Callable) -> Iterator:
    ...

def run_on_images(function: Callable, name: str, images: torch.Tensor, batch_size: int) -> np.ndarray:
    ...

def vectors_of(embed, X, batch_size: int=256, **how) -> tuple[torch.Tensor, dict]:
    ...

def _side_by_side(parts: dict[str, np.ndarray]) -> tuple[torch.Tensor, dict]:
    ...

def vectors_again(embed, X, sizes: dict, batch_size: int=256, **how) -> torch.Tensor:
    ...

class GivenEmbeddings:
    """Answers like an `Extractor`; its images are the rows of `vectors_of`, its layers ranges of columns"""
    T, n_draws, precision, cache_dir, unit_range = (1, 1, 'float32', None, False)

    def __init__(self, sizes: dict[str, int], random_state: int=0, batch_size: int=256):
        ...

    def embed(self, rows: torch.Tensor, layers, t: int=0, progress: bool=False) -> dict:
        ...

    def draws(self, rows: torch.Tensor, layers, t: int=0, progress: bool=False) -> dict:
        ...

    def check_layer(self, layer: Layer):
        ...

    def check_timestep(self, t: int) -> int:
        ...

    def with_draws(self, n_draws: int) -> GivenEmbeddings:
        ...

    def enough_draws(self, rows, layers, t: int) -> int:
        ...

    def compiled_for(self, layers, n_images: int):
        ...

    def fingerprint(self, rows: torch.Tensor, **settings) -> str:
        ...
