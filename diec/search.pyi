# Made from search.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

from __future__ import annotations
import json
import warnings
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
import numpy as np
import torch
from fastcore.basics import patch
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, calinski_harabasz_score, mutual_info_score
from sklearn.utils import assert_all_finite
from torch import nn
from tqdm.auto import tqdm
from .core.distributed import barrier, is_main
from .core.files import atomic_file
from .core.interrupt import deferred_signals, finished
from .core.neighbors import nearest_neighbors
from .core.validation import check_integer, check_number
from .evaluation.plots import plot_score_map, plot_timestep_scores
from .features import DEFAULT_LAYER, Extractor, Layer, layer_names, mean_over_draws, split_layers
from .losses import Graph, adaptive_graph, diffuse
from matplotlib.axes import Axes
__all__ = ['DIFFUSION_STEPS', 'CRITERIA', 'FINALISTS', 'CommonSpace', 'neighbor_information', 'kmeans', 'n_starts', 'initial_clusters', 'stability', 'neighbor_consistency', 'Evaluation', 'subset_size', 'Clusterability', 'unimodality_gap', 'COTResult', 'search_timestep', 'ScoreMap', 'score_map', 'searched_timesteps', 'search_layer']

class CommonSpace(nn.Module):
    """Center, project to principal components, and scale each vector to unit length; gradients pass through.

    Parameters
    ----------
    n_features : int
        Length D of an embedding.
    n_components : int, default 64
        Length d of a projected one.
    """

    def __init__(self, n_features: int, n_components: int=64):
        ...

    @classmethod
    def fit(cls, e: np.ndarray, n_components: int=64, random_state: int=0) -> CommonSpace:
        ...

    def forward(self, e: torch.Tensor) -> torch.Tensor:
        ...

    def transform(self, e: np.ndarray) -> np.ndarray:
        ...
BLOCK = 100000

def _rows_in_memory(e, random_state: int) -> np.ndarray:
    ...

def _pairs_of_neighbors(labels: np.ndarray, near: np.ndarray, n: int) -> np.ndarray:
    ...

def neighbor_information(labels: np.ndarray, near: np.ndarray) -> float:
    ...

def _rows_for_starts(z: np.ndarray, n_clusters: int, random_state: int) -> np.ndarray:
    ...

def _first_centers(z: np.ndarray, n_clusters: int, seeds: np.ndarray) -> np.ndarray:
    ...

def kmeans(z: np.ndarray, n_clusters: int, random_state: int=0, n_init: int=10, near: np.ndarray | None=None) -> KMeans:
    ...
DIFFUSION_STEPS = (20, 50, 100, 200, 400)

def n_starts(n_clusters: int) -> int:
    ...

def _lost_by_merging(pairs: np.ndarray) -> np.ndarray:
    ...
N_SPLITS, N_MOVES = (10, 3)

def _moves(labels: np.ndarray, halves: np.ndarray, near: np.ndarray, n_clusters: int) -> list:
    ...

def _kmeans_from(z: np.ndarray, labels: np.ndarray, n_clusters: int) -> KMeans:
    ...

def _rearranged(z: np.ndarray, found: KMeans, near: np.ndarray, random_state: int) -> KMeans:
    ...

def _improved(z: np.ndarray, found: KMeans, best: KMeans | None, near: np.ndarray, random_state: int) -> KMeans:
    ...

def _is_full(found: KMeans | None) -> bool:
    ...

def initial_clusters(z: np.ndarray, graph: Graph, n_clusters: int, random_state: int=0, diffusion: tuple=DIFFUSION_STEPS, n_init: int | None=None, by_information: bool=True, rearrange: bool=True) -> KMeans:
    ...

def stability(z_draws: np.ndarray, n_clusters: int, random_state: int=0) -> float:
    ...

def neighbor_consistency(z: np.ndarray, labels: np.ndarray, k: int=10) -> float:
    ...
CRITERIA = {'chi': lambda e: e.chi, 'stable_chi': lambda e: e.chi * max(e.stability, 0.0), 'neighbors': lambda e: e.neighbors, 'information': lambda e: e.information}

@dataclass(frozen=True)
class Evaluation:
    """Hold the scores of one layer and timestep.

    Parameters
    ----------
    layer : str
        Layer l.
    t : int
        Timestep.
    chi : float
        Calinski-Harabasz index of k-means on the mean embedding.
    stability : float or None
        Agreement between noise draws, see `stability`; None if the criterion does not use it.
    neighbors : float
        Nearest-neighbor consistency, see `neighbor_consistency`.
    score : float, default nan
        S(l, t) under the criterion in use.
    n_draws : int or None, default None
        Noise draws that the embedding was averaged over; None if they were not recorded.
    information : float or None, default None
        Mutual information between the initial clusters of neighbors, see `initial_clusters`, in nats; None if it was
        not recorded.
    """
    layer: str
    t: int
    chi: float
    stability: float | None
    neighbors: float
    score: float = float('nan')
    n_draws: int | None = None
    information: float | None = None

