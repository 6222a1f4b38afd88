"The parts of the hierarchy, each against another definition: walk, merges, levels, agreement, effects, and figures."

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import csr_array
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

from diec.hierarchy import condensation, estimator, plots, selection
from diec.hierarchy.condensation import LEVELS_PER_OCTAVE, Tree, condense
from diec.hierarchy.estimator import ReverseHierarchicalDiffusion
from diec.hierarchy.graph import grains, neighbor_affinity
from diec.hierarchy.selection import most_agreed

BLOBS = make_blobs(80, centers=[(0, 0), (9, 0), (0, 9), (9, 9)], n_features=2, random_state=0)[0]


@pytest.fixture(autouse=True)
def no_figures_are_left():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def blobs():
    return fit(BLOBS)


def fit(X, **kwargs):
    return ReverseHierarchicalDiffusion(**kwargs).fit(X)


def labels_after(merges, n):
    "Groups of n points after merges (a, b), where b goes into a"
    group = np.arange(n)
    for a, b in merges:
        group[group == b] = a
    return group


# --- merges


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [2, 3, 40])
def test_ward_is_scipys(n, seed):
    Y = np.random.default_rng(seed).normal(size=(n, 3))
    merges, Z = condensation._ward(Y, np.ones(n)), linkage(Y, "ward")
    assert len(merges) == n - 1
    for k in range(1, n + 1):
        assert adjusted_rand_score(labels_after(merges[: n - k], n), fcluster(Z, k, "maxclust")) == 1


def test_a_point_of_mass_three_is_three_points():
    rng = np.random.default_rng(0)
    Y, mass = rng.normal(size=(25, 2)), rng.integers(1, 4, 25)
    merges, Z = condensation._ward(Y, mass.astype(float)), linkage(np.repeat(Y, mass, axis=0), "ward")
    for k in range(1, 25):
        assert adjusted_rand_score(np.repeat(labels_after(merges[: 25 - k], 25), mass), fcluster(Z, k, "maxclust")) == 1


def test_what_a_merge_costs_is_what_it_adds_to_the_variance_within():
    Y, m = np.random.default_rng(0).normal(size=(5, 2)), np.array([1.0, 2.0, 3.0, 1.0, 5.0])

    def within(*groups):
        return sum(
            (m[g] * ((Y[g] - np.average(Y[g], axis=0, weights=m[g])) ** 2).sum(1)).sum() for g in map(list, groups)
        )

    C = condensation._merge_costs(Y, m)
    assert np.isinf(np.diag(C)).all() and C[1, 4] == pytest.approx(within([1, 4]))
    assert C[0, 2] == pytest.approx(within([0, 2]))
    assert condensation._updated_costs(C, m, 1, 4)[2] == pytest.approx(within([1, 2, 4]) - within([1, 4]))


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zero_has_no_sign(zero):
    X = np.array([[zero, 1.0], [0.0, 1.0], [2.0, 0.0], [2.0, -zero]])
    for Y in (X, csr_array(X)):
        assert len(grains(Y)[0]) == 2 and grains(Y)[2].tolist() == [2, 2]


# --- the walk and its moments


def test_eigenpairs_are_those_of_the_lazy_walk():
    A = neighbor_affinity(BLOBS).toarray()
    A[:, 5] = A[5] = 0
    degree, walk = A.sum(1), np.eye(len(A))
    np.divide(A, degree[:, None], out=walk, where=degree[:, None] > 0)
    walk = (np.eye(len(A)) + walk) / 2
    walk[5] = np.eye(len(A))[5]  # a node without ties stays where it is
    lam, psi, mass = condensation._eigenpairs(csr_array(A))
    np.testing.assert_allclose(walk @ psi, psi * lam, atol=1e-8)
    np.testing.assert_allclose(mass @ walk, mass, atol=1e-12)
    np.testing.assert_allclose(psi.T @ (mass[:, None] * psi), np.eye(len(A)), atol=1e-8)
    assert (np.diff(lam) <= 0).all() and lam[0] == pytest.approx(1) and lam[-1] >= 0 and mass.sum() == pytest.approx(1)


