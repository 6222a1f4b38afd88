"Embeddings from elsewhere in place of a U-Net's: what may be given, the same stages, saving and loading, and errors."

import json

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA

from diec.embeddings import GivenEmbeddings, vectors_of
from diec.estimator import DiEC
from diec.search import Clusterability, search_layer
from diec.trainer import ClusterModel, LossWeights, Trainer, TrainingConfig

QUICK = TrainingConfig(head_epochs=3, joint_epochs=0)


class Network(torch.nn.Module):
    "Vectors of 20 numbers, by a layer that would drop half of them in training"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 20), torch.nn.Dropout(0.5))

    def forward(self, x):
        assert not torch.is_grad_enabled()
        return self.layers(x)


def pixels(batch):
    return batch.flatten(1)


def quick(embed, **kwargs):
    return DiEC(**{"n_clusters": 4, "embed": embed, "training_config": QUICK, "random_state": 0, **kwargs})


@pytest.fixture(scope="module")
def vectors(digits):
    return PCA(16, random_state=0).fit_transform(digits.reshape(len(digits), -1)).astype(np.float32)


def test_the_stages_by_hand_give_the_labels_of_the_estimator(digits, vectors):
    rows, sizes = vectors_of(vectors, digits)
    model = ClusterModel.start(vectors, 4, random_state=0)
    by_hand = Trainer(GivenEmbeddings(sizes), model, "embed", 0, LossWeights(), QUICK).fit(rows, vectors)
    fitted = quick(vectors).fit(digits)
    np.testing.assert_array_equal(fitted.labels_, by_hand)
    assert (fitted.layer_, fitted.timestep_, fitted.search_result_) == ("embed", 0, None)


def test_function_array_and_precomputed_give_the_same(digits):
    x = digits.reshape(len(digits), -1)
    by_function, by_array = quick(pixels).fit(digits), quick(x).fit(digits)
    precomputed = quick("precomputed").fit(x)
    assert (by_function.labels_ == by_array.labels_).all() and (by_array.labels_ == precomputed.labels_).all()
    np.testing.assert_array_equal(by_function.predict(digits[:9]), precomputed.predict(x[:9]))
    np.testing.assert_array_equal(by_array.transform(x[:9]), precomputed.transform(x[:9]))


@pytest.mark.parametrize("kind", [list, torch.from_numpy, np.float64])
def test_vectors_of_other_kinds(vectors, kind):
    given = vectors.tolist() if kind is list else kind(vectors)
    np.testing.assert_array_equal(quick("precomputed").fit_predict(given), quick("precomputed").fit_predict(vectors))


def test_a_module_runs_in_evaluation_mode_and_stays_in_training(digits):
    network = Network().train()
    fitted = quick(network).fit(digits)
    assert network.training and fitted.embed is network
    np.testing.assert_array_equal(fitted.predict(digits), fitted.labels_)
    assert fitted.model_.space.mean.shape == (20,)


def test_images_are_floats_between_minus_one_and_one_in_batches(digits):
    seen = []

    def look(batch):
        seen.append((len(batch), batch.dtype, batch.min().item() >= -1, batch.max().item() <= 1))
        return batch.flatten(1)

    quick(look, batch_size=50).fit(((digits + 1) * 127.5).round().astype(np.uint8))
    assert {s[1:] for s in seen} == {(torch.float32, True, True)} and max(s[0] for s in seen) == 50


def test_the_search_compares_several_and_their_join(digits, vectors):
    noise = np.random.default_rng(0).normal(size=(len(digits), 30))
    fitted = quick({"noise": noise, "good": vectors}).fit(digits)
    assert [e.layer for e in fitted.search_result_.evaluations] == ["noise", "good", "noise+good"]
    assert fitted.layer_ == "good" and fitted.timestep_ == 0
    np.testing.assert_array_equal(fitted.labels_, quick(vectors).fit_predict(digits))


