"The search against functions whose top is known, and the score against scikit-learn."

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.datasets import make_moons
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, calinski_harabasz_score, mutual_info_score
from sklearn.neighbors import NearestNeighbors

import diec.search as C
from diec.features import DEFAULT_LAYER, Extractor
from diec.losses import adaptive_graph
from diec.search import (
    CRITERIA,
    Clusterability,
    CommonSpace,
    COTResult,
    Evaluation,
    ScoreMap,
    initial_clusters,
    kmeans,
    n_starts,
    neighbor_consistency,
    neighbor_information,
    score_map,
    search_layer,
    search_timestep,
    stability,
    subset_size,
    unimodality_gap,
)
from diec.unet import load_unet


class Made(Clusterability):
    "S(l, t) given by a formula; counts what is computed"

    def __init__(self, f, T=1000, layers=(DEFAULT_LAYER,)):
        self.f, self.criterion, self.evaluations, self.layers = f, "chi", {}, layers
        self.extract = SimpleNamespace(T=T, unet=None)

    def at(self, layers, t):
        assert isinstance(t, (int, np.integer)) and 0 <= t < self.extract.T
        for l in layers:
            self.evaluations.setdefault((l, t), Evaluation(l, int(t), 0.0, 1.0, 0.0, float(self.f(l, t))))
        return [self.evaluations[l, t] for l in layers]


def along(f, **kwargs):
    return Made(lambda l, t: f(t), **kwargs)


SHAPES = {
    "parabola": lambda top: lambda t: -((t - top) ** 2) / 1e4,
    "bell": lambda top: lambda t: 100 * np.exp(-(((t - top) / 200) ** 2)),
    "roof": lambda top: lambda t: -abs(t - top),
    "lopsided": lambda top: lambda t: -(t - top) / 30 if t > top else -3 * (top - t) / 10,
}

# --- one top


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "top", [0, 1, 40, 62, 125, 333, 500, 687, 811, 960, 998, 999, *np.random.default_rng(0).integers(0, 1000, 8)]
)
def test_finds_a_single_top(shape, top):
    for budget, near in ((None, 50), (16, 10)):
        S = along(SHAPES[shape](top))
        found = search_timestep(S, **({"max_evaluations": budget} if budget else {}))
        assert found.unimodal and not found.note and abs(found.t - top) <= near
        assert len(found.evaluations) == len(S.evaluations) <= (budget or 12)


@pytest.mark.parametrize("budget", [4, 5, 8, 9, 10, 12, 16, 30])  # 10: one is left after the grid of 9
@pytest.mark.parametrize("T", [5, 50, 1000, 4000])
def test_the_budget_is_kept(budget, T):
    rng = np.random.default_rng(budget)
    for shape in SHAPES.values():
        top = int(rng.integers(0, T))
        S = along(lambda t: shape(top * 1000 / T)(t * 1000 / T), T=T)
        found = search_timestep(S, max_evaluations=budget)
        assert len(S.evaluations) <= budget and found.unimodal
        assert abs(found.t - top) <= max(T / (budget - 1), 10)
        assert (
            found.score == max(e.score for e in S.evaluations.values()) == S.evaluations[DEFAULT_LAYER, found.t].score
        )


def test_more_evaluations_come_closer():
    far = {
        b: np.mean(
            [abs(search_timestep(along(SHAPES["bell"](top)), max_evaluations=b).t - top) for top in range(3, 1000, 53)]
        )
        for b in (4, 9, 16)
    }
    assert far[16] < 5 and far[16] < far[9] < far[4]


def test_no_timestep_is_computed_twice():
    calls = []

    def f(t):
        calls.append(t)
        return SHAPES["bell"](420)(t)

    class Forgetful(Made):  # the search's own memory is at work, not that of S
        def at(self, layers, t):
            self.evaluations[layers[0], t] = Evaluation(layers[0], t, 0.0, 1.0, 0.0, f(t))
            return [self.evaluations[layers[0], t]]

    search_timestep(Forgetful(None))
    assert len(calls) == len(set(calls)) <= 16


@pytest.mark.parametrize(
    "low, high, evaluations, most",
    [
        (3, 3, 9, 0),
        (3, 4, 9, 0),
        (3, 5, 9, 0),
        (3, 6, 0, 0),
        (3, 6, -1, 0),
        (3, 6, 1, 1),
        (3, 6, 9, 9),
        (100, 400, 1, 1),
        (100, 400, 2, 2),
        (100, 400, 4, 4),
    ],
)
def test_a_bracket_is_narrowed_with_so_many_evaluations(low, high, evaluations, most):
    "And one of two timesteps, or fewer, not at all"
    calls = []
    C._refine(lambda t: calls.append(t) or -abs(t - high + 1), low, high, evaluations)
    assert min(most, 1) <= len(calls) <= most and all(low <= t <= high and type(t) is int for t in calls)


def test_a_bracket_is_narrowed_to_about_twenty_timesteps():
    calls = []
    C._refine(lambda t: calls.append(t) or -((t - 217) ** 2), 0, 999, 100)
    assert len(calls) <= 12 and min(abs(t - 217) for t in calls) <= 20


