# Made from explore.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

from __future__ import annotations
import base64
import copy
import gzip
import io
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
import matplotlib.pyplot as plt
import numpy as np
from bokeh.models import ColumnDataSource
from fastcore.basics import patch
from markupsafe import Markup
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils.validation import check_is_fitted
from diec.app.image_map import PICKED, bokeh_script, environment, hashed_script, in_plane, inline_figure, inline_json, map_plot, template_text, thumbnails
from diec.core.distributed import device
from diec.core.files import atomic_file
from diec.core.names import printable
from diec.core.neighbors import nearest_neighbors
from diec.core.validation import check_integer
from diec.data.folder import are_paths, find_files, read_files, sample_files
from diec.data.images import as_array, as_images, fit_to, in_unit_range
from diec.embeddings import as_vectors
from diec.estimator import DiEC
from diec.evaluation.plots import COLORS
from diec.features import Extractor, Layer
from diec.hierarchy.estimator import ReverseHierarchicalDiffusion
from diec.hierarchy.graph import grains
from diec.networks import load_network
from diec.search import CommonSpace, searched_layers
from diec.unet import choose_unet, input_shape
from diffusers import DDPMScheduler, UNet2DModel
from diec.networks import Adapter, FlowSchedule
__all__ = ['Exploration', 'explore']
FEWEST, MOST = (4, 5000)

def shown_rows(n, n_images, random_state) -> np.ndarray:
    ...

def as_pixels(images) -> np.ndarray:
    ...

class State(NamedTuple):
    """What the map shows at one position of the slider"""
    label: str
    z: np.ndarray
    first: bool
SHARES = (1 / 50, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
MOST_TIMESTEPS = 16

def spread(T, own=None) -> list:
    ...

def chosen_timesteps(extract, timesteps, own=None) -> list:
    ...

def _in_common_space(e, random_state) -> np.ndarray:
    ...

def states_of_network(unet, images, timesteps, random_state) -> list:
    ...

def states_of_estimator(diec, X, timesteps, random_state) -> tuple:
    ...

def _standard(points) -> np.ndarray:
    ...

def aligned(points, reference) -> np.ndarray:
    ...

def moving_positions(states) -> tuple:
    ...

def nested_labels(cuts) -> np.ndarray:
    ...

def matched(labels, level, reference) -> np.ndarray:
    ...

def _check_distinct(states):
    ...
FINEST = 20

def clusters_of(z, finest) -> np.ndarray:
    ...

def estimated_level(z) -> int:
    ...

def clusters_by_state(states, first, finest, k, own=None) -> tuple:
    ...
MOST_BYTES = 10 ** 6

def _state_data(state, points, labels, n_near) -> dict:
    ...

def _explore_plot(points) -> Markup:
    ...

def _render(data, sheets, figure, title, note) -> str:
    ...

def _poster(points, labels) -> bytes:
    ...

@dataclass(frozen=True, eq=False, repr=False)
class Exploration:
    """A map of images, which JupyterLab shows.

    Parameters
    ----------
    rows : ndarray of shape (n,)
        Rows of the images that are shown.
    states : tuple of str
        What the timestep slider says at each of its S positions.
    positions : ndarray of shape (S, n, 2)
        Positions of the images at each state, from 0 to 1000.
    labels : ndarray of shape (S, L, n)
        Clusters of the images at each state, for 2, 3, ..., L + 1 clusters. Their numbers are chosen so that colors
        change little; they may exceed the number of clusters.
    page : str
        The page as HTML.
    poster : bytes
        A picture of the map, WebP.
    """
    rows: np.ndarray
    states: tuple[str, ...]
    positions: np.ndarray
    labels: np.ndarray
    page: str
    poster: bytes

    def __repr__(self) -> str:
        ...

    def _repr_html_(self) -> str:
        ...

    def save(self, path: str | Path) -> None:
        ...
HEIGHT = 640

def _picked(vectors, rows, n) -> Any:
    ...

def _states(model, X, images, embeddings, timesteps, random_state) -> tuple:
    ...

def _check_model(model):
    ...
SIDE = 64

def _read_pictures(paths, model) -> tuple:
    ...

def _checked_images(images, model, given, n_images, random_state) -> tuple:
    ...

def _note(shown, n, method, own) -> str:
    ...

def _checked_names(names, rows, n) -> list:
    ...
NEAR = 5

def _exploration(rows, names, pixels, n, states, own) -> Exploration:
    ...

def explore(images: Any, model: DiEC | str | Path | tuple[UNet2DModel | Adapter, DDPMScheduler | FlowSchedule] | None=None, timesteps: Iterable[int] | None=None, names: Iterable[str] | None=None, embeddings: np.ndarray | Mapping | None=None, n_images: int=1000, random_state: int=0) -> Exploration:
    ...
