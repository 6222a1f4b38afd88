"Scores against brute force and known values; every input check"

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from diec.evaluation import metrics as m


def brute_force(y, p, K):
    return max(np.mean(np.array(names)[p] == y) for names in permutations(range(K)))


@pytest.mark.parametrize("seed", range(20))
def test_acc_is_the_best_permutation(seed):
    rng = np.random.default_rng(seed)
    K = int(rng.integers(2, 6))
    y, p = rng.integers(K, size=(2, int(rng.integers(1, 60))))
    assert m.clustering_accuracy(y, p) == pytest.approx(brute_force(y, p, K))


@pytest.mark.parametrize("classes, clusters", [(2, 5), (5, 2), (1, 4), (4, 1)])
def test_acc_when_clusters_and_classes_differ(classes, clusters):
    rng = np.random.default_rng(0)
    y, p = rng.integers(classes, size=50), rng.integers(clusters, size=50)
    K = max(classes, clusters)
    assert m.clustering_accuracy(y, p) == pytest.approx(brute_force(y, p, K))
    assert (m.match_clusters(y, p) == y).mean() == pytest.approx(m.clustering_accuracy(y, p))


def test_acc_known_values():
    assert m.clustering_accuracy([0, 0, 1, 1], [1, 1, 0, 0]) == 1
    assert m.clustering_accuracy([0, 0, 1, 1], [0, 0, 0, 1]) == 0.75
    assert m.clustering_accuracy([0, 0, 1, 1], [0, 0, 0, 0]) == 0.5
    assert m.clustering_accuracy(["a", "b"], [9, -1]) == 1
    # naming each cluster after its commonest class is not the best matching here
    assert m.clustering_accuracy([0] * 5 + [1] * 4 + [0] * 3, [0] * 9 + [1] * 3) == pytest.approx(7 / 12)


def test_scores_do_not_depend_on_names_or_order():
    rng = np.random.default_rng(1)
    y, p = rng.integers(4, size=(2, 200))
    s, order = m.scores(y, p), rng.permutation(200)
    assert m.scores(y[order], p[order]) == pytest.approx(s)
    assert m.scores(y * 7 - 3, (p + 1) % 4) == pytest.approx(s)
    assert m.scores(torch.tensor(y), p.tolist()) == pytest.approx(s)
    assert m.scores(y.astype(float), p.astype(float)) == pytest.approx(s)
    assert list(s) == ["ACC", "NMI", "ARI"] and all(type(v) is float for v in s.values())


