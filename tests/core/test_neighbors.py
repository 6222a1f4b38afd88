"Nearest neighbors: exact, approximate, the choice between both, and what they cost in memory."

import logging
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.neighbors import NearestNeighbors

from diec.core import neighbors
from diec.core.neighbors import is_large, nearest_neighbors
from diec.hierarchy.estimator import ReverseHierarchicalDiffusion
from diec.losses import adaptive_graph


def embedding(n: int, d: int = 32, clusters: int = 12, dtype=np.float32):
    "Points of unit length in noisy clusters that extend in four directions each"
    rng = np.random.default_rng(0)
    y = rng.integers(clusters, size=n)
    along = rng.normal(size=(clusters, 4, d)) * 0.05
    X = rng.normal(size=(clusters, d))[y] / np.sqrt(d) + np.einsum("na,nad->nd", rng.normal(size=(n, 4)), along[y])
    X += 0.02 * rng.normal(size=(n, d))
    return np.ascontiguousarray(X / np.linalg.norm(X, axis=1, keepdims=True), dtype), y


@pytest.fixture
def approximate(monkeypatch):
    "Every search is approximate"
    pytest.importorskip("pynndescent", reason='the approximate search needs PyNNDescent: pip install "diec[large]"')
    monkeypatch.setattr(neighbors, "MAX_WORK", 0)


@pytest.fixture
def missing(monkeypatch):
    "PyNNDescent is not installed, and every search is large enough for it"
    monkeypatch.setitem(sys.modules, "pynndescent", None)
    monkeypatch.setattr(neighbors, "MAX_WORK", 0)
    neighbors._index_class.cache_clear()
    yield
    neighbors._index_class.cache_clear()


@pytest.mark.parametrize("d", [3, 40])
def test_small_searches_are_those_of_scikit_learn(d):
    X = np.random.default_rng(d).normal(size=(300, d))
    for points in (X, X.astype(np.float32), np.asfortranarray(X), csr_array(X)):
        distances, near = NearestNeighbors(n_neighbors=7).fit(points).kneighbors()
        found = nearest_neighbors(points, 7)
        assert (found[1] == near).all() and np.allclose(found[0], distances, rtol=1e-6)
    assert nearest_neighbors(X, 1, X[[4, 9]] + 1e-9)[1].ravel().tolist() == [4, 9]


def test_rows_that_are_not_contiguous_are_searched_as_fast_code_needs_them(monkeypatch):
    "scikit-learn takes a slow path for other arrays, without a word"
    seen = []
    real = NearestNeighbors.fit
    monkeypatch.setattr(NearestNeighbors, "fit", lambda self, X: (seen.append(X), real(self, X))[1])
    nearest_neighbors(np.asfortranarray(np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)), 3)
    assert seen[0].flags.c_contiguous and seen[0].dtype == np.float32


def test_the_size_decides():
    shape = lambda *s: np.broadcast_to(np.float32(0), s)  # noqa: E731
    assert is_large(shape(10**6, 64)) and not is_large(shape(5000, 64)) and not is_large(shape(10**6, 3))
    assert is_large(shape(40_000, 768)) and not is_large(shape(40_000, 64))
    assert not is_large(csr_array((10**6, 64)))


@pytest.mark.slow  # compiling takes half a minute
def test_nearly_all_true_neighbors_are_found(approximate):
    X, _ = embedding(6000)
    distances, near = nearest_neighbors(X, 10)
    true_distances, true = NearestNeighbors(n_neighbors=10).fit(X).kneighbors()
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near.tolist(), true.tolist())])
    assert recall > 0.99
    assert (near != np.arange(6000)[:, None]).all() and (np.diff(distances, axis=1) >= 0).all()
    same = (near == true).all(1)
    assert same.mean() > 0.95 and np.allclose(distances[same], true_distances[same], rtol=1e-4)
    again = nearest_neighbors(X, 10)
    assert (again[1] == near).all() and (again[0] == distances).all()
    shifted = nearest_neighbors(X.astype(float) + 1e6, 10)[1]  # in 32 bits all digits of X would be lost
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(shifted.tolist(), true.tolist())]) > 0.99
    repeated = np.repeat(X[:1000], 3, axis=0)  # equal points are neighbors of each other, not of themselves
    distances, near = nearest_neighbors(repeated, 5)
    assert (near != np.arange(3000)[:, None]).all() and (distances[:, :2] == 0).mean() > 0.99