def test_points_along_t_are_in_order_and_numbered_as_they_were_evaluated():
    "Those at other layers are left out, and not counted"
    made = [
        Evaluation(l, t, 0.0, None, 0.0, s)
        for l, t, s in [
            ("a", 500, 1.0),
            ("a", 0, 2.0),
            ("b", 3, 9.0),
            ("a", 999, 3.0),
            ("a", 250, 7.0),
            ("b", 250, 8.0),
            ("a", 300, 5.0),
        ]
    ]
    found = COTResult("a", 250, "chi", made, True)
    t, s, order = found.along_t()
    assert (
        t.tolist() == [0, 250, 300, 500, 999]
        and s.tolist() == [2, 7, 5, 1, 3]
        and order.tolist() == [2, 4, 5, 1, 3]
        and found.score == 7
    )


# --- not one top


def two_tops(a, b, height):
    return lambda t: np.exp(-(((t - a) / 70) ** 2)) + height * np.exp(-(((t - b) / 70) ** 2))


@pytest.mark.parametrize(
    "a, b, height, top",
    [(150, 800, 1.3, 800), (150, 800, 0.7, 150), (250, 700, 1.1, 700), (0, 999, 0.9, 0), (100, 600, 1.5, 600)],
)
def test_two_tops_are_noticed_and_the_higher_one_found(a, b, height, top):
    S = along(two_tops(a, b, height))
    found = search_timestep(S)
    assert (
        not found.unimodal
        and "2 tops" in found.note
        and str(len(S.evaluations) - 9) in found.note
        and len(S.evaluations) <= 16
    )
    assert abs(found.t - top) <= 40 and found.score == max(e.score for e in S.evaluations.values())


def test_the_higher_top_between_the_points_of_the_grid():
    "On the grid the wrong one looks higher; only refining both tells"
    f = lambda t: np.exp(-(((t - 250) / 100) ** 2)) + 1.2 * np.exp(-(((t - 812) / 60) ** 2))
    grid = np.linspace(0, 999, 9).round()
    assert f(grid).argmax() == 2
    assert abs(search_timestep(along(f)).t - 812) <= 30


@pytest.mark.parametrize(
    "heights, budget, brackets",
    [
        ((0, 1, 2, 3, 4, 3, 2, 1, 0), 12, [(3, 5, 3)]),
        ((4, 3, 2, 1, 0, 0, 0, 0, 0), 12, [(0, 1, 3)]),
        ((0, 0, 0, 0, 0, 0, 0, 0, 1), 30, [(7, 8, 21)]),
        ((0, 3, 2, 1, 0, 2, 4, 2, 1), 12, [(5, 7, 4), (0, 2, 3)]),
        ((5, 0, 4, 3, 2, 1, 0.5, 0.2, 6), 12, [(7, 8, 3), (0, 1, 2), (1, 3, 2)]),
    ],
)
def test_all_tops_share_the_evaluations_that_are_left_the_highest_first(monkeypatch, heights, budget, brackets):
    ts, asked = np.linspace(0, 999, 9).round().astype(int).tolist(), []

    def refine(f, low, high, evaluations):
        asked.append((ts.index(low), ts.index(high), evaluations))
        for t in range(low + 1, low + 1 + evaluations):
            f(t)

    monkeypatch.setattr(C, "_refine", refine)
    search_timestep(along(lambda t: float(heights[ts.index(t)]) if t in ts else -1.0), max_evaluations=budget)
    assert asked == brackets


@pytest.mark.parametrize("seed", range(5))
def test_little_noise_is_borne_and_much_is_noticed(seed):
    noise = np.random.default_rng(seed).uniform(-1, 1, 1000)
    bell = SHAPES["bell"](400)
    S = along(lambda t: bell(t) + 1.5 * noise[t])  # 1.5 per cent of the range
    calm = search_timestep(S)
    assert calm.unimodal and len(S.evaluations) <= 16 and calm.score > 95
    wild = search_timestep(along(lambda t: noise[t]))
    assert not wild.unimodal and "tops" in wild.note


def test_flat_everywhere():
    S = along(lambda t: 3.0)
    found = search_timestep(S)
    assert found.unimodal and found.score == 3.0 and 0 <= found.t < 1000 and len(S.evaluations) <= 16


def test_a_plateau_is_one_top():
    found = search_timestep(along(lambda t: min(t, 300, 1000 - t)))
    assert found.unimodal and found.score == 300


@pytest.mark.parametrize(
    "scores, gap",
    [
        ([1, 2, 3], 0),
        ([3, 2, 1], 0),
        ([1, 3, 2], 0),
        ([5, 5, 5], 0),
        ([2, 0, 2], 1),
        ([0, 2, 1, 2, 0], 0.5),
        ([7], 0),
        ([0, 4, 3, 4, 1, 2], 0.25),
    ],
)
def test_the_gap(scores, gap):
    assert (
        unimodality_gap(scores)
        == pytest.approx(gap)
        == unimodality_gap(np.array(scores) * -1.0 * -9 + 100)
        == unimodality_gap(scores[::-1])
    )


@pytest.mark.parametrize(
    "kwargs, words",
    [
        (dict(max_evaluations=3), ("max_evaluations", "3", "4 or more")),
        (dict(max_evaluations="many"), ("max_evaluations", "'many'", "4 or more")),
        (dict(max_evaluations=9.5), ("max_evaluations", "9.5")),
        (dict(grid=0), ("grid", "0", "or more")),
        (dict(grid=1), ("grid", "1", "or more")),
        (dict(grid=2.5), ("grid", "2.5")),
        (dict(tolerance="x"), ("tolerance", "'x'")),
        (dict(tolerance=-1), ("tolerance", "-1")),
    ],
)
def test_bad_arguments_of_the_search_are_named(kwargs, words):
    with pytest.raises((ValueError, TypeError)) as e:
        search_timestep(along(SHAPES["bell"](400)), **kwargs)
    assert all(w in str(e.value) for w in words), str(e.value)