def test_there_are_as_many_nodes_as_patterns_alive():
    A = neighbor_affinity(make_blobs(120, centers=3, cluster_std=3.0, random_state=1)[0])
    lam = condensation._eigenpairs(A)[0]
    heights = condense(A)[1]
    assert heights[0] == 1 / LEVELS_PER_OCTAVE and (heights * LEVELS_PER_OCTAVE % 1 == 0).all()
    for level in range(int(heights[-1] * LEVELS_PER_OCTAVE)):  # time begins at 1 and doubles with each octave
        left = A.shape[0] - (heights <= (level + 1) / LEVELS_PER_OCTAVE).sum()
        assert left == max(1, round((lam**2.0 ** (level / LEVELS_PER_OCTAVE)).sum()))


def test_matching_takes_a_quarter_of_an_octave_a_round(monkeypatch):
    monkeypatch.setattr(condensation, "MAX_DIFFUSION_NODES", 30)
    A = neighbor_affinity(BLOBS)
    merges, heights, roots = condense(A)
    rounds = np.unique(heights[: len(BLOBS) - 30])
    assert rounds.tolist() == [(i + 1) / LEVELS_PER_OCTAVE for i in range(len(rounds))] and len(rounds) >= 2
    assert heights[len(BLOBS) - 30] > rounds[-1] and len(merges) + len(roots) == len(BLOBS)


def test_components_are_joined_an_octave_each_after_all_else():
    X = np.r_[BLOBS[:40], BLOBS[:40] + 1e6, BLOBS[:40] - 1e6]
    tree = fit(X).tree_
    within = tree.heights[: tree.n - tree.components]
    assert tree.components > 1
    assert tree.heights[tree.n - tree.components :].tolist() == [within[-1] + 1 + i for i in range(tree.components - 1)]


def test_many_components_are_joined_along_the_graph_of_their_centers(monkeypatch):
    "Ward's algorithm would hold the costs of all pairs of components"
    rng = np.random.default_rng(0)
    centers = rng.uniform(-500, 500, size=(90, 4)) + 1e5 * np.repeat(np.eye(3, 4), 30, axis=0)
    X, y = np.repeat(centers, 14, axis=0) + rng.normal(size=(90 * 14, 4)), np.repeat(np.arange(90), 14)
    monkeypatch.setattr(condensation, "MAX_DIFFUSION_NODES", 40)
    monkeypatch.setattr(
        condensation, "_ward", lambda Y, mass, real=condensation._ward: real(Y, mass) if len(Y) <= 40 else 1 / 0
    )
    model = fit(X, n_clusters=3)
    assert model.n_components_ == 90 and adjusted_rand_score(y, model.cut(90)) == 1
    assert adjusted_rand_score(np.repeat([0, 1, 2], 30 * 14), model.labels_) == 1
    assert (np.diff(model.tree_.heights) >= 0).all() and sorted(model.tree_.merges.ravel()) == list(
        range(2 * len(X) - 2)
    )


# --- the tree, by loops


@pytest.fixture(scope="module")
def tree():
    return fit(np.random.default_rng(3).normal(size=(150, 3)), n_clusters=4).tree_


def test_leaves_sums_and_cuts_are_those_of_a_walk_down_the_tree(tree):
    def below(node):
        return [node] if node < tree.n else sum((below(child) for child in tree.merges[node - tree.n]), [])

    values = np.random.default_rng(0).random(tree.n)
    for node in range(2 * tree.n - 1):
        assert tree.leaves(node).tolist() == sorted(below(node))
        assert tree.sums(values)[node] == pytest.approx(values[below(node)].sum())
    for k in (1, 2, 9, tree.n):
        labels, nodes = tree.cut(k)
        assert len(nodes) == k and all(
            sorted(below(node)) == np.flatnonzero(labels == c).tolist() for c, node in enumerate(nodes)
        )
        assert (np.diff(np.bincount(labels)) <= 0).all()


def test_the_strongest_neighbor_is_the_first_of_equal_ones():
    rng = np.random.default_rng(0)
    A = rng.integers(0, 3, size=(60, 60)) * (rng.random((60, 60)) < 0.1)
    A = (A + A.T).astype(float)
    A[7] = A[:, 7] = 0
    degree = A.sum(1)
    best, strength = condensation._strongest_neighbors(csr_array(A))
    for i in range(60):
        ties = {j: A[i, j] * (1 / degree[i] + 1 / degree[j]) for j in range(60) if A[i, j] and i != j}
        assert strength[i] == pytest.approx(max(ties.values(), default=0))
        assert best[i] == min((j for j in ties if ties[j] == max(ties.values())), default=i)


# --- how many