def test_the_search_alone(digits, vectors):
    rows, sizes = vectors_of({"a": vectors, "b": digits.reshape(len(digits), -1)}, digits)
    S = Clusterability(GivenEmbeddings(sizes), rows, 4)
    assert search_layer(S, ("a", "b"), (0,)).layer in ("a", "b")


def test_joined_layers_can_be_asked_for(digits, vectors):
    fitted = quick({"a": vectors, "b": digits.reshape(len(digits), -1)}, layer="a+b").fit(digits)
    assert fitted.layer_ == "a+b" and fitted.search_result_ is None
    assert fitted.model_.space.mean.shape == (16 + 64,)


@pytest.mark.parametrize("X", ["images", "paths"])
def test_functions_beside_arrays_are_refused(digits, vectors, X):
    with pytest.raises(
        ValueError, match="^embed must be a dict of functions or one of arrays, not both.* 'b' and .* 'a'"
    ):
        quick({"a": vectors, "b": pixels}).fit(digits if X == "images" else "nowhere")


def test_k_is_estimated(digits, vectors):
    assert quick(vectors, n_clusters=None).fit(digits).n_clusters_ >= 2


def test_a_checkpoint_resumes_the_same_vectors_alone(digits, vectors, tmp_path):
    checkpoint = tmp_path / "run.safetensors"
    first = quick(vectors, checkpoint=checkpoint).fit(digits)
    again = quick(vectors, checkpoint=checkpoint).fit(digits)
    assert (first.labels_ == again.labels_).all() and first.history_ == again.history_
    with pytest.raises(ValueError, match="another run"):
        quick(vectors + 1, checkpoint=checkpoint).fit(digits)


def test_a_checkpoint_is_of_one_split_of_the_vectors(digits, vectors, tmp_path):
    "The same numbers side by side, once with the layer b in the last four columns, once in the last eight"
    for cut in (12, 8):
        parts = {"a": vectors[:, :cut], "b": vectors[:, cut:]}
        model = quick(parts, layer="a+b", checkpoint=tmp_path / "run.safetensors")
        if cut == 12:
            model.fit(digits)
            continue
        with pytest.raises(ValueError, match="another run"):
            model.fit(digits)


def test_a_saved_model_takes_vectors_or_the_function(digits, tmp_path):
    fitted = quick({"a": pixels, "b": Network()}, layer="a+b").fit(digits)
    fitted.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / "unet").exists()
    again = DiEC.from_pretrained(tmp_path / "model", embed=fitted.embed)
    np.testing.assert_array_equal(again.predict_proba(digits), fitted.predict_proba(digits))
    loaded = DiEC.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        b = fitted.embed["b"].eval()(torch.tensor(digits))
    vectors = {"a": digits.reshape(len(digits), -1), "b": b}
    np.testing.assert_array_equal(loaded.predict(vectors), fitted.labels_)
    assert (loaded.labels_ == fitted.labels_).all() and loaded.layer_ == "a+b"
    loaded.save_pretrained(tmp_path / "again")
    one, two = ((tmp_path / name / "config.json").read_text() for name in ("model", "again"))
    assert one == two


@pytest.mark.parametrize("size", [1e-7, 1e7])
def test_vectors_of_any_size_can_be_saved(digits, vectors, tmp_path, size):
    fitted = quick(size * vectors + size).fit(digits)
    fitted.set_params(embed=None).save_pretrained(tmp_path / "model")
    again = DiEC.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(size * vectors + size), fitted.labels_)


def test_a_model_with_a_unet_takes_no_function(digits, tmp_path):
    DiEC(4, layer="mid_block", timestep=9, training_config=QUICK, random_state=0).fit(digits).save_pretrained(
        tmp_path / "model"
    )
    with pytest.raises(ValueError, match="embed must be None for"):
        DiEC.from_pretrained(tmp_path / "model", embed=pixels)


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"embed": 0}, "must be integers in 1"),
        ({"embed": 16.0}, "must be integers in 1"),
        ({"embed": True}, "must be integers in 1"),
        ({"other": 16}, "layer must be one of"),
        ({"embed": 17}, "space.mean must have the length 17"),
    ],
)
def test_a_damaged_model_is_refused(digits, vectors, tmp_path, sizes, message):
    quick(vectors).fit(digits).save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"embeddings": sizes}))
    with pytest.raises(ValueError, match=message):
        DiEC.from_pretrained(tmp_path / "model")


