"The hierarchy: scikit-learn's checks, independence of the order of rows, bad input, and exports of the tree."

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pytest
from scipy.cluster.hierarchy import cut_tree, is_valid_linkage
from scipy.sparse import csr_array
from sklearn.datasets import load_digits, make_blobs, make_circles, make_moons
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from diec.hierarchy.condensation import condense
from diec.hierarchy.estimator import ReverseHierarchicalDiffusion
from diec.hierarchy.graph import neighbor_affinity
from diec.hierarchy.selection import most_agreed


@pytest.fixture(autouse=True)
def no_figures_are_left():
    yield
    plt.close("all")


@parametrize_with_checks([ReverseHierarchicalDiffusion()])
def test_scikit_learn(estimator, check):
    check(estimator)


SETS = {
    "moons": make_moons(300, noise=0.05, random_state=0),
    "circles": make_circles(300, noise=0.04, factor=0.4, random_state=0),
    "blobs": make_blobs(300, centers=[(0, 0), (7, 0), (0, 7), (7, 7)], random_state=1),
    "digits": tuple(v[:400] for v in load_digits(return_X_y=True)),
}
fit = lambda X, **kwargs: ReverseHierarchicalDiffusion(**kwargs).fit(X)


# --- what it finds


@pytest.mark.parametrize("name, K", [("moons", 2), ("circles", 2), ("blobs", 4)])
def test_shapes_and_their_number(name, K):
    X, y = SETS[name]
    model = fit(X)
    assert model.n_clusters_ == K and adjusted_rand_score(y, model.labels_) > 0.95


def test_levels_are_nested_and_shrink():
    model = fit(SETS["digits"][0])
    sizes = [l.n_clusters for l in model.levels_]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == len(model.labels_) and sizes[-1] == model.n_components_
    for fine, coarse in zip(model.levels_, model.levels_[1:]):
        assert fine.scale < coarse.scale and fine.persistence == pytest.approx(coarse.scale - fine.scale)
        pairs = np.unique(np.c_[fine.labels, coarse.labels], axis=0)
        assert len(pairs) == fine.n_clusters  # each fine cluster lies in one coarse cluster
    assert (model.cut(level=-1) == model.levels_[-1].labels).all() and model.levels_[-1].persistence == np.inf
    assert all(len(np.unique(model.cut(k))) == k for k in (1, 2, 7, 400))


def test_the_largest_cluster_is_number_0():
    assert (np.diff(np.bincount(fit(SETS["digits"][0], n_clusters=10).labels_)) <= 0).all()


def test_many_points_are_matched_first():
    X, y = make_blobs(5000, centers=6, n_features=5, random_state=0)
    A = neighbor_affinity(X)
    merges, heights, roots = condense(A)
    assert (np.diff(heights) >= 0).all() and len(merges) + len(roots) == 5000
    assert len(set(merges.ravel().tolist())) == 2 * len(merges)
    assert adjusted_rand_score(y, fit(X, n_clusters=6).labels_) > 0.95


# --- determinism


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("seed", range(3))
def test_permuting_rows_permutes_labels_and_nothing_else(name, seed):
    X = SETS[name][0]
    order = np.random.default_rng(seed).permutation(len(X))
    a, b = fit(X), fit(X[order])
    assert a.n_clusters_ == b.n_clusters_ and a.agreement_ == b.agreement_ and (a.labels_[order] == b.labels_).all()
    assert (a.tree_.merges == b.tree_.merges).all() and (a.tree_.heights == b.tree_.heights).all()
    assert all((u.labels[order] == v.labels).all() for u, v in zip(a.levels_, b.levels_))