@pytest.mark.parametrize(
    "agreement, k",
    [
        ({2: 0.95, 3: 0.5, 4: 0.9, 5: 0.6}, 4),  # stands out, and is near the highest
        ({2: 0.95, 3: 0.5, 4: 0.8, 5: 0.6}, 2),  # stands out, but is not near
        ({2: 0.95, 3: 0.9, 4: 0.88, 5: 0.87}, 2),  # near, but does not stand out
        ({2: 0.3, 3: 0.5, 4: 0.2}, 1),
        ({2: 0.3, 3: 0.56, 4: 0.2}, 3),
    ],
)  # below the floor, above it
def test_the_finest_level_that_stands_out(agreement, k):
    assert most_agreed(agreement) == k


def test_no_level_beyond_the_most_is_taken():
    assert most_agreed({2: 0.9, 3: 0.4, 4: 1.0, 5: 0.3}, most=3) == 2
    assert most_agreed({2: 0.9, 3: 0.4, 4: 1.0, 5: 0.3}, most=4) == 4


def test_agreement_is_the_rand_index_of_cuts_up_to_the_smallest_tree():
    A = neighbor_affinity(BLOBS)
    small, large = (selection.Resample(np.arange(n), Tree(A[:n][:, :n], np.ones(n))) for n in (6, 9))
    back = np.r_[np.arange(6), 0, 1, 2]  # of the larger to the smaller
    found = selection.agreement_by_level([(small, large, back, np.arange(6))], 20)
    assert list(found) == [2, 3, 4, 5, 6]
    for k, value in found.items():
        u, v = small.tree.cut(k)[0], large.tree.cut(k)[0]
        assert value == pytest.approx((adjusted_rand_score(u[back], v) + adjusted_rand_score(v[:6], u)) / 2)


@pytest.mark.parametrize("k", [2, 5, 12])
def test_the_rand_index_is_scikit_learns(k):
    u, v = np.random.default_rng(k).integers(k, size=(2, 90))
    for w in (v, u, (u + 1) % k, np.zeros(90, int)):
        assert selection._adjusted_rand(u, w, k) == adjusted_rand_score(u, w)


# --- parameters and new points


def test_bounds_of_parameters():
    fit(BLOBS, n_neighbors=1, n_clusters=1), fit(BLOBS, max_clusters=2)
    for wrong in (dict(n_neighbors=0), dict(n_clusters=0), dict(max_clusters=1)):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            fit(BLOBS, **wrong)


def test_a_level_that_is_not_there_is_refused_with_those_that_are(blobs):
    n = len(blobs.levels_)
    for level in (n, -n - 1):
        with pytest.raises(ValueError, match=rf"in -{n}\.\.{n - 1}, got {level}"):
            blobs.cut(level=level)
    assert (blobs.cut(level=n - 1) == blobs.cut(level=-1)).all() and (blobs.cut(level=-n) == blobs.cut(level=0)).all()
    with pytest.raises(ValueError, match="n_members"):
        blobs.explain(0, n_members=0)
    assert len(blobs.explain(blobs.node_of(0), n_members=1).central) == 1


@pytest.mark.parametrize("dtype, scale", [(np.float32, 2.0**100), (np.float64, 2.0**300), (np.float32, 2.0**-100)])
def test_a_power_of_two_changes_nothing(blobs, dtype, scale):
    X = BLOBS.astype(np.float32)
    plain, far = fit(X, n_clusters=4), fit(X.astype(dtype) * dtype(scale), n_clusters=4)
    assert (plain.labels_ == far.labels_).all()
    assert (far.predict(X.astype(dtype) * dtype(scale)) == plain.predict(X)).all()
    effects = (model.explain(model.node_of(1)).features for model in (plain, far))
    for (_, d, here, there), (_, e, a, b) in zip(*effects):
        assert (e, a, b) == pytest.approx((d, here * scale, there * scale), rel=1e-4)


@pytest.mark.parametrize("sigmas, strange", [(1.9, 0), (2.1, 1)])
def test_a_point_is_strange_beyond_two_reaches_of_its_neighbor(sigmas, strange):
    i = BLOBS[:, 0].argmax()
    reach = np.sort(np.linalg.norm(BLOBS - BLOBS[i], axis=1))[8]  # its 8th neighbor: a tenth of the points
    model = fit(BLOBS).partial_fit(BLOBS[[i]] + [[sigmas * reach, 0]])
    assert model._n_novel == strange and model.labels_[-1] == model.labels_[i] and len(model.labels_) == len(BLOBS) + 1


