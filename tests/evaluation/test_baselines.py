"""The baselines: each gives labels for every image, the same with the same seed, and takes a trained autoencoder.

These tests come last: once their libraries are loaded, this process computes to other last bits, which the bitwise tests of training notice.
"""

import numpy as np
import pytest

from diec.core.checkpoint import load_state, save_state
from diec.data.datasets import load_dataset
from diec.evaluation.baselines import (
    BASELINES,
    DEEP,
    ON_UMAP,
    OPTIONAL_BASELINES,
    run_baseline,
    train_autoencoder,
    untrained_autoencoder,
)

X = load_dataset("digits").subset(150, random_state=0).images


@pytest.mark.parametrize("name", BASELINES)
def test_classical(name):
    labels = run_baseline(name, X, 4, 1)
    assert labels.shape == (150,) and set(labels.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ON_UMAP)
def test_on_umap(name):
    pytest.importorskip("umap")
    labels = run_baseline(name, X, 4, 1)
    assert labels.shape == (150,) and set(labels.tolist()) == {0, 1, 2, 3}
    assert (labels == run_baseline(name, X, 4, 1)).all()


@pytest.mark.parametrize("name", ["", "kmeans", "dec"])
def test_unknown_name(name):
    with pytest.raises(ValueError, match="name must be one of"):
        run_baseline(name, X, 4)


@pytest.fixture(scope="module")
def autoencoder():
    pytest.importorskip("clustpy")
    return train_autoencoder(X, 0, epochs=2)


@pytest.mark.parametrize("name", ["DDC", "N2D"])
def test_deep_with_a_trained_autoencoder(name, autoencoder):
    before = {k: v.clone() for k, v in autoencoder.state_dict().items()}
    a, b = (run_baseline(name, X, 4, 1, autoencoder) for _ in range(2))
    assert a.shape == (150,) and a.dtype == np.int64 and (a == b).all() and len(set(a.tolist())) >= 1
    assert all((v == before[k]).all() for k, v in autoencoder.state_dict().items()), "the methods work on a copy"


def test_deep_methods_exist():
    deep = pytest.importorskip("clustpy.deep")
    for name in DEEP:
        assert hasattr(deep, name)
    assert OPTIONAL_BASELINES == ("UMAP + k-means", "UMAP + mixture", *DEEP)


def test_autoencoder_survives_a_file(autoencoder, tmp_path):
    save_state(tmp_path / "w.safetensors", dict(autoencoder.state_dict()))
    again = untrained_autoencoder(64)
    again.load_state_dict(load_state(tmp_path / "w.safetensors"))
    assert (run_baseline("DDC", X, 4, 1, again) == run_baseline("DDC", X, 4, 1, autoencoder)).all()


def test_baselines_print_nothing(autoencoder, capfd):
    run_baseline("DDC", X, 4, 0, autoencoder)
    assert capfd.readouterr() == ("", "")