@pytest.mark.parametrize("seed", range(5))
def test_permuting_the_nodes_of_a_graph(seed):
    rng = np.random.default_rng(seed)
    graph = nx.connected_watts_strogatz_graph(60, 6, 0.3, seed=seed)
    A = nx.to_scipy_sparse_array(graph, dtype=float).toarray() * rng.uniform(0.5, 1, (60, 60))
    A, order = np.maximum(A, A.T), rng.permutation(60)
    a, b = (fit(M, affinity="precomputed") for M in (A, A[np.ix_(order, order)]))
    assert (a.labels_[order] == b.labels_).all() and a.agreement_ == b.agreement_
    assert (a.cut(7)[order] == b.cut(7)).all()


def test_the_same_twice_and_another_seed():
    X = SETS["digits"][0]
    assert fit(X).agreement_ == fit(X).agreement_ != fit(X, random_state=1).agreement_
    assert (fit(X).tree_.merges == fit(X, random_state=1).tree_.merges).all()  # no chance in the tree


def test_sparse_is_dense():
    X = SETS["digits"][0]
    # without equal distances, between which dense and sparse computations choose by the last bit
    X = X + np.random.default_rng(0).normal(0, 0.01, X.shape)
    a, b = fit(X, n_clusters=10), fit(csr_array(X), n_clusters=10)
    assert adjusted_rand_score(a.labels_, b.labels_) > 0.99
    told = b.explain(b.node_of(0))
    assert told.features and told.features[0][1] == pytest.approx(a.explain(a.node_of(0)).features[0][1], rel=1e-6)


# --- graphs


def test_a_graph_is_its_matrix():
    graph = nx.karate_club_graph()
    A = nx.to_scipy_sparse_array(graph, weight="weight", dtype=float)
    a, b = fit(graph), fit(A, affinity="precomputed")
    assert (a.labels_ == b.labels_).all() and a.nodes_ == list(graph) and b.nodes_ is None
    club = [graph.nodes[n]["club"] for n in graph]
    assert adjusted_rand_score(club, a.cut(2)) > 0.7


def test_components_are_counted_and_joined_last():
    graph = nx.disjoint_union_all([nx.complete_graph(6), nx.complete_graph(5), nx.complete_graph(4)])
    model = fit(graph)
    assert model.n_components_ == 3 and model.levels_[-1].n_clusters == 3
    assert adjusted_rand_score(np.repeat([0, 1, 2], (6, 5, 4)), model.cut(3)) == 1
    # the two smallest first
    assert len(set(model.cut(2)[:6]) | set(model.cut(2)[6:])) == 2 and len(set(model.cut(2)[6:])) == 1
    alone = nx.empty_graph(4)
    assert fit(alone).n_components_ == 4


@pytest.mark.parametrize(
    "X, words",
    [
        (nx.DiGraph([(0, 1), (1, 2)]), "undirected"),
        (nx.Graph(), "nodes"),
        (nx.Graph([(0, 1, {"weight": -1.0}), (1, 2)]), "0 or more"),
        (np.array([[0.0, 1.0], [2.0, 0.0]]), "symmetric"),
        (np.ones((3, 2)), "square"),
        (-np.ones((3, 3)), "0 or more"),
        (np.full((3, 3), np.nan), "NaN"),
    ],
    ids=str,
)
def test_bad_graphs_are_named(X, words):
    with pytest.raises(ValueError, match=words):
        fit(X, affinity="precomputed")


# --- odd features


def test_equal_rows_are_one_grain():
    X, y = make_blobs(60, centers=3, random_state=2)
    a, b = fit(X, n_clusters=3), fit(np.repeat(X, 3, axis=0), n_clusters=3)
    assert (b.labels_.reshape(60, 3) == b.labels_[::3, None]).all()
    assert adjusted_rand_score(a.labels_, b.labels_[::3]) == 1
    assert b.tree_.n == 60 and b.levels_[0].n_clusters == 60


@pytest.mark.parametrize("X", [np.zeros((5, 2)), np.ones((1, 3)), np.full((20, 1), 7.0)], ids=["zeros", "one", "equal"])
def test_points_that_are_all_equal_are_one_cluster(X):
    model = fit(X)
    assert model.n_clusters_ == model.n_components_ == 1 and (model.labels_ == 0).all()
    assert model.to_linkage().shape == (len(X) - 1, 4)
    with pytest.raises(ValueError, match="n_clusters"):
        fit(X, n_clusters=2)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