# --- over layers


def hills(seed):
    rng = np.random.default_rng(seed)
    names = ("conv_in", "down_blocks.0", DEFAULT_LAYER, "up_blocks.0")
    place = {n: (rng.uniform(0, 999), rng.uniform(50, 400), rng.uniform(1, 10)) for n in names}
    return names, lambda l, t: place[l][2] * np.exp(-(((t - place[l][0]) / place[l][1]) ** 2))


@pytest.mark.parametrize("seed", range(20))
def test_the_layer_is_best_on_average_and_the_timestep_is_best_there(seed):
    names, f = hills(seed)
    S = Made(f)
    found = search_layer(S, names)
    ts = (25, 50, 100, 200, 350)
    best = sorted(names, key=lambda l: -f(l, 100))[:2]  # all at the middle timestep, the best two at all
    wanted = {(l, 100) for l in names} | {(l, t) for l in best for t in ts}
    assert [(e.layer, e.t) for e in found.evaluations[: len(names)]] == [(l, 100) for l in names]
    assert {(e.layer, e.t) for e in found.evaluations} == wanted and len(found.evaluations) == len(wanted)
    assert len(S.evaluations) == len(found.evaluations) and found.criterion == "chi"
    assert found.layer == max(best, key=lambda l: np.mean([f(l, t) for t in ts]))
    assert found.t == max(ts, key=lambda t: f(found.layer, t)) and found.score == f(found.layer, found.t)


def test_the_candidates_of_the_search_over_layers():
    "All blocks but the outermost, and two joined: one timestep of each, the others of the best two"
    S = Made(lambda l, t: len(l) - t / 1000)
    S.extract.unet = load_unet("digits")[0]
    found = search_layer(S)
    inner = {"down_blocks.1", "down_blocks.2", "mid_block", "up_blocks.0", "up_blocks.1", "mid_block+up_blocks.0"}
    assert {e.layer for e in found.evaluations} == inner
    assert len(found.evaluations) == 6 + 2 * 4 and (found.layer, found.t) == ("mid_block+up_blocks.0", 25)


@pytest.mark.parametrize("name, n_levels", [("usps", 3), ("mnist", 4), ("cifar10", 4)])
def test_the_search_takes_sixteen_evaluations_at_most(name, n_levels):
    S = Made(lambda l, t: len(l) - t / 1000)
    S.extract.unet = load_unet(name)[0]
    assert len(S.extract.unet.down_blocks) == n_levels and len(search_layer(S).evaluations) <= 16


@pytest.mark.parametrize("T, wanted", [(1000, [25, 50, 100, 200, 350]), (100, [2, 5, 10, 20, 35]), (4, [0, 1])])
def test_the_timesteps_follow_the_length_of_the_schedule(T, wanted):
    found = search_layer(along(lambda t: -t, T=T), [DEFAULT_LAYER])
    assert sorted(e.t for e in found.evaluations) == wanted and found.t == wanted[0]


def test_layers_at_one_timestep():
    S = Made(lambda l, t: len(l))
    found = search_layer(S, ("conv_in", "mid_block", "down_blocks.0"), timesteps=(7,))
    assert (found.layer, found.t) == ("down_blocks.0", 7) and len(S.evaluations) == 3 and found.unimodal


def test_a_second_top_is_reported():
    found = search_layer(Made(lambda l, t: {25: 3.0, 50: 1.0, 100: 2.5}.get(t, 0.0)), [DEFAULT_LAYER])
    assert found.t == 25 and not found.unimodal
    assert search_layer(along(SHAPES["roof"](100)), [DEFAULT_LAYER]).unimodal


@pytest.mark.parametrize("kwargs, name", [(dict(layers=[]), "layers"), (dict(timesteps=[]), "timesteps")])
def test_nothing_to_search_is_refused(kwargs, name):
    for call in (score_map, search_layer):
        with pytest.raises(ValueError, match=f"{name} must hold one or more"):
            call(along(lambda t: -t), **{"layers": ["mid_block"], **kwargs})


def test_the_map_is_S():
    names, f = hills(3)
    S = Made(f)
    table = score_map(S, names, range(0, 1000, 111))
    assert np.allclose(table.values(), [[f(l, t) for t in range(0, 1000, 111)] for l in names])
    assert (
        f(*table.best()) == table.values().max()
        and table.layers == names
        and table.timesteps == tuple(range(0, 1000, 111))
    )
    assert len(score_map(S, [DEFAULT_LAYER]).timesteps) == 20


def test_the_map_covers_all_layers_and_timesteps(monkeypatch):
    monkeypatch.setattr(C, "layer_names", lambda unet: ["conv_in", "up_blocks.0"])
    table = score_map(along(SHAPES["bell"](400), T=96))
    assert (
        table.layers == ("conv_in", "up_blocks.0")
        and table.timesteps == tuple(range(0, 96, 5))
        and table.values().shape == (2, 20)
    )
    assert table.best() == ("conv_in", 95)  # all fall short of the top


def test_the_numbers_of_a_map():
    table = ScoreMap(
        ("a", "b"),
        (5, 6, 7),
        [
            [Evaluation(l, t, 10.0 * t, None, t / 10, float(s)) for t, s in zip((5, 6, 7), row)]
            for l, row in (("a", (1, 2, 3)), ("b", (4, 9, 0)))
        ],
    )
    assert (
        table.best() == ("b", 6)
        and table.values().tolist() == [[1, 2, 3], [4, 9, 0]]
        and table.values("chi").tolist() == [[50, 60, 70]] * 2
    )


