# Made from images.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
import numpy as np
import torch
import torch.nn.functional as F
from fastcore.basics import patch
from PIL import Image
from sklearn.utils import check_random_state
__all__ = ['DataError', 'ImageSet', 'as_images', 'fit_to']

class DataError(ValueError):
    """Exception raised when a file is not what it claims to be.

    Parameters
    ----------
    message : str
        The file, and what is wrong with it.
    """

    def __init__(self, message: str):
        ...

def _kind(x) -> str:
    ...

def _check_set(s):
    ...

@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with optional labels, as every reader returns them.

    Parameters
    ----------
    images : np.ndarray of shape (N, C, H, W)
        Images, float32 in [-1, 1].
    labels : np.ndarray of shape (N,) or None
        Class of each image, int64 in 0..len(classes)-1; None without labels.
    classes : tuple of str
        Names of the classes; empty without labels.
    name : str
        Short name for tables and figures.
    source : str
        Where the images came from, in words. It holds no path of the machine, so it can appear in a report.
    """
    images: np.ndarray
    labels: np.ndarray | None
    classes: tuple
    name: str
    source: str

    def __post_init__(self):
        ...

    def __len__(self):
        ...

    def subset(self, index: int | slice | np.ndarray | list, random_state=None) -> ImageSet:
        ...

    @property
    def checksum(self) -> str:
        ...

def _check_rows(index: np.ndarray, n: int):
    ...

def _pick(index, n: int, random_state) -> np.ndarray:
    ...

def _from_numpy(x: np.ndarray) -> torch.Tensor:
    ...

def _tensor(images, argument: str) -> torch.Tensor:
    ...

def _pixels(im: Image.Image, argument: str, i: int) -> np.ndarray:
    ...

def _picture(item, argument: str, i: int):
    ...

def _stack(items: list | tuple, argument: str) -> np.ndarray | torch.Tensor:
    ...
IMAGE_KEYS = ('image', 'img', 'pixel_values')

def _image_of(item, argument: str):
    ...

def _loaded(images, argument: str):
    ...

def as_array(images, argument: str='images', image_shape: tuple | None=None):
    ...

def in_unit_range(images) -> bool:
    ...

def _check_layout(shape: tuple, argument: str):
    ...

def _check_range(x: torch.Tensor, argument: str, tolerance: float=0.0001) -> torch.Tensor:
    ...

def _on_disk(images) -> bool:
    ...

class StoredImages:
    """Images in a memory map of uint8 (N, C, H, W), read in batches as float32 in [-1, 1], at their size or at `size`."""
    dtype, ndim = (torch.float32, 4)

    def __init__(self, pixels: np.memmap, size: tuple | None=None, files: list | None=None):
        ...

    @property
    def shape(self) -> torch.Size:
        ...

    def __len__(self):
        ...

    def checksum(self) -> str:
        ...

    def __getitem__(self, index) -> torch.Tensor:
        ...

    def split(self, n: int) -> Iterator[torch.Tensor]:
        ...

    def fitted(self, size: int | tuple, channels: int) -> StoredImages:
        ...

def as_images(images: Any, *, argument: str='images', unit_range: bool=False, image_shape: tuple | None=None) -> torch.Tensor:
    ...

def _rim(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    ...

def _check_fit(images, size, channels: int) -> tuple[int, int]:
    ...

def _resize(x: torch.Tensor, h: int, w: int) -> torch.Tensor:
    ...

def fit_to(images: torch.Tensor, size: int | tuple[int, int], channels: int) -> torch.Tensor:
    ...
