"The temperature of the soft assignments, and that it is measured without labels."

import json

import numpy as np
import pytest

from diec.confidence import MOST_IMAGES, best_temperature, certainty, sample, sharpen, votes
from diec.data.datasets import load_dataset
from diec.estimator import DiEC
from diec.evaluation.metrics import calibration, match_clusters
from diec.trainer import ClusterModel


@pytest.fixture(scope="module")
def blobs():
    "Three groups of points, and which is which"
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 400)
    return (rng.normal(size=(400, 5)) + 8 * np.eye(5)[truth]).astype(np.float32), truth


def measured(e, k):
    "The certainty of the clusters that training would start from"
    model = ClusterModel.start(e, k)
    return certainty(model, e, votes(e, model.start_labels.numpy(), k))


@pytest.fixture(scope="module")
def digits_model():
    data = load_dataset("digits")
    return DiEC(10, "digits", layer="mid_block", timestep=25, random_state=0).fit(data.images), data


def test_sharpening_changes_no_order_and_loses_no_small_number():
    q = np.array([[0.6, 0.4 - 1e-30, 1e-30], [1.0, 0.0, 0.0]], np.float32)
    for temperature in (0.1, 1.0, 10.0):
        p = sharpen(q, temperature)
        assert p.dtype == np.float32 and np.allclose(p.sum(1), 1) and np.isfinite(p).all()
        assert (p.argmax(1) == 0).all()
    np.testing.assert_allclose(sharpen(q, 1.0), q, atol=1e-6)
    np.testing.assert_allclose(
        sharpen(sharpen(q[:, :2], 0.5), 2.0), q[:, :2] / q[:, :2].sum(1, keepdims=True), atol=1e-6
    )


@pytest.mark.parametrize("true", [0.2, 1.0, 5.0])
def test_the_temperature_is_found_again(true):
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(4), 20_000)
    drawn = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
    assert best_temperature(sharpen(p, 1 / true), drawn) == pytest.approx(true, rel=0.1)


def test_votes_that_all_agree_do_not_make_it_certain():
    q = np.tile([[0.5, 0.3, 0.2]], (100, 1))
    top = sharpen(q, best_temperature(q, np.zeros(100, int)))[0, 0]
    assert 0.98 < top < 0.998  # one image more votes for all three alike


def test_votes_are_numbered_as_the_clusters(blobs):
    e, truth = blobs
    for names in ([0, 1, 2], [2, 0, 1]):
        labels = np.array(names)[truth]
        np.testing.assert_array_equal(votes(e, labels, 3), labels)


def test_noise_is_not_stable(blobs):
    noise = np.random.default_rng(2).normal(size=(400, 5)).astype(np.float32)
    unsure, sure = (measured(e, 3).stability for e in (noise, blobs[0]))
    assert unsure < 0.7 and sure == 1


def test_the_true_number_of_clusters_is_the_most_stable(blobs):
    e = blobs[0]
    stability = {k: measured(e, k).stability for k in (2, 3, 4, 6)}
    assert max(stability, key=stability.get) == 3


def test_too_few_images_leave_it_as_it_is(blobs):
    e = blobs[0][:15]
    assert measured(e, 3) == (1, None)


def test_a_sample_is_bounded_and_ordered():
    assert np.array_equal(sample(10), np.arange(10))
    some = sample(MOST_IMAGES + 500, 3)
    assert len(some) == MOST_IMAGES and (np.diff(some) > 0).all()


def test_confidence_on_digits_is_that_of_a_classifier(digits_model):
    diec, data = digits_model
    q, named = diec.predict_proba(data.images), match_clusters(data.labels, diec.labels_)
    after = calibration(data.labels, named, q.max(1).clip(0, 1)).ece
    before = calibration(data.labels, named, sharpen(q, 1 / diec.temperature_).max(1).clip(0, 1)).ece
    assert after < 0.05 < 0.3 < before


def test_a_model_of_before_is_read_without_it(digits_model, tmp_path):
    digits_model[0].save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    del config["temperature"], config["stability"]
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    d = DiEC.from_pretrained(tmp_path / "model")
    assert d.temperature_ == 1 and d.stability_ is None


def test_it_is_saved_and_read(digits_model, tmp_path):
    diec, data = digits_model
    diec.save_pretrained(tmp_path / "model")
    again = DiEC.from_pretrained(tmp_path / "model")
    assert again.temperature_ == diec.temperature_ != 1 and again.stability_ == diec.stability_ > 0.8
    np.testing.assert_array_equal(again.predict_proba(data.images[:9]), diec.predict_proba(data.images[:9]))