# --- the score


@pytest.fixture(scope="module")
def real(digits, digits_unet):
    extract = Extractor(*digits_unet, n_draws=2)
    return extract, extract.prepare(digits)


def test_chi_is_that_of_the_documented_procedure(real):
    extract, images = real
    S = Clusterability(extract, images, 5, "chi", m=80, random_state=3)
    (found,) = S.at(["mid_block"], 150)
    subset = np.sort(np.random.default_rng(3).permutation(len(images))[:80])
    assert np.array_equal(S.subset, subset) and len(set(subset)) == 80
    draws = extract.draws(images[subset], ["mid_block"], 150)["mid_block"]
    pca = PCA(64, random_state=3).fit(draws.mean(0))
    project = lambda e: (lambda v: v / np.linalg.norm(v, axis=1, keepdims=True))(pca.transform(e))
    labels = lambda z: KMeans(5, n_init=10, random_state=3).fit_predict(z)
    z = project(draws.mean(0))
    assert found.chi == pytest.approx(calinski_harabasz_score(z, labels(z)), rel=1e-3)
    near = NearestNeighbors(n_neighbors=10).fit(z).kneighbors(return_distance=False)
    assert found.neighbors == pytest.approx(np.mean([labels(z)[near[i]] == labels(z)[i] for i in range(80)]))
    assert (
        found.stability is None
        and found.score == found.chi == S("mid_block", 150)
        and (found.layer, found.t) == ("mid_block", 150)
    )
    (stable,) = Clusterability(extract, images, 5, "stable_chi", m=80, random_state=3).at(["mid_block"], 150)
    assert stable.stability == pytest.approx(adjusted_rand_score(*(labels(project(d)) for d in draws)), abs=1e-6)
    assert (
        stable.score == pytest.approx(stable.chi * stable.stability)
        and stable.chi == found.chi
        and stable.neighbors == found.neighbors
    )
    default = Clusterability(extract, images, 5, m=80, random_state=3)
    assert default("mid_block", 150) == found.information == stable.information


def test_neighbor_consistency():
    line = np.arange(20.0)[:, None]
    assert neighbor_consistency(line, line[:, 0] >= 10, k=2) == pytest.approx(
        1 - 2 / 40
    )  # the two at the border have one neighbor each across it
    assert neighbor_consistency(line, line[:, 0] % 2, k=2) == pytest.approx(
        2 / 40
    )  # only the second neighbors of the ends
    assert neighbor_consistency(line[:4], [0, 0, 0, 1], k=10) == pytest.approx(
        6 / 12
    )  # three neighbors are all there are


def test_neighbor_information():
    "Against scikit-learn's mutual information of the pairs of neighbors, and at its ends"
    rng = np.random.default_rng(0)
    labels, near = (
        rng.choice([0, 2, 5], 60),
        rng.integers(0, 60, (60, 4)),
    )  # numbers of clusters need not be consecutive
    pairs = np.concatenate(
        [np.c_[np.repeat(labels, 4), labels[near].ravel()], np.c_[labels[near].ravel(), np.repeat(labels, 4)]]
    )
    assert neighbor_information(labels, near) == pytest.approx(mutual_info_score(*pairs.T))
    apart = np.repeat(np.arange(4), 15)
    own = np.stack([rng.choice(np.flatnonzero(apart == c), 3) for c in apart])
    assert neighbor_information(apart, own) == pytest.approx(
        np.log(4)
    )  # four equal clusters that no pair of neighbors crosses
    assert neighbor_information(np.zeros(60), near) == 0
    assert neighbor_information(np.minimum(apart, 2), own) < np.log(3)  # unequal ones say less
    alone = [0] * 9 + [7]  # the only one of its cluster, and nobody's neighbor
    assert neighbor_information(alone, [[0, 1]] * 10) == pytest.approx(
        mutual_info_score([0] * 18 + [7] * 2 + [0] * 20, [0] * 38 + [7] * 2)
    )


def test_neighbors_choose_among_the_starts_of_kmeans():
    "A wide group and two narrow ones near each other: the least inertia halves the wide one and leaves the others together"
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [rng.normal((0, 0), 3, (200, 2)), rng.normal((20, -1.4), 0.3, (200, 2)), rng.normal((20, 1.4), 0.3, (200, 2))]
    ).astype(np.float32)
    truth = np.repeat([0, 1, 2], 200)
    near = NearestNeighbors(n_neighbors=10).fit(x).kneighbors(return_distance=False)
    plain, chosen = kmeans(x, 3, n_init=40), kmeans(x, 3, n_init=40, near=near)
    assert plain.inertia_ < chosen.inertia_ and neighbor_information(chosen.labels_, near) > neighbor_information(
        plain.labels_, near
    )
    assert adjusted_rand_score(truth, chosen.labels_) == 1 > adjusted_rand_score(truth, plain.labels_) + 0.3
    assert (kmeans(x, 3, n_init=40, near=near).labels_ == chosen.labels_).all()