def test_a_few_points(n):
    model = fit(np.arange(n)[:, None] * 1.0)
    assert len(model.labels_) == n and (model.predict(np.arange(n)[:, None]) == model.labels_).all()
    assert len(set(model.cut(n))) == n


def test_constant_features_change_nothing():
    X = SETS["blobs"][0]
    assert (fit(X).labels_ == fit(np.c_[np.full(300, 3.0), X]).labels_).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers(value):
    X = SETS["moons"][0].copy()
    X[3, 1] = value
    with pytest.raises(ValueError, match="NaN|infinity"):
        fit(X)


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(n_clusters=0),
        dict(n_clusters=2.5),
        dict(n_neighbors=0),
        dict(max_clusters=1),
        dict(random_state=-1),
        dict(affinity="rbf"),
        dict(n_clusters=301),
    ],
    ids=str,
)
def test_bad_parameters_are_named(kwargs):
    ((name, value),) = kwargs.items()
    with pytest.raises((ValueError, TypeError)) as e:
        fit(SETS["moons"][0], **kwargs)
    assert name in str(e.value) and repr(value) in str(e.value)


def test_bad_arguments_of_reading_are_named():
    model = fit(SETS["moons"][0])
    calls = (
        (lambda: model.cut(), "n_clusters or level"),
        (lambda: model.cut(2, level=1), "n_clusters or level"),
        (lambda: model.cut(0), "n_clusters"),
        (lambda: model.cut(level=999), "level"),
        (lambda: model.explain(599), "node"),
        (lambda: model.node_of(2), "label"),
        (lambda: model.predict(np.ones((2, 3))), "features"),
        (lambda: model.plot_condensation(np.ones((5, 2))), "points"),
    )
    for call, words in calls:
        with pytest.raises(ValueError, match=words):
            call()


# --- new points


def test_new_points_join_their_neighbors():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(X))
    model, anew = fit(X[order[:-18]], n_clusters=10), fit(X[order], n_clusters=10)
    before, tree = model.labels_.copy(), model.tree_
    model.partial_fit(X[order[-18:]])
    assert model.tree_ is tree and (model.labels_[:-18] == before).all() and len(model.labels_) == len(X)
    assert adjusted_rand_score(model.labels_, anew.labels_) >= 0.95
    assert all(len(l.labels) == len(X) for l in model.levels_) and model.to_linkage().shape == (len(X) - 1, 4)
    assert (model.levels_[-3].labels == model.cut(level=-3)).all()


def test_points_of_a_new_kind_make_a_new_tree():
    X, _ = make_blobs(200, centers=[(0, 0), (10, 0)], cluster_std=0.5, random_state=0)
    model = fit(X)
    assert model.n_clusters_ == 2
    far = np.random.default_rng(0).normal((5, 20), 0.5, (15, 2))
    assert model.partial_fit(far).n_clusters_ == 3 and len(model.labels_) == 215 and len(set(model.labels_[200:])) == 1


@pytest.mark.slow
def test_many_new_points_are_the_same_as_a_fit():
    X = SETS["blobs"][0]
    grown = fit(X[:250]).partial_fit(X[250:260]).partial_fit(X[260:])
    assert (grown.labels_ == fit(X).labels_).all()  # more than a tenth: all anew
    sparse = fit(csr_array(X[:250])).partial_fit(csr_array(X[250:]))
    assert adjusted_rand_score(sparse.labels_, grown.labels_) > 0.99
    with pytest.raises(ValueError, match="graph"):
        fit(nx.karate_club_graph()).partial_fit(np.ones((1, 34)))


# --- reading


