# Made from plots.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

from __future__ import annotations
from collections.abc import Sequence
from typing import TYPE_CHECKING
import numpy as np
from fastcore.basics import patch
from sklearn.utils.validation import check_is_fitted
from ..core.lazy import LazyModule
from ..core.validation import check_integer
from ..evaluation.plots import COLORS, as_plot_array, as_plot_images, check_same_length, get_axis, to_two_dimensions
from .estimator import ReverseHierarchicalDiffusion, leaf_centrality
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
__all__ = []

class _Layout:
    """The tree above a level: x and y of each node, its end nodes from left to right, its merges from below"""

    def __init__(self, model, n_clusters: int):
        ...

    def _visit(self, node: int, children_done: bool) -> list:
        ...

def _most_central(self, node: int) -> np.ndarray:
    ...

def _draw_dendrogram(self, lay: _Layout, images, names, ax) -> Axes:
    ...

def _draw_image(ax, lay: _Layout, node: int, image):
    ...

def _draw_end(ax, lay: _Layout, node: int, names: list, below: int):
    ...

def _frame_dendrogram(ax, lay: _Layout, has_names: bool):
    ...

def _available_levels(n: int, n_clusters) -> list:
    ...

def _draw_level(ax, points, labels, k: int):
    ...
CHOSEN = '#D55E00'

def _draw_persistence(ax, self, ks: list):
    ...

def _draw_agreement(ax, self, most: int):
    ...

def _icicle_bars(lay: _Layout) -> dict:
    ...

def _draw_icicle(lay: _Layout, names, ax) -> Axes:
    ...