def test_the_starts_that_neighbors_choose_among_are_those_of_the_seed():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)).astype(np.float32)
    near = NearestNeighbors(n_neighbors=3).fit(x).kneighbors(return_distance=False)
    for seed in (0, 7):
        starts = [
            KMeans(5, n_init=1, random_state=s).fit(x) for s in np.random.RandomState(seed).randint(2**31 - 1, size=6)
        ]
        best = max(starts, key=lambda found: neighbor_information(found.labels_, near))
        assert (
            len({neighbor_information(s.labels_, near) for s in starts}) > 2
            and (kmeans(x, 5, seed, 6, near).cluster_centers_ == best.cluster_centers_).all()
        )
        assert (
            kmeans(x, 5, seed, 6).cluster_centers_ == KMeans(5, n_init=6, random_state=seed).fit(x).cluster_centers_
        ).all()


@pytest.mark.parametrize("dtype", [np.float32, float])
@pytest.mark.parametrize(
    "x", [np.random.default_rng(0).normal(3, 1, (300, 5)), np.eye(4, 6).repeat(9, 0)], ids=["", "few"]
)
def test_the_first_centers_are_those_of_scikit_learn(x, dtype):
    x = x.astype(dtype)
    for n_clusters in (2, 6):
        found = C._first_centers(x, n_clusters, np.arange(20))
        wanted = [kmeans_plusplus(x - x.mean(0), n_clusters, random_state=seed)[1] for seed in range(20)]
        assert found.tolist() == [rows.tolist() for rows in wanted]


def test_values_that_are_not_finite_are_refused():
    x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        kmeans(x, 2, near=np.zeros((20, 1), int))


def test_of_many_points_the_starts_see_a_part(monkeypatch):
    rng = np.random.default_rng(0)
    x = (np.repeat(np.eye(3, 4) * 4, 4000, 0) + rng.normal(size=(12_000, 4))).astype(np.float32)
    near = rng.integers(0, 12_000, (12_000, 2))
    sizes = []

    class Counted(KMeans):
        def fit(self, X, y=None):
            sizes.append(len(X))
            return super().fit(X)

    monkeypatch.setattr(C, "KMeans", Counted)
    found = kmeans(x, 3, n_init=4, near=near)
    assert sizes == [10_000] * 4 + [12_000] and len(found.labels_) == 12_000
    assert adjusted_rand_score(np.repeat([0, 1, 2], 4000), found.labels_) > 0.9
    assert np.allclose(found.cluster_centers_, np.stack([x[found.labels_ == k].mean(0) for k in range(3)]), atol=1e-3)


@pytest.mark.parametrize("n_clusters, wanted", [(2, 10), (10, 10), (26, 3), (100, 2), (1000, 2), (10_000, 2)])
def test_the_number_of_starts(n_clusters, wanted):
    assert n_starts(n_clusters) == wanted


def test_the_initial_clusters_are_those_with_the_most_information():
    "Two half moons: k-means cuts them, and diffusion makes them compact"
    x, truth = make_moons(400, noise=0.05, random_state=0)
    x, graph = x.astype(np.float32), adaptive_graph(x, 10)
    steps = (0, 20, 100, 400)
    each = [initial_clusters(x, graph, 2, diffusion=(s,)) for s in steps]
    information = [neighbor_information(f.labels_, graph.neighbors) for f in each]
    found = initial_clusters(x, graph, 2, diffusion=steps)
    assert neighbor_information(found.labels_, graph.neighbors) == pytest.approx(max(information))
    assert max(information) > information[0] + 0.02
    assert adjusted_rand_score(truth, found.labels_) > adjusted_rand_score(truth, each[0].labels_) + 0.3
    assert (initial_clusters(x, graph, 2, diffusion=steps).labels_ == found.labels_).all()
    plain = initial_clusters(x, graph, 3, 5, (0,), 7, by_information=False)
    assert (plain.labels_ == KMeans(3, n_init=7, random_state=5).fit(x).labels_).all()


def grid_of_blobs(rng):
    "Nine blobs of sixty points, far from each other"
    centers = np.array([(i, j) for i in range(3) for j in range(3)], float) * 10
    x = np.concatenate([rng.normal(c, 0.5, (60, 2)) for c in centers])
    return x.astype(np.float32), np.repeat(np.arange(9), 60)


@pytest.mark.parametrize("split, merged", [([8], [(0, 1)]), ([4], [(7, 8)]), ([0, 4], [(1, 2), (7, 8)])])
def test_one_cluster_is_split_and_two_are_merged_where_that_adds_information(split, merged):
    x, truth = grid_of_blobs(np.random.default_rng(0))
    near, labels = adaptive_graph(x, 10).neighbors.numpy(), truth.copy()
    for k, (i, j) in zip(split, merged):  # k-means cannot leave this
        labels[truth == j] = i
        labels[(truth == k) & (x[:, 0] > x[truth == k, 0].mean())] = j
    stuck = C._kmeans_from(x, labels, 9)
    assert adjusted_rand_score(truth, stuck.labels_) < 0.9
    found = C._rearranged(x, stuck, near, 0)
    assert adjusted_rand_score(truth, found.labels_) == 1
    assert C._rearranged(x, found, near, 0) is found  # nothing adds information
    assert neighbor_information(found.labels_, near) > neighbor_information(stuck.labels_, near)


def test_rearranging_ends_after_as_many_rounds_as_there_are_starts(monkeypatch):
    x, truth = grid_of_blobs(np.random.default_rng(0))
    labels = np.where(truth < 2, 0, truth)
    labels[(truth == 8) & (x[:, 0] > 20)] = 1
    monkeypatch.setattr(C, "n_starts", lambda n_clusters: 0)
    stuck = C._kmeans_from(x, labels, 9)
    assert C._rearranged(x, stuck, adaptive_graph(x, 10).neighbors.numpy(), 0) is stuck