@pytest.mark.parametrize("name", SETS)
def test_the_linkage_is_the_tree(name):
    X = np.concatenate([SETS[name][0], SETS[name][0][:20]])  # with rows that are equal
    model = fit(X)
    Z = model.to_linkage()
    assert is_valid_linkage(Z) and Z[-1, 3] == len(X) and (Z[:20, 2] == 0).all() and (Z[20:, 2] > 0).all()
    for k in (2, 5, 11):
        assert adjusted_rand_score(cut_tree(Z, k).ravel(), model.cut(k)) == 1
    graph = model.to_networkx()
    assert nx.is_arborescence(graph) and sum(d == 0 for _, d in graph.out_degree()) == len(X)
    assert all(graph.nodes[n]["size"] == sum(graph.nodes[c]["size"] for c in graph[n]) for n in graph if graph[n])


def test_what_a_node_is_told_to_be():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(240, 4))
    X[:120, 2] += 12
    X[:60, 0] += 9
    model = fit(X, n_clusters=2)
    told = model.explain(model.node_of(int(model.labels_[0])), names=list("abcd"))
    assert told.size == 120 and told.features[0][0] == "c" and told.features[0][1] > 4 and told.stability > 0.95
    assert told.features[0][2] == pytest.approx(X[:120, 2].mean())
    assert told.features[0][3] == pytest.approx(X[120:, 2].mean())
    assert set(told.central) <= set(range(120)) and not set(told.central) & set(told.peripheral)
    leaf = model.explain(3)
    assert leaf.size == 1 and np.isnan(leaf.stability)


def test_random_groups_are_not_stable():
    X = np.random.default_rng(0).normal(size=(300, 8))
    blobs = fit(SETS["blobs"][0], n_clusters=4)
    noise = fit(X, n_clusters=10)
    mean = lambda m, k: np.mean([m.explain(m.node_of(c)).stability for c in range(k)])
    assert mean(noise, 10) < 0.7 < 0.95 < mean(blobs, 4)


def test_agreement_is_high_where_the_number_is_right():
    model = fit(SETS["blobs"][0])
    assert model.agreement_[4] > 0.95 > max(v for k, v in model.agreement_.items() if k > 5)
    assert model.n_clusters_ == most_agreed(model.agreement_, 15)


def test_pictures():
    X = SETS["digits"][0]
    model = fit(X)
    images = X.reshape(-1, 1, 8, 8) / 8 - 1
    ax = model.plot_tree(images, n_clusters=6)
    assert len(ax.artists) + len([a for a in ax.get_children() if type(a).__name__ == "AnnotationBbox"]) >= 11
    assert len(model.plot_condensation(X).axes) == 5 and len(model.plot_persistence().axes) == 2
    assert len(model.plot_icicle(7).patches) == 13
    club = fit(nx.karate_club_graph())
    assert club.plot_tree(names=club.nodes_, n_clusters=4) and fit(X, n_clusters=3).plot_persistence()
    assert len(fit(np.zeros((3, 2))).plot_icicle().patches) == 1 and fit(np.zeros((3, 2))).plot_tree()


# --- extreme values and edge cases


def R(*args, **kwargs):
    return ReverseHierarchicalDiffusion(*args, **kwargs)


@pytest.mark.parametrize("scale", [1e307, 1e200, 1e-200, 1e-300])
def test_the_scale_of_an_affinity_does_not_matter(scale):
    A = nx.to_numpy_array(nx.karate_club_graph())
    scaled, plain = (R(2, affinity="precomputed").fit(matrix).labels_ for matrix in (A * scale, A))
    assert np.array_equal(scaled, plain)


@pytest.mark.parametrize("scale", [2.0**600, 2.0**-600])
def test_the_scale_of_features_does_not_matter(scale):
    X = make_blobs(200, centers=4, random_state=0)[0]
    one, other = R().fit(X), R().fit(X * scale)
    assert np.array_equal(one.labels_, other.labels_) and np.array_equal(other.predict(X[:9] * scale), one.labels_[:9])
    a, b = (m.explain(m.node_of(0)).features for m in (one, other))
    assert [f[1] for f in a] == pytest.approx([f[1] for f in b])
    assert [f[2] * scale for f in a] == pytest.approx([f[2] for f in b])