def subset_size(n_clusters: int, n_images: int=0) -> int:
    ...

class Clusterability:

    def __init__(self, extract: Extractor, images: torch.Tensor, n_clusters: int, criterion: str='information', m: int | None=None, random_state: int=0, cache_file: str | Path | None=None, all_draws: bool=False):
        ...

    def _origin(self) -> str:
        ...

    def _read(self):
        ...

    def _write(self):
        ...

    def _extractor_at(self, layers: tuple[Layer, ...], t: int) -> Extractor:
        ...

    def at(self, layers: str | Iterable[str], t: int) -> list[Evaluation]:
        ...

    def _evaluate(self, layer: Layer, t: int, draws: np.ndarray) -> Evaluation:
        ...

    def __call__(self, layer: str, t: int) -> float:
        ...

    def rescored(self, criterion: str) -> Clusterability:
        ...
Clusterability.__doc__ = 'Compute S(l, t), which the search maximizes; it uses no labels.\n\nParameters\n----------\nextract : Extractor\n    Reads embeddings; its `n_draws` is R, at most.\nimages : torch.Tensor\n    Images (N, C, H, W) from `Extractor.prepare`.\nn_clusters : int\n    Number of clusters K.\ncriterion : str, default "information"\n    A name in `CRITERIA`.\nm : int or None, default None\n    Images in the subset; all of them if there are fewer. None: as `subset_size` says.\nrandom_state : int, default 0\n    Seed of subset, k-means and projection.\ncache_file : str, Path or None, default None\n    File in which evaluations are saved as they are made; an interrupted search resumes from it.\nall_draws : bool, default False\n    Take R draws at every timestep; False: as few as the noise there needs, see `Extractor.enough_draws`.\n'

def _check_search(extract: Extractor, n_images: int, n_clusters: int, criterion: str, m: int | None, random_state: int) -> int:
    ...

def unimodality_gap(scores: Iterable[float]) -> float:
    ...

@dataclass
class COTResult:
    """Hold the result of a search.

    Parameters
    ----------
    layer : str
        The best layer l*.
    t : int
        The best timestep t*.
    criterion : str
        What was maximized.
    evaluations : list of Evaluation
        Every evaluation made for this result, in order.
    unimodal : bool
        Whether S looked unimodal along t.
    note : str, default ""
        Anything unusual.
    """
    layer: str
    t: int
    criterion: str
    evaluations: list
    unimodal: bool
    note: str = ''

    @property
    def score(self) -> float:
        ...

    def along_t(self) -> Iterable[np.ndarray]:
        ...

    def plot(self, ax: Axes | None=None) -> Axes:
        ...

def _refine(f: Callable, low: int, high: int, evaluations: int):
    ...

def _local_maxima(scores: np.ndarray) -> list:
    ...

def _refine_each(f: Callable, seen: dict, ts: list, tops: list, limit: int):
    ...

def search_timestep(S: Clusterability, layer: str=DEFAULT_LAYER, max_evaluations: int=12, grid: int=9, tolerance: float=0.05, progress: bool=False) -> COTResult:
    ...

def _once_each(S: Clusterability, layer: Layer, seen: dict, bar: tqdm) -> Callable:
    ...

def _note_on_tops(gap: float, n_tops: int, n_evaluations: int) -> str:
    ...

@dataclass
class ScoreMap:
    """Hold S on a grid of layers and timesteps.

    Parameters
    ----------
    layers : tuple of str
        Rows of the grid.
    timesteps : tuple of int
        Columns of the grid.
    evaluations : list of list of Evaluation
        One row for each layer.
    """
    layers: tuple
    timesteps: tuple
    evaluations: list

    def values(self, name: str='score') -> np.ndarray:
        ...

    def best(self) -> tuple[str, int]:
        ...

    def plot(self, name: str='score', ax: Axes | None=None) -> Axes:
        ...

def score_map(S: Clusterability, layers: Iterable[str] | None=None, timesteps: Iterable[int] | None=None, progress: bool=False) -> ScoreMap:
    ...

def searched_timesteps(T: int) -> list[int]:
    ...

def searched_layers(unet: nn.Module) -> tuple[str, ...]:
    ...
FINALISTS = 2

def search_layer(S: Clusterability, layers: Iterable[str] | None=None, timesteps: Iterable[int] | None=None, progress: bool=False) -> COTResult:
    ...
