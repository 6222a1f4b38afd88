# Made from search.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

__all__ = ['BLOCK', 'CRITERIA', 'CommonSpace', 'neighbor_information', 'kmeans', 'stability', 'neighbor_consistency', 'Evaluation', 'Clusterability', 'unimodality_gap', 'COTResult', 'search_timestep', 'search_layer', 'ScoreMap', 'score_map']
import json
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
import numpy as np
from fastcore.basics import patch
import torch
from scipy.optimize import minimize_scalar
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, calinski_harabasz_score, mutual_info_score
from sklearn.neighbors import NearestNeighbors
from torch import nn
from tqdm.auto import tqdm
from .core.files import atomic_file
from .core.validation import check_integer, check_number
from .features import DEFAULT_LAYER, Extractor, layer_names
from .core.interrupt import deferred_signals, finished
from .core.distributed import is_main, barrier
from .evaluation.plots import plot_score_map, plot_timestep_scores
BLOCK = 100000

class CommonSpace(nn.Module):
    """Center, project to principal components, scale each vector to unit length; a fixed map that gradients pass through"""

    def __init__(self, n_features: int, n_components: int=64):
        ...

    @classmethod
    def fit(cls, e, n_components: int=64, random_state: int=0):
        ...

    def forward(self, e: torch.Tensor) -> torch.Tensor:
        ...

    def transform(self, e) -> np.ndarray:
        ...

def neighbor_information(labels, near) -> float:
    ...

def kmeans(z, n_clusters: int, random_state: int=0, n_init: int=10, near=None) -> KMeans:
    ...

def stability(z_draws, n_clusters: int, random_state: int=0) -> float:
    ...

def neighbor_consistency(z, labels, k: int=10) -> float:
    ...
CRITERIA = {'chi': lambda e: e.chi, 'stable_chi': lambda e: e.chi * max(e.stability, 0.0), 'neighbors': lambda e: e.neighbors}

@dataclass(frozen=True)
class Evaluation:
    """What was found at one layer and timestep"""
    layer: str
    t: int
    chi: float
    stability: float | None
    neighbors: float
    score: float = float('nan')

class Clusterability:
    """The function S(l, t) that the search maximizes; no labels in it"""

    def __init__(self, extract: Extractor, images, n_clusters: int, criterion: str='neighbors', m: int=1000, random_state: int=0, cache_file: str | Path | None=None):
        ...

    def _origin(self) -> str:
        ...

    def _read(self):
        ...

    def _write(self):
        ...

    def at(self, layers, t: int) -> list:
        ...

    def _evaluate(self, layer, t, draws) -> Evaluation:
        ...

    def __call__(self, layer: str, t: int) -> float:
        ...

    def rescored(self, criterion: str):
        ...

def unimodality_gap(scores) -> float:
    ...

@dataclass
class COTResult:
    """What the search found"""
    layer: str
    t: int
    criterion: str
    evaluations: list
    unimodal: bool
    note: str = ''

    @property
    def score(self) -> float:
        ...

    def along_t(self):
        ...

    def plot(self, ax=None):
        ...

def _refine(f, low: int, high: int, evaluations: int):
    ...

def search_timestep(S: Clusterability, layer: str=DEFAULT_LAYER, max_evaluations: int=12, grid: int=9, tolerance: float=0.05, progress: bool=False) -> COTResult:
    ...

def search_layer(S: Clusterability, layers=None, start: str=DEFAULT_LAYER, t: int | None=None, max_evaluations: int=12, progress: bool=False) -> COTResult:
    ...

@dataclass
class ScoreMap:
    """S on a grid of layers and timesteps"""
    layers: tuple
    timesteps: tuple
    evaluations: list

    def values(self, name: str='score') -> np.ndarray:
        ...

    def best(self):
        ...

    def plot(self, name: str='score', ax=None):
        ...

def score_map(S: Clusterability, layers=None, timesteps=None, progress: bool=False) -> ScoreMap:
    ...
