# Made from condensation.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

__all__ = ['COARSE', 'OCTAVE', 'FINEST', 'condense', 'Tree']
from heapq import heapify, heappop, heappush
import numpy as np
from fastcore.basics import patch
from scipy.sparse import csr_array, issparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import euclidean_distances

def _match(A, most: int):
    ...

def _eigenpairs(A):
    ...

def _costs(Y, m):
    ...

def _merged(C, m, a, b):
    ...

def _ward(Y, mass) -> list:
    ...
COARSE, OCTAVE, FINEST = (2000, 4, 16)

class _Forest:
    """Merges as they are made; nodes are numbered as SciPy does"""

    def __init__(self, n):
        ...

    def merge(self, a, b, height):
        ...

    def keep(self, kept):
        ...

def condense(A):
    ...

def _diffuse(A, forest: _Forest, start: float, components: int):
    ...

def _tops(merges, n: int) -> np.ndarray:
    ...

def _join(mass, centers=None) -> list:
    ...

class Tree:
    """A binary tree over leaves 0..n-1; the i-th merge makes node n + i, as in SciPy"""

    def __init__(self, A, mass, X=None):
        ...

    def cut(self, k: int):
        ...

    def _roots(self, k: int):
        ...

    def sums(self, values) -> np.ndarray:
        ...

    def leaves(self, node: int) -> np.ndarray:
        ...