# --- what a node is


@pytest.mark.parametrize("form", [np.asarray, csr_array])
def test_effects_are_cohens_d(form):
    X = np.repeat(BLOBS, np.arange(80) % 3 + 1, axis=0)  # rows that come again count again
    model = fit(form(X), n_clusters=4)
    node = model.node_of(2)
    told, tree = model.explain(node, names="ab"), model.to_networkx()
    sibling = next(s for s in tree[next(tree.predecessors(node))] if s != node)
    here, there = (X[[leaf for leaf in nx.descendants(tree, n) | {n} if leaf < len(X)]] for n in (node, sibling))
    pooled = np.sqrt((len(here) * here.var(0) + len(there) * there.var(0)) / (len(here) + len(there)))
    d = dict(zip("ab", (here.mean(0) - there.mean(0)) / pooled))
    assert told.size == len(here) and {f[0] for f in told.features} == {"a", "b"}
    for name, effect, mean, other in told.features:
        j = "ab".index(name)
        assert (effect, mean, other) == pytest.approx((d[name], here[:, j].mean(), there[:, j].mean()))
    assert abs(told.features[0][1]) >= abs(told.features[1][1])


def test_what_is_constant_in_both_differs_without_bound():
    X = np.c_[BLOBS * 1e-3, np.r_[np.zeros(40), np.full(40, 7.0)], np.ones(80)]
    model = fit(X, n_clusters=2)
    told = model.explain(model.node_of(0)).features
    assert [f[0] for f in told[:1]] == [2] and abs(told[0][1]) == np.inf and {f[0] for f in told} <= {0, 1, 2}
    assert all(np.isfinite(f[1]) for f in told[1:])


# --- figures


def test_the_layout_of_a_tree(blobs):
    lay, tree = plots._Layout(blobs, 7), blobs.tree_
    assert [lay.x[n] for n in lay.ends] == list(range(7)) and sorted(lay.label.values()) == list(range(7))
    assert len(lay.merges) == 6
    for node, a, b in lay.merges:
        assert lay.x[node] == (lay.x[a] + lay.x[b]) / 2 and lay.size[a] >= lay.size[b] and lay.x[a] < lay.x[b]
        assert lay.y[node] == tree.heights[node - tree.n] and {a, b} == set(tree.merges[node - tree.n].tolist())
    assert {lay.y[n] for n in lay.ends} == {min(lay.y[n] for n, _, _ in lay.merges) - 2}


@pytest.mark.parametrize("names", [None, [f"row {i}" for i in range(80)]])
@pytest.mark.parametrize("k", [1, 3, 9])
def test_a_tree_lies_within_its_axes(blobs, k, names):
    ax = blobs.plot_tree(n_clusters=k, names=names)
    lay = plots._Layout(blobs, k)
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    assert left < 0 and right > k - 1 and low < min(lay.y.values()) <= max(lay.y.values()) < high
    assert right - left < k + 1
    assert (high - low) < 2 * max(1, max(lay.y.values()) - min(lay.y.values()))
    assert len(ax.lines) == k - 1 and len(ax.texts) == k
    assert sorted(int(t.get_text().split()[0]) for t in ax.texts) == sorted(np.bincount(blobs.cut(k)).tolist())
    if names:
        for text, node in zip(ax.texts, lay.ends):
            assert all(f"row {r}" in text.get_text() for r in plots._most_central(blobs, node))
    assert all(t >= min((lay.y[n] for n, _, _ in lay.merges), default=0) - 1 for t in ax.get_yticks())


def test_a_picture_hangs_at_each_node(blobs):
    images = np.linspace(-1, 1, 80).reshape(80, 1, 1, 1) * np.ones((1, 1, 6, 12))
    boxes = [a for a in blobs.plot_tree(images, n_clusters=4).artists if hasattr(a, "offsetbox")]
    lay = plots._Layout(blobs, 4)
    assert {tuple(b.xy) for b in boxes} == {(lay.x[n], lay.y[n]) for n in lay.x} and len(boxes) == 7
    for box in boxes:
        node = next(n for n in lay.x if (lay.x[n], lay.y[n]) == tuple(box.xy))
        assert box.offsetbox.get_zoom() == (2 if node in lay.label else 16 / 12)  # 24 points wide at the ends, 16 above
        shown = np.asarray(box.offsetbox.get_data())
        assert shown.shape[:2] == (6, 12) and np.ptp(shown[..., 0]) == 0
        assert shown.flat[0] == pytest.approx((images[plots._most_central(blobs, node)[0]].flat[0] + 1) / 2, abs=0.01)
    assert not [a for a in blobs.plot_tree(n_clusters=4).artists if hasattr(a, "offsetbox")]


