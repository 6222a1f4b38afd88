# Made from folder.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

import errno
import hashlib
import json
import os
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
import numpy as np
from fastcore.basics import patch
from tqdm.auto import tqdm
from diec.core.files import MARK, atomic_file, sha256_of
from diec.core.interrupt import deferred_signals, finished
from diec.data.formats import read_image, read_square, to_mode, to_square, to_unit_range
from diec.data.images import DataError, ImageSet, StoredImages
__all__ = ['read_image_folder', 'ImagePack', 'open_pack', 'pack_folder']
SUFFIXES = ('.png', '.apng', '.jpg', '.jpeg', '.jpe', '.jfif', '.webp', '.gif', '.bmp', '.dib', '.tif', '.tiff', '.jp2', '.j2k', '.jpx', '.avif', '.heic', '.heif', '.hif', '.jxl', '.ppm', '.pgm', '.pbm', '.pnm', '.pfm', '.tga')
OTHER_SUFFIXES = ('.svg', '.eps', '.psd', '.xcf', '.ico', '.dng', '.cr2', '.cr3', '.nef', '.arw', '.orf', '.rw2', '.raf', '.exr')
NO_IMAGE = 'no image'
UNREADABLE = 'the folder cannot be read'
LINK = 'a link to a folder is not followed'

def existing_folder(path):
    ...

@dataclass
class FolderListing:
    """The images of a folder, and what is left out; names are relative to the folder, with /"""
    files: list = field(default_factory=list)
    folders: list = field(default_factory=list)
    skipped: list = field(default_factory=list)
    n_others: int = 0
    given: set = field(default_factory=set)

    def _add(self, names):
        ...

def _is_sorted(folder) -> bool:
    ...

def list_images(folder, leave_out=None) -> FolderListing:
    ...

def _walk(root, leave_out):
    ...

def check_image_options(size, mode, argument='image_size'):
    ...

def _no_images(sources, found):
    ...

def _class_folders(folder, found):
    ...

def _check_left_out(folder, found):
    ...

def _check_one_size(folder, pictures):
    ...

def read_image_folder(path: str | Path, size: int | None=None, mode: str | None=None, name: str | None=None) -> ImageSet:
    ...

def _read_set(folder, size, mode, name):
    ...

def _list_sources(sources, leave_out):
    ...

def _state(folder, files, settings) -> str:
    ...

@dataclass
class ImagePack:
    """The images of a folder as one array on disk.

    Parameters
    ----------
    images : ndarray
        Memory map of shape (N, C, size, size), uint8, read-only, in an order that only the pixels decide.
    files : list of str
        Name of the file of each row, relative to the folder.
    skipped : list of tuple of str
        Name and reason of each file that is left out.
    state : str, default ""
        Hash of the names, sizes and times of the files.
    """
    images: np.ndarray
    files: list
    skipped: list
    state: str = ''

    def __len__(self):
        ...
FORMAT = 'diec-images-2'

def _checked_shape(facts):
    ...

def _read_pack(store):
    ...

def open_pack(store: str | Path) -> ImagePack:
    ...

def _journal_lines(path):
    ...

def _open_end(path, size):
    ...

class _Journal:
    """What was read so far: pixels, and a line (name, whether gray or None if unreadable, why unreadable) for each file"""

    def __init__(self, store, state, row_bytes):
        ...

    def _has_pixels(self, size):
        ...

    def add(self, name, picture, why):
        ...

    def flush(self):
        ...

    def close(self):
        ...

def _try_read(path, size):
    ...

def _read_all(journal, folder, files, size, progress):
    ...

def pack_folder(folder: str | Path | list, store: str | Path, size: int=32, mode: str | None=None, progress: bool=False) -> ImagePack:
    ...

def _pack(folder, store, size, mode, progress):
    ...

def _content_order(pixels, names):
    ...

def _finish(store, journal, size, mode, state, skipped) -> ImagePack:
    ...

def _write_pixels(store, names, shape) -> tuple:
    ...

def _gray(x):
    ...

def are_paths(X) -> bool:
    ...

def find_files(X) -> FolderListing:
    ...

def read_files(found: FolderListing, shape: tuple, progress: bool=False) -> StoredImages:
    ...

def _leave_out(name, why, found, reasons):
    ...

def _warn_of(reasons, n_read):
    ...

def sample_files(found: FolderListing, largest: int, n: int=64) -> np.ndarray:
    ...

def _try_read_own(name, largest):
    ...
