"What `diec cluster` says about its duration: forecasts follow the number of images, and are made from measured passes"

import numpy as np
import pytest

from diec.app import forecast
from diec.app.pretrain import Recipe
from diec.data.datasets import load_dataset
from diec.embeddings import GivenEmbeddings
from diec.features import Extractor
from diec.trainer import Trainer
from diec.unet import load_unet


@pytest.fixture
def clock(monkeypatch):
    "Each timed call takes a second, after it was made, and half a second more for each epoch of training in it"
    calls, epochs, one_epoch = [], [], Trainer.one_epoch

    def counted(self, *args, **kwargs):
        epochs.append(self)
        return one_epoch(self, *args, **kwargs)

    def seconds(call):
        before = len(epochs)
        call()
        calls.append(call)
        return 1.0 + 0.5 * (len(epochs) - before)

    monkeypatch.setattr(Trainer, "one_epoch", counted)
    monkeypatch.setattr(forecast, "_seconds", seconds)
    return calls


def test_a_fit_is_estimated_from_passes_starts_and_epochs(clock):
    images = load_dataset("digits").images[:400]
    found = forecast.fit_seconds(Extractor(*load_unet("digits")), images, 10)
    passes, starts, epochs = 5 * 400 + 400, 6 + 4 * 2 + 1, 400 * forecast.EPOCHS / 2
    assert len(clock) == 5 and found == pytest.approx((passes + epochs) / 300 + starts)


def test_with_an_unknown_number_of_clusters_it_is_estimated_once_more(clock):
    images = load_dataset("digits").images[:400]
    extract = Extractor(*load_unet("digits"))
    given, estimated = forecast.fit_seconds(extract, images, 10), forecast.fit_seconds(extract, images)
    assert len(clock) == 11 and estimated - given == pytest.approx(2 * 400 / 300)


def test_one_file_of_vectors_needs_no_search(clock):
    vectors = np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32)
    found = forecast.fit_seconds(GivenEmbeddings({"vectors": 16}), vectors, 3)
    assert found == pytest.approx((500 + 500 * forecast.EPOCHS / 2) / 300 + 1)


def test_a_start_has_a_part_that_does_not_grow_with_the_images(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(forecast, "initial_clusters", lambda z, *_: now.append(now.pop() + 2 + 0.01 * len(z)))
    z = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    assert forecast._start_seconds(z, 5) == pytest.approx((2, 0.01))
    assert forecast._start_seconds(z, 60) == pytest.approx((0, 5 / 300))  # a third would hold too few


def test_reading_is_estimated_from_some_files(clock, tmp_path):
    names = [f"{i}.png" for i in range(100)]  # none exists: broken files take time, too
    assert forecast.reading_seconds(tmp_path, names, 32) == pytest.approx(100)
    assert len(clock) == 12 and forecast.reading_seconds(tmp_path, [], 32) == 0


def test_pretraining_is_estimated_from_the_steps_after_the_first(monkeypatch):
    seconds = iter((5.0, 8.0))  # one step, then four
    monkeypatch.setattr(forecast, "pretrain", lambda *_, **__: None)
    monkeypatch.setattr(forecast, "_seconds", lambda call: call() or next(seconds))
    found = forecast.pretraining_seconds(np.zeros((8, 1, 8, 8), np.uint8), Recipe(n_steps=101))
    assert found == pytest.approx(5 + 100 * 1.0)