def test_a_bar_begins_where_the_level_below_ends(blobs):
    fig = blobs.plot_persistence(12)
    bars = {round(p.get_y() + p.get_height() / 2): p for p in fig.axes[0].patches}
    assert sorted(bars) == list(range(1, 13)) and bars[1].get_width() == 1
    assert fig.get_figheight() == pytest.approx(0.6 + 0.2 * 12)
    for k in range(2, 13):
        assert bars[k].get_x() + bars[k].get_width() == pytest.approx(bars[k - 1].get_x())
    assert bars[1].get_x() == blobs.tree_.heights[-1] and bars[12].get_x() == blobs.tree_.heights[-12]
    chosen = bars[blobs.n_clusters_].get_facecolor()
    assert [k for k in bars if bars[k].get_facecolor() == chosen] == [blobs.n_clusters_]
    agreed = {k: v for k, v in blobs.agreement_.items() if k <= 12}
    line = fig.axes[1].lines[0]
    assert dict(zip(line.get_ydata(), line.get_xdata())) == agreed
    assert list(fig.axes[1].lines[1].get_ydata()) == [blobs.n_clusters_]


def test_an_icicle_is_the_tree_row_by_row(blobs):
    ax = blobs.plot_icicle(5, names="abcde")
    sizes = np.bincount(blobs.cut(5)) / 80
    boxes = [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in ax.patches]
    assert len(boxes) == 9 and ax.get_ylim() == (5, 0) and ax.get_xlim() == (0, 1)
    for row in range(5):  # the row of k clusters is filled by k bars, without overlap
        bars = sorted((x, w) for x, y, w, t in boxes if y <= row < y + t)
        assert len(bars) == row + 1 and bars[0][0] == 0 and sum(w for _, w in bars) == pytest.approx(1)
        for (x, w), (after, _) in zip(bars, bars[1:]):
            assert x + w == pytest.approx(after)
        assert sorted(w for _, w in bars) == pytest.approx(sorted(np.bincount(blobs.cut(row + 1)) / 80))
    words = {t.get_text(): t.get_position()[0] for t in ax.texts}
    assert set(words) >= {"abcde"[k] for k in range(5) if sizes[k] > 0.1}
    for word, x in words.items():
        assert any(bx < x < bx + w and w == pytest.approx(sizes["abcde".index(word)]) for bx, _, w, _ in boxes)


def test_a_cluster_too_narrow_for_its_name_has_none(blobs):
    sizes = np.bincount(blobs.cut(60))  # a fiftieth of the width is 1.6 points
    assert sizes.min() == 1 < sizes.max()
    assert {t.get_text() for t in blobs.plot_icicle(60).texts} == {str(k) for k in np.flatnonzero(sizes > 1)}


def test_the_points_are_drawn_at_each_level(blobs):
    axes = blobs.plot_condensation(BLOBS, n_clusters=(60, 30, 4, 2)).axes
    assert [ax.get_title() for ax in axes] == [f"{k} clusters" for k in (60, 30, 4, 2)]
    for ax, k in zip(axes, (60, 30, 4, 2)):
        points, centers = ax.collections
        labels = blobs.cut(k)
        assert len(points.get_offsets()) == 80
        assert len(np.unique(points.get_facecolor(), axis=0)) == (k if k <= 10 else 1)
        positions = np.asarray(points.get_offsets())
        np.testing.assert_allclose(centers.get_offsets(), [positions[labels == c].mean(0) for c in range(k)])
        np.testing.assert_allclose(centers.get_sizes(), 4 + 400 * np.bincount(labels) / 80)
    ax = blobs.plot_condensation(BLOBS, n_clusters=10).axes[0]
    assert len(np.unique(ax.collections[0].get_facecolor(), axis=0)) == 10


def test_a_component_of_less_than_a_fifth_of_the_mean_is_a_stray():
    for masses, kept in (([10, 10, 1], 2), ([10, 10, 2], 3), ([1, 1, 1], 3)):
        assert estimator._n_large_components(Tree(csr_array((3, 3)), masses)) == kept