@pytest.mark.slow  # compiling takes half a minute
def test_labels_do_not_depend_on_the_kind_of_search(approximate, monkeypatch):
    X, y = embedding(6000)
    models = [ReverseHierarchicalDiffusion().fit(X) for _ in range(2)]
    assert (models[0].labels_ == models[1].labels_).all()
    assert (models[0].tree_.merges == models[1].tree_.merges).all()
    weights = adaptive_graph(X, 10).weights
    monkeypatch.undo()
    exact = ReverseHierarchicalDiffusion().fit(X)
    assert (exact.labels_ == models[0].labels_).mean() > 0.99
    assert (adaptive_graph(X, 10).weights - weights).abs().mean() < 0.01


THREADS = """
import numba, numpy as np, torch
import diec.core.neighbors as neighbors
torch.set_num_threads(1)
assert torch.get_num_threads() == 1
neighbors.MAX_WORK = 0
neighbors._index_class = lambda: Index

class Index:
    def __init__(self, X, n_neighbors, **kwargs):
        compiled(len(X))  # as PyNNDescent does: the first parallel function of the process
        self.neighbor_graph = neighbors._exact(X, n_neighbors)[::-1]

@numba.njit(parallel=True)
def compiled(n):
    total = 0
    for i in numba.prange(n):
        total += 1
    return total

X = np.random.default_rng(0).normal(size=(200, 20))
neighbors.nearest_neighbors(X, 4)
print(torch.get_num_threads())
"""


def test_an_approximate_search_keeps_the_number_of_threads():
    "The first parallel function that Numba runs in a process sets OpenMP's number, which is PyTorch's too"
    pytest.importorskip("numba")
    done = subprocess.run(
        [sys.executable, "-c", THREADS], env=os.environ | {"NUMBA_NUM_THREADS": "2"}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["1"], done.stderr


def test_without_pynndescent_the_search_is_exact_and_the_log_says_so_once(missing, caplog):
    X = np.random.default_rng(0).normal(size=(200, 20))
    with caplog.at_level(logging.WARNING, "diec"):
        found = [nearest_neighbors(X, 4) for _ in range(3)]
    (record,) = caplog.records
    assert 'pip install "diec[large]"' in record.getMessage()
    for distances, near in found:
        assert (near == NearestNeighbors(n_neighbors=4).fit(X).kneighbors()[1]).all()


def test_small_searches_do_not_import_pynndescent(missing, monkeypatch, caplog):
    monkeypatch.undo()
    with caplog.at_level(logging.WARNING, "diec"):
        nearest_neighbors(np.random.default_rng(0).normal(size=(200, 20)), 4)
    assert not caplog.records and neighbors._index_class.cache_info().currsize == 0


def peak_bytes(f, *args) -> int:
    tracemalloc.start()
    try:
        f(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_exact_search_in_32_bits_makes_no_copy_of_the_points():
    X = np.random.default_rng(0).normal(size=(2000, 2000)).astype(np.float32)
    nearest_neighbors(X[:100], 5)
    assert peak_bytes(nearest_neighbors, X, 5) < 0.5 * X.nbytes


def test_memory_of_a_fit_grows_with_the_points_not_with_their_square(monkeypatch):
    "Twice the points need about twice the memory; a matrix of all pairs would take four times as much"
    monkeypatch.setattr("diec.hierarchy.condensation.MAX_DIFFUSION_NODES", 100)
    fit = lambda n: ReverseHierarchicalDiffusion(n_clusters=5).fit(embedding(n)[0])  # noqa: E731
    fit(1000)
    small, large = (peak_bytes(fit, n) for n in (4000, 8000))
    assert large < 2.5 * small and large < 8000**2