def test_longer_diffusion_starts_from_the_best_clusters_of_shorter(monkeypatch):
    x, _ = grid_of_blobs(np.random.default_rng(0))
    graph, starts, real = adaptive_graph(x, 10), [], C._kmeans_from
    monkeypatch.setattr(C, "_kmeans_from", lambda z, labels, k: starts.append(labels) or real(z, labels, k))
    monkeypatch.setattr(C, "_moves", lambda *_: [])  # no other start from clusters
    initial_clusters(x, graph, 9, diffusion=(0, 5, 10))
    shorter = initial_clusters(x, graph, 9, diffusion=(0,)).labels_
    assert len(starts) == 2 and (starts[0] == shorter).all()


def test_what_a_merger_costs_is_what_counting_anew_says():
    rng = np.random.default_rng(0)
    labels, near = rng.integers(0, 5, 300), rng.integers(0, 300, (300, 4))
    labels[near[:, 0]] = labels  # some dependence
    lost = C._lost_by_merging(C._pairs_of_neighbors(labels, near, 5))
    before = neighbor_information(labels, near)
    for i, j in ((0, 1), (4, 2), (3, 0)):
        after = neighbor_information(np.where(labels == j, i, labels), near)
        assert lost[i, j] == pytest.approx(lost[j, i]) == pytest.approx(before - after)
    assert np.isinf(np.diag(lost)).all()


@pytest.mark.parametrize("part, pair", [(0, (1, 2)), (2, (0, 1)), (1, (0, 3)), (0, (2, 3))])
def test_a_move_leaves_as_many_clusters(monkeypatch, part, pair):
    "The move with the least loss is taken: one half of a cluster may go to another one"
    labels = np.repeat([0, 1, 2], 4)
    halves = labels + 3 * np.tile([0, 0, 1, 1], 3) * (labels == part)
    lost = np.ones((4, 4))
    lost[pair] = 0
    monkeypatch.setattr(C, "_lost_by_merging", lambda pairs: lost.copy())
    (moved,) = C._moves(labels, halves, np.arange(12)[:, None], 3)
    groups = np.where(halves == 3 + part, 3, labels)
    wanted = np.where(groups == pair[1], pair[0], groups)
    assert set(moved) == {0, 1, 2} and adjusted_rand_score(wanted, moved) == 1


def test_points_that_are_alike_are_not_split(recwarn):
    x = np.repeat(np.eye(3, dtype=np.float32), 8, 0)
    found = initial_clusters(x, adaptive_graph(x, 5), 3)
    assert adjusted_rand_score(np.repeat(np.arange(3), 8), found.labels_) == 1 and not recwarn.list
    assert len(initial_clusters(x, adaptive_graph(x, 5), 5).labels_) == 24 and not recwarn.list  # more than there are


def test_points_that_diffusion_has_merged_do_not_warn(recwarn):
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    graph = adaptive_graph(x, 10)
    assert len(initial_clusters(x, graph, 8, diffusion=(20_000,), n_init=2).labels_) == 40 and not recwarn.list


def test_an_invalid_value_that_blas_reports_falsely_does_not_warn(monkeypatch, recwarn):
    "OpenBLAS 0.3.30 reads a register that it has not set, where AVX-512 multiplies 5 float32 numbers"
    real, alarms = KMeans.fit, []

    def fit(self, *args, **kwargs):
        alarms.append(np.float32(np.inf) * np.float32(0))  # what BLAS does with what is left there
        return real(self, *args, **kwargs)

    monkeypatch.setattr(KMeans, "fit", fit)
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    initial_clusters(x, adaptive_graph(x, 10), 4)
    assert alarms and not recwarn.list


def test_information_is_that_of_the_initial_clusters(real):
    extract, images = real
    S = Clusterability(extract, images, 5, m=80, random_state=3)
    (found,) = S.at(["mid_block"], 150)
    e = extract.with_draws(found.n_draws)(S.images, ["mid_block"], 150)["mid_block"]
    z = CommonSpace.fit(e, random_state=3).transform(e)
    graph = adaptive_graph(z)
    labels = initial_clusters(z, graph, 5, 3).labels_
    assert found.score == found.information == neighbor_information(labels, graph.neighbors) > 0.2
    assert S.rescored("neighbors")("mid_block", 150) == found.neighbors


def test_the_same_seed_gives_the_same_scores(real):
    extract, images = real
    made = lambda seed: Clusterability(extract, images, 4, m=60, random_state=seed).at(["mid_block", "conv_in"], 80)
    assert made(0) == made(0) and [e.score for e in made(0)] != [e.score for e in made(1)]
    one = search_timestep(Clusterability(extract, images, 4, m=60), max_evaluations=6)
    two = search_timestep(Clusterability(extract, images, 4, m=60), max_evaluations=6)
    assert one == two


def test_map_search_and_single_scores_agree(real):
    extract, images = real
    S = Clusterability(extract, images, 4, m=60)
    found = search_timestep(S, "up_blocks.0", max_evaluations=4)
    table = score_map(
        Clusterability(extract, images, 4, m=60), ["conv_in", "up_blocks.0"], [e.t for e in found.evaluations]
    )
    assert np.allclose(table.values()[1], [e.score for e in found.evaluations], rtol=1e-4)
    assert np.allclose(table.values("chi")[1], [e.chi for e in found.evaluations], rtol=1e-4)
    assert table.values()[1].argmax() == int(np.argmax([e.score for e in found.evaluations]))


