# Made from estimator.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

import warnings
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING
import numpy as np
from fastcore.basics import patch
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse, vstack
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from ..core.neighbors import nearest_neighbors
from ..core.validation import check_integer, check_seed
from ..evaluation.plots import check_same_length
from .condensation import Tree
from .graph import grains, neighbor_affinity, neighborhood, rescale, sorted_affinity, to_unit
from .selection import MIN_AGREEMENT, agreement_by_level, most_agreed, resampled_halves, reweighted_graphs
import networkx
from __future__ import annotations
from collections.abc import Sequence
from typing import TYPE_CHECKING
import numpy as np
from fastcore.basics import patch
from sklearn.utils.validation import check_is_fitted
from ..core.lazy import LazyModule
from ..core.validation import check_integer
from ..evaluation.plots import COLORS, as_plot_array, as_plot_images, check_same_length, get_axis, to_two_dimensions
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
__all__ = ['Level', 'Explanation', 'ReverseHierarchicalDiffusion']

@dataclass(frozen=True, eq=False)
class Level:
    """The clusters between two moments of diffusion time.

    Parameters
    ----------
    n_clusters : int
        Number of clusters.
    scale : float
        Height at which this level begins: 1/4 for each round of matching, then log2 of the diffusion time.
    persistence : float
        Octaves of diffusion time until the next merge; inf for the last level.
    agreement : float or None
        Adjusted Rand index between trees of resampled data, 1 at most; None if it was not computed.
    labels : ndarray of shape (N,)
        Cluster of each row.
    """
    n_clusters: int
    scale: float
    persistence: float
    agreement: float | None
    labels: np.ndarray

@dataclass(frozen=True, eq=False)
class Explanation:
    """The description of one node of the tree.

    Parameters
    ----------
    node : int
        The node, numbered as in `to_linkage`.
    size : int
        Number of rows.
    central, peripheral : ndarray of int
        The most and the least typical rows, the most extreme first.
    features : list
        Tuples (name, effect size, mean here, mean in the sibling), the largest effect first. Empty for graphs and
        for the root.
    stability : float
        Mean Jaccard index with the most similar node of trees of resampled data; nan for nodes too small to be found.
    """
    node: int
    size: int
    central: np.ndarray
    peripheral: np.ndarray
    features: list
    stability: float

class ReverseHierarchicalDiffusion(ClusterMixin, BaseEstimator):
    """A hierarchy of clusters by diffusion condensation (Brugnone et al., 2019; Kuchroo et al., 2022)"""

    def __init__(self, n_clusters: int | None=None, affinity: str='neighbors', n_neighbors: int=10, max_clusters: int=40, random_state: int | np.random.RandomState | None=0):
        ...

    def __sklearn_tags__(self):
        ...

    def fit(self, X: 'ArrayLike|csr_array|networkx.Graph', y: None=None) -> ReverseHierarchicalDiffusion:
        ...

    def _check_params(self):
        ...

    def _fit(self, X):
        ...

    def _graph_input(self, X):
        ...

    def _feature_input(self, X):
        ...

    def _store_fit(self, A, X, grain, count, names):
        ...

    def _estimate_n_clusters(self):
        ...

    def _resampled(self) -> list:
        ...

    def cut(self, n_clusters: int | None=None, level: int | None=None) -> np.ndarray:
        ...

    def _resolve_n_clusters(self, n_clusters, level=None) -> int:
        ...

    def predict(self, X: ArrayLike | csr_array, n_clusters: int | None=None, level: int | None=None) -> np.ndarray:
        ...

    def _nearest(self, X):
        ...

    def _strongest(self, X) -> np.ndarray:
        ...

    def partial_fit(self, X: ArrayLike | csr_array, y: None=None) -> ReverseHierarchicalDiffusion:
        ...

    def _refit(self, added) -> ReverseHierarchicalDiffusion:
        ...

    def _append(self, near, added, n_novel: int) -> ReverseHierarchicalDiffusion:
        ...

    def _bandwidth(self, grain) -> np.ndarray:
        ...

    def to_linkage(self) -> np.ndarray:
        ...

    def _numbering(self):
        ...

    def to_networkx(self) -> 'networkx.DiGraph':
        ...

    def node_of(self, label: int, n_clusters: int | None=None) -> int:
        ...

    def explain(self, node: int, n_members: int=5, names: list | None=None) -> Explanation:
        ...

    def plot_tree(self, images: np.ndarray | None=None, n_clusters: int | None=None, names: Sequence | None=None, ax: Axes | None=None) -> Axes:
        ...

    def plot_condensation(self, points: np.ndarray, n_clusters: int | Sequence[int]=(50, 20, 10, 5, 2)) -> Figure:
        ...

    def plot_persistence(self, most: int=15) -> Figure:
        ...

    def plot_icicle(self, n_clusters: int | None=None, names: Sequence | None=None, ax: Axes | None=None) -> Axes:
        ...
