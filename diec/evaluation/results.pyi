# Made from results.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

import csv
import io
import json
import platform
import subprocess
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
import numpy as np
import torch
from fastcore.basics import patch
from ..core.files import atomic_file
from ..core.names import weights_checksum
from .metrics import format_mean_std, markdown_table
from .plots import save_figure
import pandas as pd
from matplotlib.figure import Figure
from diec.data.images import ImageSet
__all__ = ['Provenance', 'save_record', 'load_records', 'mean_std', 'beside_best_other', 'gain', 'write_csv', 'read_csv', 'save_table', 'keep_figure']

def _git(*args: str) -> str:
    ...

def _commit() -> str | None:
    ...
_PACKAGES = ('diec', 'torch', 'diffusers', 'scikit-learn', 'scipy', 'numpy', 'matplotlib')

def _versions(packages: Iterable[str]) -> dict[str, str]:
    ...

def _device() -> str:
    ...

def _facts_of(data: 'ImageSet') -> dict:
    ...

class Provenance:
    """Origin of a result.

    Parameters
    ----------
    experiment : str
        Name of the notebook.
    parameters : dict
        Parameters of the run, including the seed. If "unet" names a U-Net of the package, the checksum of its weights
        is kept, too.
    data : ImageSet or None, default None
        The images, if there are any.
    packages : iterable of str, default ()
        More packages whose versions matter.
    """

    def __init__(self, experiment: str, parameters: dict, data: 'ImageSet|None'=None, packages: Iterable[str]=()):
        ...

    def facts(self) -> dict[str, Any]:
        ...

def _json(value) -> str:
    ...

def save_record(path: str | Path, rows: Iterable[dict], provenance: Provenance, timings: Iterable[dict]=()) -> None:
    ...

def load_records(paths: Iterable[str | Path]) -> list[dict]:
    ...

def mean_std(values: Iterable[float], digits: int=1, percent: bool=True) -> str:
    ...

def beside_best_other(table: 'pd.DataFrame', score: str='ACC', ours: str='DiEC') -> 'pd.DataFrame':
    ...

def gain(table: 'pd.DataFrame', ours: str, theirs: str, score: str='ACC') -> 'pd.Series':
    ...

def write_csv(path: str | Path, rows: Sequence[dict]) -> None:
    ...

def _number(text: str) -> int | float | str:
    ...

def read_csv(path: str | Path) -> list[dict]:
    ...

def _merge_sources(facts: dict, records: Sequence[dict]) -> dict:
    ...

def _describe(path: str, caption: str, provenance: Provenance, records: Sequence[dict]):
    ...

def save_table(path: str | Path, rows: Sequence[dict], shown: Sequence[dict], caption: str, provenance: Provenance, records: Sequence[dict]=(), digits: int=3) -> str:
    ...

def keep_figure(figure: 'Figure', path: str | Path, caption: str, provenance: Provenance, records: Sequence[dict]=()) -> None:
    ...