def test_one_point_out_of_all_proportion():
    X = np.r_[make_blobs(100, random_state=0)[0], [[1e160, 0]]]
    assert len(R(2).fit(X).labels_) == 101


@pytest.mark.slow
def test_no_fewer_clusters_than_components_that_are_no_strays():
    X, y = make_blobs(1800, centers=30, cluster_std=0.05, center_box=(-50, 50), random_state=0)
    model = R().fit(X)
    assert model.n_clusters_ == model.n_components_ == 30 and adjusted_rand_score(y, model.labels_) == 1
    assert R(max_clusters=5).fit(X).n_clusters_ == 30
    assert R().fit(nx.empty_graph(20)).n_clusters_ == 20
    assert R().fit(nx.disjoint_union_all([nx.complete_graph(8)] * 30)).n_clusters_ == 30


def test_more_clusters_than_were_looked_for_is_said():
    X, _ = make_blobs(720, centers=12, n_features=8, cluster_std=2.5, random_state=0)
    with pytest.warns(UserWarning, match="max_clusters"):
        assert R(max_clusters=12).fit(X).n_clusters_ == 12


@pytest.mark.parametrize(
    "data",
    [
        np.random.default_rng(0).normal(size=(400, 2)),
        np.random.default_rng(1).normal(size=(400, 8)),
        np.random.default_rng(1).uniform(size=(400, 2)),
        nx.complete_graph(30),
        nx.gnp_random_graph(200, 0.1, seed=0),
    ],
    ids=["normal", "normal, 8d", "uniform", "complete", "random graph"],
)
def test_where_there_is_nothing_there_is_one_cluster(data):
    assert R().fit(data).n_clusters_ == 1


@pytest.mark.parametrize("n, k", [(15, 3), (10, 2), (24, 4)])
def test_few_points(n, k):
    X, y = make_blobs(n, centers=k, cluster_std=0.05, center_box=(-50, 50), random_state=0)
    assert adjusted_rand_score(y, R(k).fit(X).labels_) == 1
    assert R().fit(np.repeat([[0.0], [5.0], [99.0]], 30, axis=0)).n_clusters_ == 3  # three values, many times each


def test_nodes_have_one_numbering():
    X = make_blobs(120, centers=3, random_state=1)[0]
    model = R(3).fit(np.r_[X, X[:20]])
    graph, Z = model.to_networkx(), model.to_linkage()
    for node in (*range(0, 140, 9), *range(140, 279, 7)):
        told = model.explain(node)
        rows = [v for v in nx.descendants(graph, node) | {node} if graph.out_degree(v) == 0]
        assert told.node == node
        assert set(told.central) <= {r for r in range(140) if model.grain_[r] in model.grain_[rows]}
        if node >= 140 and Z[node - 140, 2] > 0:
            assert told.size == graph.nodes[node]["size"] == len(rows)
    for k in range(3):
        node = model.node_of(k)
        assert model.explain(node).size == (model.labels_ == k).sum() == graph.nodes[node]["size"]


def test_peripheral_is_at_the_rim_where_nothing_leads_out():
    X, y = make_blobs(400, centers=4, cluster_std=0.5, center_box=(-30, 30), random_state=0)
    model = R().fit(X)
    assert model.n_components_ == 4
    for k in range(4):
        far = np.linalg.norm(X - X[model.labels_ == k].mean(0), axis=1)
        told = model.explain(model.node_of(k), n_members=8)
        assert np.median(far[told.peripheral]) > np.median(far[model.labels_ == k]) > np.median(far[told.central])


