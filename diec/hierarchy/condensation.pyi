# Made from condensation.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

from heapq import heapify, heappop, heappush
import numpy as np
from fastcore.basics import patch
from scipy.sparse import csr_array, issparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import euclidean_distances
from .graph import neighbor_affinity
__all__ = ['Tree']

def _strongest_neighbors(A):
    ...

def _matched_pairs(A, most: int):
    ...

def _contracted(A, a, b):
    ...

def _eigenpairs(A):
    ...

def _merge_costs(Y, m):
    ...

def _updated_costs(C, m, a, b):
    ...

class _WardState:
    """Nodes, their masses and the costs of merging them, during Ward's algorithm"""

    def __init__(self, Y, mass):
        ...

    def merge(self, a: int, b: int):
        ...

def _ward(Y, mass) -> list:
    ...
MAX_DIFFUSION_NODES = 2000
LEVELS_PER_OCTAVE = 4
MIN_COORDINATE_TIME = 16

class _Forest:
    """Merges in the order in which they happen; nodes are numbered as in SciPy"""

    def __init__(self, n: int):
        ...

    def merge(self, a, b, height: float):
        ...

    def select(self, remaining):
        ...

def condense(A):
    ...

def _diffuse(A, forest: _Forest, start: float, components: int):
    ...

def _merge_nearest(forest: _Forest, decay, psi, mass, n_merges: int, height: float):
    ...

def _roots_above(merges, n: int) -> np.ndarray:
    ...

def _join_components(mass, centers=None) -> list:
    ...

def _component_means(merges, roots, mass, X=None):
    ...

class Tree:
    """A binary tree of merges; merge i creates node n + i, as in SciPy.

    Parameters
    ----------
    A : csr_array of shape (n, n)
        Affinity of the leaves.
    mass : array of shape (n,)
        Number of rows that each leaf represents.
    X : array of shape (n, d), optional
        Features of the leaves, which decide how connected components are joined.
    """

    def __init__(self, A: csr_array, mass: np.ndarray, X: np.ndarray | csr_array | None=None):
        ...

    def _condense_components(self, roots, X) -> np.ndarray:
        ...

    def _join(self, joins, roots):
        ...

    def cut(self, k: int):
        ...

    def _roots(self, k: int) -> np.ndarray:
        ...

    def sums(self, values) -> np.ndarray:
        ...

    def leaves(self, node: int) -> np.ndarray:
        ...