ReverseHierarchicalDiffusion.__doc__ = 'A hierarchy of clusters by diffusion condensation.\n\nIt merges points from the bottom up, until one cluster is left for each connected component. Features may have any\nscale, but they should share it: standardize columns of different units.\n\nParameters\n----------\nn_clusters : int or None, default=None\n    Number of clusters K of `labels_`, 1 or more. None: the number on which trees of resampled data agree.\naffinity : {"neighbors", "precomputed"}, default="neighbors"\n    What X is: features (N, d), whose nearest neighbors are connected, or a symmetric affinity (N, N), 0 or more. A\n    networkx graph is accepted with either value.\nn_neighbors : int, default=10\n    Neighbors to which each point is connected, 1 or more. With many points they are approximate, if the extra `large`\n    is installed (from 81,000 points of 64 features, or 30,000 of 768).\nmax_clusters : int, default=40\n    Largest number of clusters to try when `n_clusters` is None, 2 or more. If there are more connected components than\n    that, each of them is a cluster.\nrandom_state : int, RandomState or None, default=0\n    Seed of the resampling; None: a different one each time. The tree itself does not depend on it.\n\nAttributes\n----------\nlabels_ : ndarray of shape (N,), int64\n    Cluster of each row; the largest cluster is 0.\nn_clusters_ : int\n    Number of clusters K of `labels_`, given or estimated.\nlevels_ : list of Level\n    One level for each moment at which clusters merged, the finest first.\nn_components_ : int\n    Number of connected components of the graph.\nagreement_ : dict\n    K -> adjusted Rand index between trees of resampled data; empty if K was given, or if there are `max_clusters`\n    components or more.\nnodes_ : list or None\n    Names of a networkx graph\'s nodes, in the order of `labels_`.\ntree_ : Tree\n    The tree over the distinct rows.\ngrain_ : ndarray of shape (N,)\n    Index of each row\'s distinct row.\n\nRaises\n------\nValueError\n    For values that are not finite, directed graphs, negative weights, and parameters out of range.\n\nSee Also\n--------\nDiEC.hierarchy : The tree over the refined embedding of images.\n\nReferences\n----------\nBrugnone et al., "Coarse graining of data via inhomogeneous diffusion condensation", arXiv 1907.04463; Kuchroo et al.,\n2022. The notebooks explain where this implementation differs.\n\nExamples\n--------\n>>> from diec import ReverseHierarchicalDiffusion\n>>> from sklearn.datasets import make_moons\n>>> X, _ = make_moons(400, noise=0.05, random_state=0)\n>>> tree = ReverseHierarchicalDiffusion(random_state=0).fit(X)\n>>> tree.n_clusters_\n2\n>>> len(set(tree.cut(n_clusters=7)))\n7\n'

def _n_large_components(tree: Tree) -> int:
    ...

def _levels(self) -> list:
    ...
NOVELTY_RADIUS = 2.0
REFIT_GROWTH = 0.1

def _stacked(a, b):
    ...

class _Linkage:
    """A linkage matrix over n rows that grows by joins"""

    def __init__(self, n: int):
        ...

    def join(self, a: int, b: int, height: float) -> int:
        ...

def leaf_centrality(self, inside):
    ...

def _typical_rows(self, inside, n: int):
    ...

def _effects(self, node: int, inside, names) -> list:
    ...

def _centered(sets):
    ...

def _moments(x, m):
    ...

def _cohens_d(here, there) -> np.ndarray:
    ...

def _stability(self, inside) -> float:
    ...