def test_labels_of_obvious_groups_are_stable_and_those_of_noise_are_not():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(3, 8) * 10, 30, 0)
    assert stability(groups + rng.normal(size=(3, 90, 8)), 3) == 1.0
    assert stability(rng.normal(size=(3, 90, 8)), 3) < 0.3
    assert np.isnan(stability(groups[None], 3))
    assert CRITERIA["stable_chi"](Evaluation("l", 0, 100.0, -0.2, 0.0)) == 0


class Groups:
    "In an extractor's place: embeddings of three groups, whose spread grows with t"

    T = 1000

    def __init__(self, n_draws=2):
        self.n_draws, self.asked = n_draws, []
        self.noise, self.centers = (
            np.random.default_rng(0).normal(size=(n_draws, 90, 8)),
            np.repeat(np.eye(3, 8) * 10, 30, 0),
        )

    def fingerprint(self, images, **facts):
        return f"{len(images)} images, {facts}"

    def check_timestep(self, t):
        return t

    def enough_draws(self, images, layers, t):
        return self.n_draws

    def with_draws(self, n_draws):
        return self

    def draws(self, images, layers, t):
        self.asked.append((*layers, t))
        return {l: (self.centers + self.noise * (0.5 + t / 100))[:, images[:, 0]].astype(np.float32) for l in layers}


def of_groups(criterion="stable_chi", n_clusters=3, n_draws=2, **kwargs):
    return Clusterability(Groups(n_draws), np.arange(90)[:, None], n_clusters, criterion, **kwargs)


def test_chi_prefers_the_better_groups():
    "Through the whole of `Clusterability`, with the U-Net replaced by embeddings whose spread grows with t"
    S = of_groups()
    scores = [S("x", t) for t in (0, 200, 400, 800)]
    assert scores == sorted(scores, reverse=True) and S.evaluations["x", 0].stability == 1


@pytest.mark.parametrize("n_draws", [2, 3, 5])
def test_any_number_of_draws_can_be_compared(n_draws):
    assert of_groups(n_draws=n_draws).at(["x"], 0)[0].stability == 1


def test_two_clusters_have_a_score():
    assert of_groups("chi", 2)("x", 0) > 10 and 0.9 < of_groups("neighbors", 2)("x", 0) <= 1


def test_only_what_is_not_known_is_evaluated():
    S = of_groups("neighbors")
    first = S.at(["x", "y"], 300)
    assert S.at(["y", "z", "x"], 300) == [first[1], S.evaluations["z", 300], first[0]] and S("x", 300) == first[0].score
    assert S.extract.asked == [("x", "y", 300), ("z", 300)] and list(S.evaluations) == [
        ("x", 300),
        ("y", 300),
        ("z", 300),
    ]


@pytest.mark.parametrize(
    "before, after", [(b, a) for b in CRITERIA for a in CRITERIA if b == "stable_chi" or a != "stable_chi"]
)
def test_what_was_seen_is_rescored_without_another_look(before, after):
    one, asked = of_groups(before), of_groups(after)
    for S in (one, asked):
        S.at(["x", "y"], 300)
        S("x", 500)
    known, looks = dict(one.evaluations), len(one.extract.asked)
    other = one.rescored(after)
    assert {k: e.score for k, e in other.evaluations.items()} == {
        k: e.score for k, e in asked.evaluations.items()
    } and list(other.evaluations) == list(known)
    assert other.criterion == after and other("y", 300) == asked("y", 300) and len(other.extract.asked) == looks
    assert (
        other("z", 300) == asked("z", 300) and one.evaluations == known and one.criterion == before
    )  # what is found later is its own


@pytest.mark.parametrize("before", ["chi", "neighbors"])
def test_draws_that_were_not_compared_cannot_be_rescored(before):
    with pytest.raises(ValueError, match=f"stable_chi.*got '{before}'"):
        of_groups(before).rescored("stable_chi")


def test_the_subset_is_hashed_once_in_a_search_and_never_without_a_file(tmp_path, monkeypatch):
    hashed, real = [], Groups.fingerprint
    monkeypatch.setattr(Groups, "fingerprint", lambda *a, **facts: hashed.append(len(a[1])) or real(*a, **facts))
    for file, times in ((tmp_path / "kept", 1), (None, 0)):
        S = of_groups("chi", cache_file=file)
        for t in (0, 300, 500):
            S("x", t)
        assert hashed == [90] * times
        hashed.clear()


def test_kept_evaluations_are_those_of_this_very_search(tmp_path):
    path = tmp_path / "kept"
    one = of_groups("chi", cache_file=path)
    one.at(["x", "y"], 300)
    one("x", 500)
    again = of_groups("chi", cache_file=path)
    assert (
        again.evaluations == one.evaluations
        and list(again.evaluations) == list(one.evaluations)
        and again("x", 500) == one("x", 500)
        and not again.extract.asked
    )
    for other in (dict(criterion="neighbors"), dict(n_clusters=4), dict(random_state=1), dict(m=80)):
        assert not of_groups(**{"criterion": "chi", "cache_file": path, **other}).evaluations
    assert not of_groups("chi").evaluations
    before = path.read_bytes()
    of_groups("chi").at(["x"], 0)
    again.rescored("neighbors").at(["x"], 0)  # neither was told to keep anything
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"\xff", b"{", b"[]", b"{}", b"null", b'{"origin": 1}', b"[" * 100_000])
def test_a_file_that_keeps_nothing_is_as_none(tmp_path, content):
    (tmp_path / "kept").write_bytes(content)
    assert not of_groups(cache_file=tmp_path / "kept").evaluations