def test_clone_and_params(vectors):
    model = quick(vectors)
    assert clone(model).embed is not vectors and model.get_params()["embed"] is vectors


def test_settings_are_checked_before_a_function_runs(digits):
    def too_late(batch):
        raise AssertionError("something was computed")

    for kwargs, said in (
        (dict(loss_weights=LossWeights(eta=-1.0)), "loss_weights.eta must be"),
        (dict(training_config=TrainingConfig(patience=0)), "training_config.patience must be"),
        (dict(random_state=2**32), "random_state must be .* 0..4294967295"),
        (dict(init="random"), "init must be"),
    ):
        with pytest.raises(ValueError, match=said):
            quick(too_late, **kwargs).fit(digits)


def wrong(batch):
    return batch


def growing(batch):
    return batch.flatten(1)[:, : len(batch) - 90]


@pytest.mark.parametrize(
    "embed, kwargs, error, message",
    [
        ("clip", {}, ValueError, "embed must be a function.*got 'clip'"),
        ({}, {}, ValueError, "embed must hold an embedding or more"),
        ({"a+b": pixels}, {}, ValueError, r"without '\+', got 'a\+b'"),
        (np.zeros((7, 3)), {}, ValueError, r"embed must be vectors of shape \(200, D\).*got \(7, 3\)"),
        ({"a": np.zeros((200, 2)), "b": np.full((200, 3), np.nan)}, {}, ValueError, r"embed\['b'\] must be finite"),
        (np.array([["a"]] * 200), {}, TypeError, "embed must be numbers"),
        (wrong, {}, ValueError, r"what embed returns must be vectors of shape \(200, D\)"),
        (growing, {"batch_size": 150}, ValueError, "what embed returns must have the same length in every batch"),
        (pixels, {"fine_tune_unet": True}, ValueError, "fine_tune_unet must be False with embed"),
        (pixels, {"fine_tune_unet": np.bool_(True)}, ValueError, "fine_tune_unet must be False with embed"),
        (pixels, {"criterion": "stable_chi"}, ValueError, "criterion must not be 'stable_chi'"),
        (pixels, {"unet": "digits"}, ValueError, "unet must be 'auto' with embed.*got 'digits'"),
        (pixels, {"unet": (1, 2)}, ValueError, "unet must be 'auto' with embed.*got tuple"),
        (pixels, {"n_draws": 2}, ValueError, "n_draws must be 'auto' with embed.*got 2"),
        (pixels, {"device": "cpu"}, ValueError, "device must be None with embed.*got 'cpu'"),
        (pixels, {"timestep": 5}, ValueError, "timestep must be 0"),
        (pixels, {"layer": "mid_block"}, ValueError, r"layer must be one of \('embed',\)"),
        (pixels, {"batch_size": 0}, ValueError, "batch_size"),
    ],
)
def test_errors(digits, embed, kwargs, error, message):
    with pytest.raises(error, match=message):
        quick(embed, **kwargs).fit(digits)


def test_errors_of_predict(digits, vectors):
    fitted = quick(vectors).fit(digits)
    with pytest.raises(ValueError, match=r"X must be vectors of shape .*got \(5, 1, 8, 8\)"):
        fitted.predict(digits[:5])
    with pytest.raises(ValueError, match="vectors of 16 numbers, as in fit, got 3"):
        fitted.predict(vectors[:5, :3])
    several = quick({"a": vectors, "b": vectors}).fit(digits)
    with pytest.raises(ValueError, match="keys 'a', 'b', as in fit; 'a' is missing"):
        several.predict(vectors)
    with pytest.raises(AttributeError, match="no U-Net"):
        fitted.unet_  # noqa: B018
