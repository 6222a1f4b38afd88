"Properties for every graph: fits end, results are trees, scale and range of weights do not matter; coarse values."

import signal
import time
import warnings
from contextlib import contextmanager

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import load_digits, load_iris, load_wine, make_blobs
from sklearn.metrics import adjusted_rand_score

from diec.hierarchy import condensation, graph, selection
from diec.hierarchy.condensation import Tree
from diec.hierarchy.estimator import ReverseHierarchicalDiffusion
from diec.hierarchy.graph import canonical_order
from tools.stress_hierarchy import fit_seconds


def fit(X, **kwargs):
    return ReverseHierarchicalDiffusion(**kwargs).fit(X)


@contextmanager
def limit(seconds):
    "A loop without end fails, instead of stopping the tests"

    def stop(*_):
        raise TimeoutError(f"not done after {seconds} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def weighted(graph, weight):
    graph = graph.copy()
    nx.set_edge_attributes(graph, weight, "weight")
    return graph


# --- Ward's merges where costs are equal but for rounding


def is_a_tree(merges, n):
    return len(merges) == n - 1 and len({b for _, b in merges}) == n - 1 and all(a < b for a, b in merges)


@pytest.mark.parametrize("n", [6, 12, 40])
@pytest.mark.parametrize("symmetric", [True, False])
def test_equal_costs_end_in_a_tree(n, symmetric, monkeypatch):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        # squared distances of more than 500 points are not symmetric either
        C = 1 + rng.integers(-4, 5, (n, n)) * np.finfo(float).eps
        if symmetric:
            C = np.maximum(C, C.T)
        np.fill_diagonal(C, np.inf)
        monkeypatch.setattr(condensation, "_merge_costs", lambda Y, m: C.copy())
        with limit(5):
            assert is_a_tree(condensation._ward(np.zeros((n, 1)), rng.exponential(size=n)), n)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_costs_that_are_no_numbers_are_refused(bad):
    Y = np.arange(6.0)[:, None]
    Y[2] = bad
    with limit(5), np.errstate(invalid="ignore"), pytest.raises(ValueError, match="cost of each merge must be finite"):
        condensation._ward(Y, np.ones(6))


SYMMETRIC = {
    "caves": nx.caveman_graph(36, 5),
    "cycle": nx.cycle_graph(40),
    "complete": nx.complete_graph(20),
    "cube": nx.hypercube_graph(5),
    "torus": nx.grid_2d_graph(6, 6, periodic=True),
    "bipartite": nx.complete_bipartite_graph(8, 8),
    "star": nx.star_graph(20),
    "circulant": nx.circulant_graph(30, [1, 4]),
    "Petersen": nx.petersen_graph(),
    "paths": nx.disjoint_union_all([nx.path_graph(4)] * 9),
    "caves and stars": nx.disjoint_union_all([nx.complete_graph(5), nx.star_graph(4)] * 8),
    "ring of caves": nx.ring_of_cliques(8, 5),
}


@pytest.mark.parametrize("seed", [0, 14, 32])  # 14 and 32: caves of five did not end
@pytest.mark.parametrize("name", SYMMETRIC)
def test_trees_of_symmetric_graphs_end(name, seed, monkeypatch):
    monkeypatch.setattr(selection, "SMALL_SAMPLE", 0)  # three pairs of resampled trees
    A = graph.as_affinity(SYMMETRIC[name])[0]
    order = canonical_order(A)
    A = A[order][:, order].tocsr()
    A.sort_indices()
    n, components = A.shape[0], nx.number_connected_components(SYMMETRIC[name])
    with limit(20):
        pairs = selection.reweighted_graphs(A, np.ones(n), np.random.default_rng(seed))
    for tree in [Tree(A, np.ones(n)), *(r.tree for pair in pairs for r in pair[:2])]:
        # each node but the root goes into one other
        assert tree.merges.shape == (n - 1, 2) and len(np.unique(tree.merges)) == 2 * n - 2
        assert (tree.merges.max(axis=1) < n + np.arange(n - 1)).all() and (np.diff(tree.heights) >= 0).all()
        assert tree.components == components


@pytest.mark.parametrize("caves, size, seed", [(5, 3, 0), (9, 5, 1), (20, 3, 2), (58, 8, 3), (60, 10, 19)])
def test_caves_are_found_in_time(caves, size, seed):
    with limit(30):
        assert fit_seconds(caves, size, seed) < 30


# --- weights


@pytest.mark.parametrize("weight", [1e308, 1e-308])
def test_cliques_of_extreme_weights(weight):
    with limit(30):
        model = fit(weighted(nx.caveman_graph(50, 20), weight))
    assert model.n_clusters_ == 50 and adjusted_rand_score(np.repeat(np.arange(50), 20), model.labels_) == 1


@pytest.mark.parametrize("weight", [1e200, 1e300])
@pytest.mark.parametrize(
    "graph", [nx.connected_caveman_graph(12, 8), nx.caveman_graph(12, 8)], ids=["connected", "apart"]
)
def test_one_heavy_tie_hides_no_other_cluster(graph, weight):
    heavy, caves = weighted(graph, 1.0), np.repeat(np.arange(12), 8)
    u, v = list(graph.edges)[3]
    heavy.edges[u, v]["weight"] = weight
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = fit(heavy, n_clusters=12)
    assert any("orders of magnitude" in str(w.message) for w in said) == (weight > 2.0**801)
    others = caves != caves[u]
    assert adjusted_rand_score(fit(graph, n_clusters=12).labels_[others], model.labels_[others]) == 1


def test_ties_that_floats_cannot_hold_beside_others_are_left_out():
    graph = weighted(nx.caveman_graph(4, 5), 1e10)
    graph.add_edge(0, 19, weight=1e-300)
    with pytest.warns(UserWarning, match="2 were dropped"):
        model = fit(graph, n_clusters=4)
    assert model.n_components_ == 4 and adjusted_rand_score(np.repeat(np.arange(4), 5), model.labels_) == 1


# --- many components


def naive(mass):
    "The two lightest, found by sorting all at every step"
    left, merges = dict(enumerate(mass)), []
    while len(left) > 1:
        a, b = sorted(sorted(left, key=lambda i: (left[i], i))[:2])
        merges.append((a, b))
        left[a] += left.pop(b)
    return merges


@pytest.mark.parametrize("seed", range(20))
def test_components_are_joined_as_by_sorting(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    for mass in (rng.integers(1, 4, n).astype(float), rng.exponential(size=n), np.ones(n)):
        assert condensation._join_components(mass) == naive(mass)


def test_thousands_of_components_take_seconds():
    start = time.process_time()
    with limit(30):
        model = fit(nx.empty_graph(3000))
    assert model.n_clusters_ == model.n_components_ == 3000 and len(model.tree_.merges) == 2999
    with limit(30):
        model = fit(nx.disjoint_union_all([nx.complete_graph(3)] * 3000))
    assert model.n_clusters_ == model.n_components_ == 3000 and (np.bincount(model.labels_) == 3).all()
    assert time.process_time() - start < 30


def test_components_that_settle_the_number_are_not_resampled(monkeypatch):
    monkeypatch.setattr(selection, "reweighted_graphs", lambda *_: pytest.fail("resampled"))
    model = fit(nx.caveman_graph(8, 5), max_clusters=8)
    assert model.n_clusters_ == 8 and model.agreement_ == {}


# --- precision of the values


@pytest.mark.parametrize(
    "X",
    [
        (make_blobs(300, centers=4, random_state=0)[0] + 1e8).astype(np.float32),
        make_blobs(300, centers=4, random_state=0)[0] + 1e17,
        make_blobs(300, n_features=20, random_state=0)[0] + 1e9,
        csr_array(make_blobs(300, random_state=0)[0] + 1e9),
        (make_blobs(300, centers=4, random_state=0)[0] + 3e3).astype(np.float16),
    ],
    ids=["32 bits", "64 bits", "20 features", "sparse", "16 bits"],
)
def test_values_too_coarse_to_tell_points_apart_are_said(X):
    with pytest.warns(UserWarning, match="precision of the values .* subtract the mean"):
        fit(X, n_clusters=2)


@pytest.mark.parametrize(
    "X",
    [
        load_digits().data[:300].astype(np.float32),
        np.random.default_rng(0).integers(0, 3, (300, 2)).astype(np.float32),
        load_iris().data,
        load_wine().data.astype(np.float32),
        np.repeat(make_blobs(60, random_state=0)[0], 5, axis=0),
        np.full((20, 1), 1e8, np.float32),
        (make_blobs(300, random_state=0)[0] + 1e5).astype(np.float32),
        make_blobs(300, random_state=0)[0] + 1e8,
        csr_array(np.eye(40)),
        load_digits().data[:300].astype(np.float16),
        np.arange(100).reshape(50, 2),
        load_digits(as_frame=True).data.iloc[:300],
        np.c_[np.nextafter(np.float32(1), np.float32(0)) * np.arange(2).repeat(50) + 1e-7, np.arange(100)].astype(
            np.float32
        ),
    ],
    ids=[
        "digits",
        "three values",
        "iris",
        "wine",
        "equal rows",
        "constant",
        "a bit away",
        "far away in 64 bits",
        "sparse",
        "digits in 16 bits",
        "integers",
        "a data frame",
        "one column saturates",
    ],
)
def test_ordinary_values_are_not_called_coarse(X):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(X, n_clusters=1)