def test_nmi_and_ari_known_values():
    assert m.nmi([0, 0, 1, 1], [1, 1, 0, 0]) == pytest.approx(1)
    assert m.nmi([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(0, abs=1e-9)
    assert m.nmi([0, 0, 1, 1], [0, 0, 1, 2]) == pytest.approx(0.8)  # I = ln 2, H = ln 2 and 1.5 ln 2
    assert m.ari([0, 0, 1, 1], [0, 0, 1, 2]) == pytest.approx(4 / 7)
    assert m.ari([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(-0.5)


def test_match_clusters():
    assert m.match_clusters([0, 0, 0, 1, 1], ["b", "b", "c", "a", "a"]).tolist() == [0, 0, 2, 1, 1]
    assert m.match_clusters([3, 3, 7, 7], [0, 0, 1, 1]).tolist() == [3, 3, 7, 7]
    left = m.match_clusters([3, 3, 3, 3, 3, 7, 7], [0, 0, 0, 1, 2, 4, 4])
    assert left.tolist() == [3, 3, 3, 8, 9, 7, 7]  # left over: after the last class
    assert m.match_clusters(np.array([0.0, 1.0]), [1, 0]).dtype.kind == "i"
    with pytest.raises(ValueError, match="labels_true must be whole numbers"):
        m.match_clusters(["a", "b"], [0, 1])
    with pytest.raises(ValueError, match="labels_true must be whole numbers"):
        m.match_clusters([0.5, 1], [0, 1])


@pytest.mark.parametrize("score", [m.clustering_accuracy, m.match_clusters, m.nmi, m.ari, m.scores])
@pytest.mark.parametrize(
    "y, p, message",
    [
        ([0, 1], [0], r"labels_pred must be as long as labels_true \(2\), got length 1"),
        ([], [], "labels_true must not be empty"),
        ([[0, 1]], [0], r"labels_true must be 1-d, got shape \(1, 2\)"),
        ([[0, 1], [0]], [0], "labels_true must be 1-d"),
        (3, [0], "labels_true must be 1-d"),
        ([0, 1], [[0], [1]], "labels_pred must be 1-d"),
        ([0, np.nan], [0, 1], "labels_true must hold no NaN"),
        ([0, 1], [0, np.inf], "labels_pred must hold no NaN"),
        ([0, 1], [None, 1], "labels_pred must hold no NaN"),
    ],
)
def test_input_checks(score, y, p, message):
    with pytest.raises(ValueError, match=message):
        score(y, p)


def test_knn_accuracy():
    x = np.array([[0.0], [1.0], [10.0], [11.0]])
    assert m.knn_accuracy(x, [0, 0, 1, 1], k=1) == 1
    assert m.knn_accuracy(x, [0, 1, 0, 1], k=1) == 0  # a point does not vote for itself
    assert m.knn_accuracy(np.zeros((4, 2)), [0, 0, 0, 1], k=3) == 0.75  # nor where points coincide
    assert m.knn_accuracy(torch.tensor(x, dtype=torch.bfloat16, requires_grad=True), ["a", "a", "b", "b"], k=1) == 1
    digits = load_digits()
    assert m.knn_accuracy(digits.data, digits.target) > 0.97
    for k in (0, 4, 1.5, True):
        with pytest.raises(ValueError, match=r"k must be an int in 1..N-1 \(N=4\)"):
            m.knn_accuracy(x, [0, 0, 1, 1], k=k)


def test_linear_probe_accuracy():
    rng = np.random.default_rng(0)
    y = np.arange(100) % 2
    x = rng.standard_normal((100, 5))
    x[:, 0] += 8 * y
    assert m.linear_probe_accuracy(x, y) == 1
    assert m.linear_probe_accuracy(1000 * x, y) == 1  # standardized
    assert m.linear_probe_accuracy(rng.standard_normal((100, 5)), y, random_state=3) < 0.75
    assert m.linear_probe_accuracy(x[:5], [0, 0, 1, 1, 1]) <= 1  # two folds for a class of two
    for labels in (np.zeros(100), [0] + [1] * 99):
        with pytest.raises(ValueError, match="labels must hold two classes"):
            m.linear_probe_accuracy(x, labels)


@pytest.mark.parametrize("diagnose", [m.knn_accuracy, m.linear_probe_accuracy])
@pytest.mark.parametrize(
    "x, y, message",
    [
        (np.zeros(4), [0, 0, 1, 1], "features must be 2-d"),
        (np.zeros((0, 2)), [0], "features must not be empty"),
        (np.full((4, 2), np.nan), [0, 0, 1, 1], "features must be finite"),
        (np.zeros((4, 2)), [0, 1], r"labels must be as long as features \(4\)"),
        (np.zeros((2, 2)), [0, np.nan], "labels must hold no NaN"),
    ],
)
def test_feature_checks(diagnose, x, y, message):
    with pytest.raises(ValueError, match=message):
        diagnose(x, y)


def test_calibration():
    c = m.calibration([0, 1, 2, 3], [0, 0, 0, 0], [0.9, 0.9, 0.25, 0.25], n_bins=4)
    assert c.count.tolist() == [0, 2, 0, 2] and c.ece == pytest.approx(0.325)
    assert np.isnan(c.confidence[0]) and c.confidence[3] == pytest.approx(0.9) and c.accuracy[3] == 0.5
    assert m.calibration([0, 1], [0, 1], [1.0, 1.0]).ece == 0 and m.calibration([0], [1], [0.0]).ece == 0
    rng = np.random.default_rng(0)
    q = rng.random(20000)
    honest = m.calibration(np.zeros(20000), (rng.random(20000) > q).astype(int), q)
    assert honest.ece < 0.02 and honest.count.sum() == 20000
    with pytest.raises(ValueError, match=r"confidence must be numbers in \[0, 1\]"):
        m.calibration([0], [0], [1.5])
    with pytest.raises(ValueError, match="confidence must be as long"):
        m.calibration([0, 1], [0, 1], [1.0])
    with pytest.raises(ValueError, match="labels_pred_matched must hold no NaN"):
        m.calibration([0], [np.nan], [1.0])
    with pytest.raises(ValueError, match="n_bins must be an int of 1 or more"):
        m.calibration([0], [0], [1.0], n_bins=0)


def test_summary_and_format():
    s = m.summary([{"ACC": 0.9, "NMI": 1}, {"ACC": 0.7, "NMI": 1}])
    assert s == {"ACC": (pytest.approx(0.8), pytest.approx(np.sqrt(0.02))), "NMI": (1, 0)}
    mean, std = m.summary([{"ACC": np.float32(0.5)}])["ACC"]
    assert mean == 0.5 and np.isnan(std)
    assert m.format_mean_std(0.9764, 0.0012) == "97.6 ± 0.1"
    assert m.format_mean_std(0.9764, float("nan")) == "97.6"
    assert m.format_mean_std(12.346, 0.5, digits=2, percent=False) == "12.35 ± 0.50"
    for runs, message in (
        ([], "runs must hold one dict"),
        ([{"a": 1.0}, {"b": 1.0}], "share their names"),
        ([{"a": "x"}], "hold numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            m.summary(runs)


def test_markdown_table():
    text = m.markdown_table(
        [
            {"method": "k-means", "ACC": 0.5, "n": 10, "NMI": "97.6 ± 0.1"},
            {"method": "a|b\nc", "ACC": np.float32(1), "NMI": "5.0"},
        ]
    )
    assert text.splitlines() == [
        "| method  |   ACC |   n |        NMI |",
        "| ------- | ----: | --: | ---------: |",
        "| k-means | 0.500 |  10 | 97.6 ± 0.1 |",
        "| a\\|b c  | 1.000 |     |        5.0 |",
    ]
    assert m.markdown_table([{"a": 1, "b": True}], columns=["b"]).splitlines() == ["| b    |", "| ---- |", "| True |"]
    assert m.markdown_table([], columns=["a"]).count("\n") == 1
    assert "0.12 |" in m.markdown_table([{"a": 0.1234}], digits=2)
    with pytest.raises(ValueError, match="rows must hold"):
        m.markdown_table([])