@pytest.mark.parametrize(
    "change", [lambda X: X * 1e-13, lambda X: X + 1e8, lambda X: X * 1e9], ids=["small", "far away", "large"]
)
def test_effect_sizes_do_not_depend_on_the_unit(change):
    X = make_blobs(300, centers=3, random_state=0)[0]

    def effects(X):
        model = R(3).fit(X)
        return [f[:2] for f in model.explain(model.node_of(0)).features]

    assert [(n, pytest.approx(d, rel=1e-3)) for n, d in effects(X)] == effects(change(X))


def test_names_of_features_are_kept():
    pd = pytest.importorskip("pandas")
    X = make_blobs(300, centers=3, random_state=0)[0]
    model = R(3).fit(pd.DataFrame(X, columns=["width", "height"]))
    assert {f[0] for f in model.explain(model.node_of(0)).features} == {"width", "height"}
    model.partial_fit(pd.DataFrame(X[:100] + 0.01, columns=["width", "height"]))
    assert list(model.feature_names_in_) == ["width", "height"]


def test_strange_points_one_at_a_time_are_noticed():
    X = make_blobs(300, centers=[[0, 0], [20, 0], [0, 20]], random_state=0)[0]
    model = R().fit(X)
    for x in make_blobs(60, centers=[[60, 60]], cluster_std=0.3, random_state=0)[0]:
        model.partial_fit(x[None])
    assert model.n_clusters_ == 4 and len(set(model.labels_[300:])) == 1
    assert not set(model.labels_[300:]) & set(model.labels_[:300])
    assert sum(model.explain(model.node_of(k)).size for k in range(4)) == 360


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda m: m.plot_tree(n_clusters=0), "n_clusters"),
        (lambda m: m.plot_tree(n_clusters="x"), "n_clusters"),
        (lambda m: m.plot_icicle(n_clusters=10**6), "n_clusters"),
        (lambda m: m.plot_condensation(np.zeros((60, 2)), n_clusters=0), "n_clusters"),
        (lambda m: m.plot_tree(names=["a"]), "names"),
        (lambda m: m.plot_icicle(names=["a"]), "names"),
        (lambda m: m.explain(0, names=["a"]), "names"),
        (lambda m: m.explain(0, n_members=-2), "n_members"),
        (lambda m: m.explain(119), "node"),
        (lambda m: m.cut(level=True), "level"),
        (lambda m: m.cut(), "got neither"),
        (lambda m: m.predict(np.zeros((1, 2)), n_clusters=2, level=0), "either"),
        (lambda m: R(random_state="x").fit(np.zeros((9, 2))), "random_state"),
        (lambda m: R(affinity="precomputed").fit(np.eye(4) + 1).predict(-np.ones((1, 4))), "0 or more"),
    ],
)
def test_arguments_are_checked(call, words):
    with pytest.raises(ValueError, match=words):
        call(R(3).fit(make_blobs(60, random_state=0)[0]))


def test_all_points_equal_can_be_explained():
    for X in ([[1.0, 2.0]], np.ones((20, 2))):
        model = R().fit(X)
        assert model.n_clusters_ == 1 and model.explain(model.node_of(0)).size == len(X)


def test_a_fit_that_fails_leaves_the_one_before():
    X = make_blobs(60, random_state=0)[0]
    model = R(3).fit(X)
    labels = model.labels_.copy()
    with pytest.raises(ValueError):
        model.fit(np.full((60, 6), np.nan))
    assert model.n_features_in_ == 2 and np.array_equal(model.predict(X), labels)
    assert not hasattr(model.fit(nx.karate_club_graph()), "n_features_in_")


def test_levels_can_be_predicted_and_seeds_be_none():
    X = make_blobs(200, centers=4, random_state=2)[0]
    model = R(random_state=None).fit(X)
    assert np.array_equal(model.predict(X, level=-1), model.cut(level=-1))
    assert np.array_equal(model.predict(X, n_clusters=6), model.cut(6))
    assert R(random_state=np.random.RandomState(0)).fit(X).n_clusters_ >= 1
    story = R(2).fit(nx.les_miserables_graph())
    assert story.to_networkx().nodes[3]["name"] == story.nodes_[3]