def test_kept_evaluations_that_are_not_whole_are_made_again(tmp_path):
    of_groups("chi", cache_file=tmp_path / "kept")("x", 300)
    kept = json.loads((tmp_path / "kept").read_text())
    for damage in (lambda e: e.pop("t"), lambda e: e.update(more=1)):
        damaged = json.loads(json.dumps(kept))
        damage(damaged["evaluations"][0])
        (tmp_path / "kept").write_text(json.dumps(damaged))
        assert not of_groups("chi", cache_file=tmp_path / "kept").evaluations


def test_images_that_are_all_alike_have_no_clusters(real):
    "A clear error, or a score of nothing: not the inner complaint of a library"
    extract, _ = real
    same = torch.zeros(30, 1, 8, 8)
    try:
        assert Clusterability(extract, same, 3)("mid_block", 100) == 0
    except ValueError as e:
        assert "images" in str(e)


@pytest.mark.parametrize(
    "kwargs, words",
    [
        (dict(criterion="silhouette"), ("criterion", "silhouette", "chi", "stable_chi", "neighbors")),
        (dict(n_clusters=1), ("n_clusters", "1", "2..")),
        (dict(n_clusters=200), ("n_clusters", "200", "2..199")),
        (dict(n_clusters=60, m=60), ("n_clusters", "60", "2..59")),
        (dict(n_clusters="ten"), ("n_clusters", "'ten'", "2..")),
        (dict(n_clusters=2.5), ("n_clusters", "2.5", "2..")),
        (dict(m=0), ("m ", "0")),
        (dict(m="all"), ("m ", "'all'")),
        (dict(random_state=-1), ("random_state", "-1")),
    ],
)
def test_bad_arguments_of_the_score_are_named(real, kwargs, words):
    with pytest.raises((ValueError, TypeError)) as e:
        Clusterability(*real, **{"n_clusters": 4, **kwargs})
    assert all(w in str(e.value) for w in words), str(e.value)


def test_the_subset_grows_with_the_clusters(real):
    assert [subset_size(k) for k in (2, 10, 11, 40, 300, 9000)] == [2000, 2000, 2200, 8000, 10_000, 18_000]
    assert [subset_size(10, n) for n in (100, 20_000, 70_000, 10**6)] == [2000, 2000, 7000, 10_000]
    extract, images = real
    assert len(Clusterability(extract, images, 4).subset) == len(images)  # fewer than 2,000
    many = images.repeat(11, 1, 1, 1)
    assert len(Clusterability(extract, many, 4).subset) == 2000 < len(many)


def test_one_draw_is_enough_where_draws_are_not_compared(digits, digits_unet):
    extract = Extractor(*digits_unet, n_draws=1)
    with pytest.raises(ValueError, match="n_draws must be 2 or more.*got 1"):
        Clusterability(extract, digits, 4, "stable_chi")
    assert all(
        np.isfinite(Clusterability(extract, extract.prepare(digits), 4, c, m=50)("mid_block", 100))
        for c in ("chi", "neighbors")
    )


# --- the common space


@pytest.mark.parametrize("n, D", [(50, 8), (20, 300), (5, 3)])
def test_common_space(n, D):
    e = np.random.default_rng(0).normal(size=(n, D)) * np.linspace(0.1, 5, D) + 100
    space = CommonSpace.fit(e)
    z = space.transform(e)
    assert z.shape == (n, min(64, D, n - 1)) and np.allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    by_hand = PCA(z.shape[1], random_state=0).fit_transform(e.astype(np.float32))
    cos = (z * by_hand).sum(1) / np.linalg.norm(by_hand, axis=1)
    assert np.allclose(cos, 1, atol=1e-3)
    assert np.allclose(CommonSpace.fit(e * 7).transform(e * 7), z, atol=1e-2)  # scale does not matter
    assert np.allclose(space(torch.from_numpy(e).float()).numpy(), z)
    assert space.transform(e.reshape(1, n, D)).shape == (1, *z.shape)


def test_of_an_array_on_disk_that_is_too_large_a_part_is_fitted(tmp_path, monkeypatch):
    monkeypatch.setattr(C, "BLOCK", 10)
    e = np.memmap(tmp_path / "e", np.float32, "w+", shape=(21, 3))
    e[:] = np.random.default_rng(0).normal(size=(21, 3))
    part = np.random.default_rng(5).permutation(21)[:20]
    means = lambda array: CommonSpace.fit(array, random_state=5).mean.numpy()
    assert np.allclose(means(e), e[part].mean(0), atol=1e-6) and not np.allclose(e[part].mean(0), e.mean(0), atol=1e-3)
    assert np.allclose(means(np.array(e)), e.mean(0), atol=1e-6) and np.allclose(
        means(e[:20]), e[:20].mean(0), atol=1e-6
    )  # in memory, or small enough: all of it


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 20, 25])
def test_parts_that_are_mapped_one_after_the_other_make_the_whole(monkeypatch, n):
    e = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    space = CommonSpace.fit(e)
    whole = space(torch.from_numpy(e[:n])).numpy()
    monkeypatch.setattr(C, "BLOCK", 10)
    assert np.allclose(space.transform(e[:n]), whole, atol=1e-6) and space.transform(e[:n]).shape == whole.shape == (
        n,
        6,
    )
