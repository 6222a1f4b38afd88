"The scikit-learn face: conventions, kinds of input, saving and loading, and errors that name the argument."

import copy
import json
import os
import shutil
import signal
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import subprocess_cases
import torch
from huggingface_hub import ModelCard
from huggingface_hub.utils import filter_repo_objects
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import diec.confidence
import diec.data.images
import diec.estimator as E
import diec.search
import diec.trainer
from diec.data.datasets import load_dataset
from diec.estimator import DiEC
from diec.features import Layer
from diec.trainer import LossWeights, TrainingConfig
from diec.unet import new_scheduler, new_unet

pytestmark = pytest.mark.usefixtures("few_starts")
QUICK = TrainingConfig(head_epochs=2, joint_epochs=1, batch_size=64)


def tiny(in_channels=1):
    return new_unet(8, in_channels, block_out_channels=(8, 8)).eval(), new_scheduler()


def quick(**kwargs):
    return DiEC(
        **{
            **dict(
                n_clusters=4,
                unet=tiny(),
                timestep=60,
                n_draws=2,
                training_config=QUICK,
                fine_tune_unet=False,
                random_state=0,
                device="cpu",
            ),
            **kwargs,
        }
    )


@pytest.fixture(scope="module")
def fitted(digits):
    return quick(fine_tune_unet=True).fit(digits)


@pytest.fixture
def unseen():
    return load_dataset("digits").images[900:925].copy()


# --- conventions


def test_parameters_go_round():
    given = dict(
        n_clusters=3,
        unet="x",
        embed=None,
        layer="conv_in",
        timestep=5,
        criterion="chi",
        n_draws=1,
        search_size=9,
        init="k-means",
        fine_tune_unet=False,
        loss_weights=LossWeights(),
        training_config=QUICK,
        checkpoint="c",
        batch_size=7,
        device="cpu",
        precision="float32",
        image_shape=(8, 8),
        random_state=4,
        progress=True,
    )
    assert (
        DiEC(**given).get_params()
        == given
        == DiEC().set_params(**given).get_params()
        == clone(DiEC(**given)).get_params()
    )
    assert set(given) == set(DiEC().get_params())
    with pytest.raises(ValueError):
        DiEC().set_params(clusters=3)
    DiEC(n_clusters="nonsense", unet=object())  # nothing is checked before `fit`


def test_the_papers_configuration():
    paper = DiEC.paper(7, "mnist-5k", n_draws=3).get_params()
    config = paper.pop("training_config")
    assert (config.head_epochs, config.warmup_epochs) == (0, 0) and config.joint_epochs > 0
    assert {k: v for k, v in paper.items() if v != DiEC().get_params()[k]} == dict(
        n_clusters=7,
        unet="mnist-5k",
        layer="mid_block",
        criterion="chi",
        init="k-means",
        fine_tune_unet=True,
        loss_weights=LossWeights(lambda_graph=0.1, lambda_nbr=0.0, lambda_stay=0.0),
        n_draws=3,
    )
    assert isinstance(DiEC.paper(), DiEC) and DiEC.paper(2, "digits", layer="conv_in").layer == "conv_in"


def test_the_papers_start_is_k_means_on_the_embedding(digits):
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    none = TrainingConfig(head_epochs=0, joint_epochs=0)
    model = quick(init="k-means", unet="digits", n_clusters=10, training_config=none).fit(digits)
    z = model.transform(digits)
    own = KMeans(10, n_init=20, random_state=0).fit(z)
    assert adjusted_rand_score(model.labels_, own.labels_) > 0.9
    inertia = lambda labels: sum(((z[labels == k] - z[labels == k].mean(0)) ** 2).sum() for k in range(10))
    assert inertia(model.labels_) < 1.01 * own.inertia_


@pytest.mark.parametrize(
    "init, wanted",
    [("k-means", ((0,), 20, False, True)), ("diffusion", ((20, 50, 100, 200, 400), None, True, True))],
)
def test_the_start_is_the_one_asked_for(digits, monkeypatch, init, wanted):
    seen, real = [], diec.trainer.initial_clusters
    monkeypatch.setattr(diec.trainer, "initial_clusters", lambda *args: seen.append(args[4:]) or real(*args))
    quick(init=init).fit(digits)
    assert seen[0] == wanted and {again[1] for again in seen[1:]} == {
        diec.confidence.N_STARTS
    }  # and both halves, for the temperature


def test_as_published_head_and_unet_learn_together_from_the_first_epoch(digits, digits_unet, same):
    model = DiEC.paper(
        4,
        digits_unet,
        timestep=60,
        n_draws=2,
        random_state=0,
        device="cpu",
        training_config=TrainingConfig(head_epochs=0, warmup_epochs=0, joint_epochs=1),
    ).fit(digits[:60])
    assert (
        model.history_["stage"] == ["joint"] and model.history_["diff"][0] > 0 and not same(model.unet_, digits_unet[0])
    )


def test_fit_returns_itself_and_leaves_parameters_images_and_the_callers_unet_alone(digits, same):
    unet, scheduler = new_unet(8, block_out_channels=(8, 16, 16)).train(), new_scheduler()
    model, images = quick(unet=(unet, scheduler), fine_tune_unet=True), digits[:60].copy()
    params, before = model.get_params(), {k: v.clone() for k, v in unet.state_dict().items()}
    assert model.fit(images) is model
    assert model.get_params() == params and all(model.get_params()[k] is params[k] for k in params)
    assert np.array_equal(images, digits[:60])
    assert same(unet, before) and unet.training and all(p.grad is None for p in unet.parameters())
    assert not same(model.unet_, before)  # it did train one, of its own
    assert not any(len(m._forward_hooks) for m in model.unet_.modules())


def test_clone_is_unfitted_and_fits_alike(digits):
    model = quick(unet=tiny()).fit(digits[:60])
    again = clone(model)
    with pytest.raises(NotFittedError):
        again.predict(digits)
    assert np.array_equal(again.fit(digits[:60]).labels_, model.labels_)


@pytest.mark.parametrize("call", ["predict", "predict_proba", "transform"])
def test_unfitted(call, digits):
    with pytest.raises(NotFittedError, match="DiEC"):
        getattr(quick(), call)(digits)
    with pytest.raises((NotFittedError, AttributeError)):
        quick().cluster_centers_
    with pytest.raises(NotFittedError):
        quick().save_pretrained("nowhere")


def test_labels_are_not_looked_at(digits, same):
    plain = quick().fit(digits)
    for y in (np.arange(200) % 4, np.random.default_rng(0).integers(0, 4, 200), ["text"], np.full(7, np.nan)):
        other = quick().fit(digits, y)
        assert np.array_equal(other.labels_, plain.labels_) and same(other.model_, plain.model_)
    assert np.array_equal(quick().fit_predict(digits, np.arange(200)), plain.labels_)
    assert np.allclose(quick().fit_transform(digits), plain.transform(digits), atol=1e-5)


def test_an_empty_path_is_not_the_current_folder(fitted):
    for call in (DiEC(2, unet="digits").fit, fitted.predict):
        with pytest.raises(ValueError, match="X: a path must not be empty; the current folder is '.'"):
            call("")


def test_shapes_and_types_on_unseen_images(fitted, unseen):
    p, q, z = fitted.predict(unseen), fitted.predict_proba(unseen), fitted.transform(unseen)
    assert p.shape == (25,) and p.dtype == np.int64 == fitted.labels_.dtype and fitted.labels_.shape == (200,)
    assert q.shape == (25, 4) and q.dtype == np.float32 and np.allclose(q.sum(1), 1, atol=1e-5) and (q >= 0).all()
    assert z.ndim == 2 and len(z) == 25 and z.dtype == np.float32 and np.isfinite(z).all()
    assert fitted.cluster_centers_.shape == (4, z.shape[1])
    distance = ((z[:, None] - fitted.cluster_centers_) ** 2).sum(-1)
    assert np.array_equal(p, q.argmax(1)) and np.array_equal(p, distance.argmin(1))
    sharp = (1 / (1 + distance)) ** (1 / fitted.temperature_)
    assert np.allclose(q, sharp / sharp.sum(1, keepdims=True), atol=1e-4)
    fitted.cluster_centers_[:] = 0  # a copy
    assert fitted.cluster_centers_.any()


def test_prediction_is_deterministic_and_ignores_company(fitted, unseen, digits):
    q = fitted.predict_proba(unseen)
    assert np.array_equal(q, fitted.predict_proba(unseen))
    assert np.allclose(q[::-1], fitted.predict_proba(unseen[::-1].copy()), atol=1e-4)
    assert np.allclose(q[:1], fitted.predict_proba(unseen[:1]), atol=1e-4)
    assert np.array_equal(fitted.predict(digits), fitted.labels_)


def test_the_same_seed_gives_the_same_result_and_none_gives_some_result(digits, same):
    one, two = (quick(fine_tune_unet=True).fit(digits) for _ in range(2))
    assert np.array_equal(one.labels_, two.labels_) and same(one.model_, two.model_) and same(one.unet_, two.unet_)
    free, again = (quick(random_state=None).fit(digits) for _ in range(2))
    assert not same(free.model_, again.model_)
    rng = [quick(random_state=np.random.RandomState(5)).fit(digits) for _ in range(2)]
    assert same(rng[0].model_, rng[1].model_)
    np.random.seed(3)
    torch.manual_seed(3)
    state = np.random.get_state()[1].copy(), torch.get_rng_state()
    quick().fit(digits)
    assert np.array_equal(state[0], np.random.get_state()[1]) and torch.equal(state[1], torch.get_rng_state())


def test_fitting_anew_forgets_the_old(digits):
    model = quick().fit(digits)
    assert len(model.set_params(n_clusters=3).fit(digits[:50]).labels_) == 50 and model.cluster_centers_.shape[0] == 3


def test_a_fit_that_fails_leaves_the_model_as_it_was(digits, monkeypatch):
    model = quick().fit(digits)
    before = model.predict(digits), model.layer_, model.timestep_, model.labels_

    def fail(*args, **kwargs):
        raise FloatingPointError("boom")

    for owner, name in ((E.Trainer, "fit"), (E, "_certainty")):
        with monkeypatch.context() as patch, pytest.raises(FloatingPointError):
            patch.setattr(owner, name, fail)
            model.set_params(layer="conv_in", timestep=900, random_state=5).fit(digits)
        assert (
            np.array_equal(model.predict(digits), before[0])
            and (model.layer_, model.timestep_) == before[1:3]
            and model.labels_ is before[3]
            and model.seed_ == 0
            and model.get_params()["random_state"] == 5
        )


def test_images_much_larger_than_the_unet_are_said(digits, caplog):
    large = np.kron(digits[:40], np.ones((1, 1, 3, 3), np.float32))
    with caplog.at_level("WARNING", logger="diec"):
        quick().fit(digits[:40])
        assert not caplog.messages
        quick().fit(large)
    assert "images of 24 pixels are reduced to 8" in caplog.messages[0]


def test_clusters_without_images_are_said(digits, caplog):
    none = TrainingConfig(head_epochs=0, joint_epochs=0)
    with caplog.at_level("WARNING", logger="diec"):
        quick(training_config=none).fit(digits[:3].repeat(10, 0))
    assert "only 3 of 4 clusters hold images" in caplog.text


def test_it_finds_the_digits(digits, all_starts):
    "A smoke test of the whole: far better than chance, with few images and epochs"
    truth = load_dataset("digits").labels[:200]
    model = DiEC(
        n_clusters=10,
        n_draws=2,
        search_size=100,
        fine_tune_unet=False,
        training_config=TrainingConfig(head_epochs=5),
        random_state=0,
    ).fit(digits)
    assert adjusted_rand_score(truth, model.labels_) > 0.5


# --- kinds of input

PIXELS = (load_dataset("digits").images[:60, 0] * 127.5 + 127.5).round().astype(np.uint8)  # (60, 8, 8)


@pytest.mark.parametrize(
    "name, make",
    {
        "uint8 with a channel": lambda u: u[:, None],
        "tensor": torch.from_numpy,
        "float32": lambda u: u.astype(np.float32) / 127.5 - 1,
        "float64": lambda u: u / 127.5 - 1,
        "float64, otherwise": lambda u: u / 255 * 2 - 1,
        "float tensor": lambda u: torch.from_numpy(u)[:, None].float() / 127.5 - 1,
        "not contiguous": lambda u: np.asfortranarray(u),
        "read-only": lambda u: (lambda v: v.setflags(write=False) or v)(u.copy()),
        "needs a gradient": lambda u: (torch.from_numpy(u).float() / 127.5 - 1).requires_grad_(),
    }.items(),
)
def test_the_kind_of_array_does_not_matter(name, make):
    reference = quick().fit(PIXELS)
    model, given = quick(), make(PIXELS)
    assert np.array_equal(model.fit(given).labels_, reference.labels_), name
    assert np.array_equal(reference.predict(given), reference.labels_), name
    assert np.allclose(reference.transform(given), reference.transform(PIXELS), atol=1e-3), name


@pytest.mark.parametrize("size", [(6, 6), (12, 12), (7, 9), (28, 28), (1, 1), (3, 20)])
def test_other_sizes_are_made_to_fit(size, fitted):
    images = np.random.default_rng(0).integers(0, 256, (20, *size)).astype(np.uint8)
    model = quick().fit(images)
    assert len(model.labels_) == 20 and np.array_equal(model.predict(images), model.labels_)
    assert model.extract_.prepare(images).shape == (20, 1, 8, 8)
    assert fitted.predict(images).shape == (20,)  # and another model takes them too


def test_padding_does_not_change_what_is_seen(digits):
    "A 6x6 image is the middle of an 8x8 one with the same edge"
    middle = digits[:40, :, 1:-1, 1:-1]
    padded = np.pad(middle, ((0, 0), (0, 0), (1, 1), (1, 1)), "edge")
    assert np.array_equal(quick().fit(middle.copy()).labels_, quick().fit(padded).labels_)


def test_color():
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8)).astype(np.uint8)
    model = quick(unet=tiny(3)).fit(images)
    assert len(model.predict(images)) == 20
    with pytest.raises(ValueError, match="channel"):
        model.predict(images[:, :1])


# --- options


@pytest.mark.parametrize("criterion", ["chi", "stable_chi"])
@pytest.mark.parametrize(
    "layer, t",
    [
        ("search", "search"),
        ("search", 50),
        ("mid_block", "search"),
        ("up_blocks.0", 50),
        ("mid_block.resnets.0", 999),
        ("conv_in", 0),
    ],
)
def test_layer_and_timestep(digits, criterion, layer, t):
    model = quick(criterion=criterion, layer=layer, timestep=t, search_size=40).fit(digits[:50])
    if layer != "search":
        assert model.layer_ == layer
    if t != "search":
        assert model.timestep_ == t
    assert (model.search_result_ is None) == ("search" not in (layer, t))
    if model.search_result_:
        assert (model.search_result_.layer, model.search_result_.t, model.search_result_.criterion) == (
            model.layer_,
            model.timestep_,
            criterion,
        )
        assert model.search_result_.score == max(e.score for e in model.search_result_.evaluations)
    assert isinstance(model.timestep_, int) and model.predict(digits[:50]).tolist() == model.labels_.tolist()


def test_one_draw_with_chi(digits):
    assert len(quick(n_draws=1, criterion="chi", timestep="search", search_size=40).fit(digits).labels_) == 200


def test_the_number_of_clusters_can_be_estimated(digits, same, tmp_path):
    model = quick(n_clusters=None).fit(digits)
    assert (
        model.n_clusters_ == len(model.cluster_centers_) >= 2
        and set(model.labels_) <= set(range(model.n_clusters_))
        and model.n_clusters is None
    )
    assert quick(n_clusters=None).fit(digits).n_clusters_ == model.n_clusters_
    model.save_pretrained(tmp_path / "m")
    loaded = DiEC.from_pretrained(tmp_path / "m")
    assert (
        loaded.n_clusters is None
        and loaded.n_clusters_ == model.n_clusters_
        and np.array_equal(loaded.predict(digits), model.predict(digits))
    )
    assert quick(n_clusters=4).fit(digits[:60]).n_clusters_ == 4


@pytest.mark.slow
def test_the_number_that_is_estimated_is_near_the_true_one():
    short = TrainingConfig(head_epochs=1, joint_epochs=0)
    found = [
        DiEC(None, "digits", timestep=200, training_config=short, random_state=seed)
        .fit(load_dataset("digits").images)
        .n_clusters_
        for seed in range(3)
    ]
    assert 8 <= np.median(found) <= 15 and max(found) <= 20, found  # sub-kinds of ones count as kinds


def test_the_hierarchy_of_a_fitted_model(fitted, digits):
    tree = fitted.hierarchy(digits)
    assert tree.n_clusters_ == 4 and len(tree.labels_) == len(digits) == len(tree.cut(7)) and len(set(tree.cut(7))) == 7
    assert adjusted_rand_score(tree.labels_, fitted.labels_) > 0
    assert fitted.hierarchy(digits[:3]).n_clusters_ <= 3
    assert fitted.hierarchy(digits[[0, 1, 2] * 4]).n_clusters_ == 3
    with pytest.raises(NotFittedError):
        quick().hierarchy(digits)


def test_fine_tuning_is_an_option(digits, digits_unet, same):
    frozen, tuned = quick(unet=digits_unet).fit(digits), quick(unet=digits_unet, fine_tune_unet=True).fit(digits)
    assert same(frozen.unet_, digits_unet[0]) and not same(tuned.unet_, digits_unet[0])
    assert set(frozen.history_["stage"]) == {"head"} and set(tuned.history_["stage"]) == {"head", "joint"}


def test_a_checkpoint_resumes_a_fit(digits, tmp_path, monkeypatch, same):
    "Interrupted after the second epoch, and called again"
    whole = quick(fine_tune_unet=True).fit(digits)
    real = E.Trainer.fit
    monkeypatch.setattr(E.Trainer, "fit", lambda *a, **k: real(*a, **k, stop_after=2))
    quick(fine_tune_unet=True, checkpoint=str(tmp_path / "c")).fit(digits)
    monkeypatch.undo()
    resumed = quick(fine_tune_unet=True, checkpoint=tmp_path / "c").fit(digits)
    assert (
        same(resumed.model_, whole.model_)
        and same(resumed.unet_, whole.unet_)
        and np.array_equal(resumed.labels_, whole.labels_)
    )
    for other in (
        dict(n_clusters=5),
        dict(random_state=1),
        dict(timestep=61),
        dict(unet="digits"),
        dict(n_draws=3),
        dict(fine_tune_unet=False),
        dict(init="k-means"),
        dict(unet=(tiny()[0], new_scheduler(beta_schedule="linear"))),
    ):
        with pytest.raises(ValueError, match="another run"):
            quick(**{**dict(fine_tune_unet=True, checkpoint=tmp_path / "c"), **other}).fit(digits)
    with pytest.raises(ValueError, match="another run"):
        quick(fine_tune_unet=True, checkpoint=tmp_path / "c").fit(digits[::-1].copy())


def test_a_checkpoint_that_is_refused_keeps_its_files_and_says_what_differs(digits, tmp_path):
    def fit(**kwargs):
        settings = dict(layer="search", timestep="search", search_size=40, n_draws=1, checkpoint=tmp_path / "c")
        return quick(**{**settings, **kwargs}).fit(digits[:50])

    def files():
        return {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}

    fit()
    before = files()
    assert before.keys() == {"c", "c.search.json", "c.start.safetensors"}
    for kwargs, said in (
        (dict(n_clusters=5), "n_clusters 4 there, 5 here"),
        (dict(random_state=1), "training_config.random_state 0 there, 1 here; random_state 0 there, 1 here"),
        (dict(loss_weights=LossWeights(lambda_kl=2)), "loss_weights.lambda_kl 1.0 there, 2 here"),
        (dict(init="k-means"), "other initial clusters"),
        (dict(timestep=999, layer="conv_in", criterion="chi"), "layer .* there, 'conv_in' here; timestep .*, 999 here"),
    ):
        with pytest.raises(ValueError, match=f"belongs to another run .*{said}.*: delete it, or choose another file"):
            fit(**kwargs)
        assert files() == before, kwargs


@pytest.mark.parametrize(
    "name, value",
    [
        ("n_clusters", np.int64(3)),
        ("timestep", np.int32(7)),
        ("n_draws", np.int64(2)),
        ("search_size", np.int16(40)),
        ("batch_size", np.int64(64)),
        ("random_state", np.int64(5)),
    ],
)
def test_numbers_of_numpy_are_numbers(digits, tmp_path, same, name, value):
    numpy_one = quick(**{name: value, "checkpoint": tmp_path / "c"}).fit(digits)
    assert same(numpy_one.model_, quick(**{name: int(value)}).fit(digits).model_)
    numpy_one.save_pretrained(tmp_path / "model")
    assert np.array_equal(DiEC.from_pretrained(tmp_path / "model").predict(digits), numpy_one.labels_)


def test_numbers_of_numpy_can_be_saved(digits, tmp_path):
    config = TrainingConfig(head_epochs=np.int64(2), lr_head=np.float64(1e-3), restore_best=np.bool_(True))
    model = quick(
        training_config=config,
        loss_weights=LossWeights(lambda_kl=np.float32(1)),
        fine_tune_unet=np.bool_(False),
        image_shape=(np.int64(8), np.int64(8)),
        progress=1,
    )
    rows = digits[:50].reshape(50, -1)
    model.fit(rows).save_pretrained(tmp_path / "model")
    again = DiEC.from_pretrained(tmp_path / "model")
    assert np.array_equal(again.predict(rows), model.labels_) and again.progress is True
    assert again.training_config == model.training_config and again.loss_weights == model.loss_weights


@pytest.mark.parametrize("params", [dict(n_clusters=5), dict(n_clusters=None), dict(embed=lambda x: x.flatten(1))])
def test_a_model_is_saved_as_it_was_fitted(digits, tmp_path, same, params):
    model = quick().fit(digits[:50])
    labels = model.predict(digits)
    model.set_params(**params).save_pretrained(tmp_path / "model")
    again = DiEC.from_pretrained(tmp_path / "model")
    assert np.array_equal(again.predict(digits), labels) and again.n_clusters in (4, None) and again.n_clusters_ == 4
    assert same(again.unet_, model.unet_)


def test_what_could_not_be_read_again_is_not_written(digits, tmp_path):
    model = quick().fit(digits[:50])
    for params, said in ((dict(batch_size=0), "params.batch_size must be"), (dict(layer="middle"), "layer must be")):
        with pytest.raises(ValueError, match=said):
            copy.copy(model).set_params(**params).save_pretrained(tmp_path / "model")
        assert not (tmp_path / "model").exists()


def test_as_many_draws_as_the_noise_needs(digits, tmp_path):
    for t, n in ((0, 1), (400, 2)):
        model = quick(n_draws="auto", timestep=t).fit(digits)
        assert model.extract_.n_draws == n
        model.save_pretrained(tmp_path / str(t))
        loaded = DiEC.from_pretrained(tmp_path / str(t))
        assert loaded.extract_.n_draws == n and loaded.n_draws == "auto"
        assert np.array_equal(loaded.predict(digits), model.labels_)
    searched = quick(n_draws="auto", layer="mid_block", timestep="search", search_size=50).fit(digits).search_result_
    draws = {e.t: e.n_draws for e in searched.evaluations}
    assert draws[0] == 1 and draws[999] == 2
    fixed = quick(n_draws=2, timestep="search", search_size=50).fit(digits).search_result_
    assert {e.n_draws for e in fixed.evaluations} == {2}


def test_the_search_looks_at_as_many_images_as_the_clusters_need(digits, monkeypatch, tmp_path):
    asked = []

    class Recorded(E.Clusterability):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            asked.append(len(self.subset))

    monkeypatch.setattr(E, "Clusterability", Recorded)
    monkeypatch.setattr(diec.search, "subset_size", lambda n_clusters, n_images: 20 * n_clusters)
    for k, size in ((3, "auto"), (4, "auto"), (3, 50)):
        model = quick(n_clusters=k, timestep="search", search_size=size).fit(digits)
        model.save_pretrained(tmp_path / "model")
        assert DiEC.from_pretrained(tmp_path / "model").search_size == size
    assert asked == [60, 80, 50]


def test_precision_is_kept_with_the_model_and_older_models_are_read_in_float32(digits, tmp_path):
    fitted = {p: quick(precision=p).fit(digits) for p in ("float32", "bfloat16")}
    for p, model in fitted.items():
        assert model.extract_.precision == p
        model.save_pretrained(tmp_path / p)
        assert DiEC.from_pretrained(tmp_path / p).extract_.precision == p
    config = json.loads((tmp_path / "float32/config.json").read_text())
    del config["params"]["precision"], config["n_draws"]  # as it was before there was a choice
    (tmp_path / "float32/config.json").write_text(json.dumps(config))
    older = DiEC.from_pretrained(tmp_path / "float32")
    assert older.precision == older.extract_.precision == "float32"
    assert np.array_equal(older.predict(digits), fitted["float32"].labels_)


# --- errors


@pytest.mark.parametrize(
    "kwargs, words",
    [
        *[
            (dict(n_clusters=v), ("n_clusters", repr(v), "2..58", "60 images"))
            for v in (1, 0, -5, 59, 10**9, 2.0, "ten", True)
        ],
        *[
            (dict(timestep=v), ("timestep must be", repr(v), "0..999", "search"))
            for v in (-1, 1000, 2.5, "find", None, True)
        ],
        *[
            (dict(layer=v), ("layer must be", repr(v), "mid_block", "search"))
            for v in ("middle", 5, None, ["mid_block"])
        ],
        (dict(criterion="silhouette"), ("criterion", "'silhouette'", "stable_chi")),
        *[(dict(n_draws=v), ("n_draws", repr(v), "in 1..")) for v in (0, -1, 1.5, "x", True)],
        *[(dict(precision=v), ("precision", repr(v), "bfloat16")) for v in ("half", 16, None)],
        (dict(n_draws=1, timestep="search", criterion="stable_chi"), ("n_draws", "1", "2 or more", "stable_chi")),
        *[(dict(search_size=v), ("search_size", repr(v), "in 5..", "or 'auto'")) for v in (0, 4, "all", None)],
        *[(dict(batch_size=v), ("batch_size", repr(v), "in 1..")) for v in (0, "x", 1.5, None)],
        *[(dict(random_state=v), ("random_state", repr(v))) for v in (-1, 1.5, "seed")],
        *[(dict(device=v), ("device", repr(v))) for v in ("banana", "cuda:99", 3.5)],
        *[
            (dict(unet=v), ("unet", "got " + w))
            for v, w in (
                (5, "int"),
                (None, "NoneType"),
                ("nonsense", "'nonsense'"),
                ((1, 2), "int"),
                ((1,), "tuple"),
                ([], "list"),
            )
        ],
        (dict(unet=(tiny()[0], None)), ("scheduler", "NoneType")),
        *[
            (dict(loss_weights=v), ("loss_weights", "None or", "LossWeights", type(v).__name__))
            for v in (3, {"lambda_kl": 1}, QUICK)
        ],
        *[
            (dict(training_config=v), ("training_config", "None or", "TrainingConfig", type(v).__name__))
            for v in (3, {"head_epochs": 1}, LossWeights())
        ],
        (dict(training_config=TrainingConfig(batch_size=0)), ("batch_size", "0", "1 or more")),
        (dict(loss_weights=LossWeights(lambda_kl=-1.0)), ("lambda_kl", "-1.0")),
        (dict(init="random"), ("init", "diffusion", "k-means", "'random'")),
        (dict(fine_tune_unet="no"), ("fine_tune_unet", "'no'")),
        (dict(checkpoint=5), ("checkpoint", "5")),
    ],
    ids=lambda v: str(v)[:40] if isinstance(v, dict) else "",
)
def test_bad_parameters_are_named_before_anything_is_done(kwargs, words, monkeypatch):
    def too_late(*args, **kwargs):
        raise AssertionError("training began")

    monkeypatch.setattr(E.Trainer, "fit", too_late)
    with pytest.raises((ValueError, TypeError)) as e:
        quick(**kwargs).fit(PIXELS)
    assert all(w in str(e.value) for w in words), str(e.value)


@pytest.mark.parametrize(
    "X, words",
    [
        (None, ("X", "NoneType")),
        ("images", ("X", "images", "no such file or folder")),
        (np.zeros((20, 64)), ("X", "(20, 64)", "(N, C, H, W)")),
        (np.zeros((3, 8, 8)), ("X", "3", "4 images or more")),
        (np.zeros((0, 8, 8)), ("X", "(0, 8, 8)")),
        (np.full((20, 8, 8), np.nan), ("X", "NaN")),
        (np.full((20, 8, 8), 7.0), ("X", "[-1, 1]", "7")),
        (np.zeros((20, 8, 8), int), ("X", "int64", "uint8")),
        (np.zeros((20, 3, 8, 8)), ("X", "3 channel", "1")),
        (np.zeros((20, 9, 8, 8)), ("X", "(20, 9, 8, 8)")),
    ],
    ids=["none", "text", "flat", "three", "empty", "nan", "range", "int64", "color", "nine"],
)
def test_bad_images_are_named(X, words, fitted):
    for call in (lambda: quick().fit(X), lambda: fitted.predict(X)):
        if "3" in words and call.__code__.co_names[-1] == "predict":
            continue
        with pytest.raises((ValueError, TypeError)) as e:
            call()
        assert all(w in str(e.value) for w in words), str(e.value)


def test_the_advice_on_channels_leads_to_images_that_fit(digits):
    pixels = ((digits[:20] + 1) * 127.5).round().astype(np.uint8)
    for X, channels in ((np.repeat(pixels, 3, 1), 1), (pixels, 3), (pixels[:, 0], 3)):
        with pytest.raises(ValueError, match="channel") as e:
            quick(unet=tiny(channels)).fit(X)
        advice = str(e.value).partition("convert them (")[2].partition("), or take")[0]
        quick(unet=tiny(channels)).fit(eval(advice, {"X": X, "np": np}))


def test_three_images_are_enough_to_predict(fitted, unseen):
    assert len(fitted.predict(unseen[:3])) == 3


@pytest.mark.parametrize("t", ["search", 60])
def test_images_without_variety(t):
    "All alike, or fewer kinds than clusters: an answer, or an error that speaks of the images"
    for X in (np.zeros((20, 8, 8)), np.repeat([-np.ones((8, 8)), np.ones((8, 8))], 10, 0)):
        try:
            model = quick(timestep=t).fit(X)
        except ValueError as e:
            assert "images" in str(e) and "X" in str(e)
        else:
            assert (
                len(set(zip(X[:, 0, 0], model.labels_))) == len(set(X[:, 0, 0]))
                and np.isfinite(model.transform(X)).all()
            )


# --- saving and loading


@pytest.fixture
def saved(fitted, tmp_path):
    fitted.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def alike(a, b, images, same):
    return (
        same(a.model_, b.model_)
        and same(a.unet_, b.unet_)
        and np.array_equal(a.labels_, b.labels_)
        and a.history_ == b.history_
        and a.search_result_ == b.search_result_
        and (a.layer_, a.timestep_, a.seed_) == (b.layer_, b.timestep_, b.seed_)
        and np.array_equal(a.predict_proba(images), b.predict_proba(images))
    )


def test_there_and_back(saved, fitted, unseen, same):
    loaded = DiEC.from_pretrained(str(saved))
    assert alike(loaded, fitted, unseen, same)
    mine, given = loaded.get_params(), fitted.get_params()
    assert all(mine[k] == given[k] for k in given if k not in ("unet", "checkpoint", "device", "random_state"))
    assert (
        len(clone(loaded).set_params(training_config=TrainingConfig(head_epochs=1, joint_epochs=0)).fit(unseen).labels_)
        == 25
    )
    assert {p.relative_to(saved).as_posix() for p in saved.rglob("*") if p.is_file()} >= {
        "config.json",
        "model.safetensors",
        "unet/unet/config.json",
    }
    assert not any(p.suffix in (".pkl", ".bin", ".pt", ".pth", ".joblib") for p in saved.rglob("*"))


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(layer="search", timestep="search"),
        dict(loss_weights=LossWeights(lambda_ent=0.0)),
        dict(training_config=None, loss_weights=None, fine_tune_unet=False),
        dict(random_state=None),
        dict(criterion="chi", n_draws=1),
    ],
    ids=str,
)
def test_there_and_back_with_options(kwargs, digits, tmp_path, same):
    unet = tiny()[0], new_scheduler(prediction_type="v_prediction")
    model = quick(unet=unet, search_size=40, **{"training_config": QUICK, **kwargs}).fit(digits[:50])
    model.save_pretrained(tmp_path / "m")
    loaded = DiEC.from_pretrained(tmp_path / "m")
    assert (
        alike(loaded, model, digits, same)
        and loaded.get_params()["loss_weights"] == model.loss_weights
        and loaded.get_params()["training_config"] == model.training_config
    )
    assert loaded.extract_.scheduler.config.prediction_type == "v_prediction"


def test_a_subclass_comes_back_as_itself(saved):
    class Mine(DiEC):
        pass

    assert type(Mine.from_pretrained(saved)) is Mine


def test_a_model_trained_on_a_device_that_is_not_here_can_be_loaded(saved, fitted, unseen):
    config = json.loads((saved / "config.json").read_text())
    config["params"]["device"] = "cuda:7"
    (saved / "config.json").write_text(json.dumps(config))
    assert np.array_equal(DiEC.from_pretrained(saved).predict(unseen), fitted.predict(unseen))


def test_saving_over_an_old_model(saved, digits, same):
    other = quick(n_clusters=3).fit(digits)
    other.save_pretrained(saved)
    assert alike(DiEC.from_pretrained(saved), other, digits, same)
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "harm, said",
    [
        ("a file of the user's", "notes.txt was not put there"),
        ("another's folder", "config.json was not put there"),
        ("edited", "config.json was changed"),
    ],
)
def test_saving_over_what_is_not_ours_is_refused(saved, fitted, tmp_path, harm, said):
    if harm == "a file of the user's":
        (saved / "notes.txt").write_text("mine")
    elif harm == "edited":
        (saved / "config.json").write_text("{}")
    else:
        saved = tmp_path / "another" / "model"
        saved.mkdir(parents=True)
        (saved / "config.json").write_text('{"model_type": "bert"}')
    before = {p: p.read_bytes() for p in saved.rglob("*") if p.is_file()}
    with pytest.raises(FileExistsError, match=said):
        fitted.save_pretrained(saved)
    assert {p: p.read_bytes() for p in saved.rglob("*") if p.is_file()} == before and len(
        list(saved.parent.iterdir())
    ) == 1


@pytest.mark.parametrize("place", ["save_network", "write_tensors", "_config", "rename"])
def test_a_crash_while_saving_leaves_the_old_model(saved, fitted, digits, unseen, monkeypatch, same, place):
    other = quick(n_clusters=3).fit(digits)

    def crash(*args, **kwargs):
        raise OSError("no space left on device")

    if place == "rename":
        real, once = os.rename, iter([True])
        monkeypatch.setattr("os.rename", lambda a, b: crash() if Path(b) == saved and next(once, False) else real(a, b))
    else:
        monkeypatch.setattr(E, place, crash)
    with pytest.raises(OSError, match="no space"):
        other.save_pretrained(saved)
    monkeypatch.undo()
    assert alike(DiEC.from_pretrained(saved), fitted, unseen, same) and [p.name for p in saved.parent.iterdir()] == [
        "model"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_killed_while_saving_no_model_is_lost(saved, fitted, unseen, tmp_path, same, nth):
    "The first move is that of the U-Net inside the new folder; the other two exchange the folders"
    target = tmp_path / "elsewhere" / "model"
    shutil.copytree(saved, target)
    assert subprocess_cases.finish(subprocess_cases.saving, saved, target, nth) == -signal.SIGKILL
    whole = [p.parent for p in target.parent.rglob("config.json") if (p.parent / "model.safetensors").exists()]
    assert any(alike(DiEC.from_pretrained(p), fitted, unseen, same) for p in whole)
    if nth < 3:
        assert target in whole


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "unet",
        "unet/unet/config.json",
        "unet/scheduler/scheduler_config.json",
        "unet/unet/diffusion_pytorch_model.safetensors",
    ],
)
def test_a_missing_file_is_named(saved, name):
    if (saved / name).is_dir():
        shutil.rmtree(saved / name)
    else:
        (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=Path(name).name):
        DiEC.from_pretrained(saved)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        DiEC.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        DiEC.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "unet/unet/config.json", "unet/unet/diffusion_pytorch_model.safetensors"],
)
@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "list", "pickle"])
def test_a_damaged_file_is_refused(saved, marker, name, damage):
    data, made = marker
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(
        {"cut": content[: len(content) // 2], "empty": b"", "noise": bytes(range(256)), "list": b"[]", "pickle": data}[
            damage
        ]
    )
    with pytest.raises(ValueError, match="damaged") as e:
        DiEC.from_pretrained(saved)
    assert str(saved) in str(e.value) and not made.exists()


def edit(saved, path, value):
    config = json.loads((saved / "config.json").read_text())
    node = config
    for key in path[:-1]:
        node = node[key]
    if value is edit:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    (saved / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "path, value",
    [
        (["format"], "diec-model-9"),
        (["format"], edit),
        (["params"], edit),
        (["params"], []),
        (["params", "n_clusters"], 7),
        (["params", "n_clusters"], "x"),
        (["params", "nonsense"], 1),
        (["params", "loss_weights"], {"nonsense": 1}),
        (["params", "n_draws"], 0),
        (["params", "precision"], "half"),
        (["n_draws"], 0),
        (["seed"], "x"),
        (["seed"], edit),
        (["layer"], "nope"),
        (["layer"], None),
        (["timestep"], 5000),
        (["timestep"], "x"),
        (["search_result"], {"layer": "x"}),
        (["history"], edit),
    ],
    ids=lambda v: "removed" if v is edit else str(v),
)
def test_a_config_that_makes_no_sense_is_refused(saved, path, value):
    edit(saved, path, value)
    with pytest.raises(ValueError, match="damaged") as e:
        DiEC.from_pretrained(saved)
    assert str(saved) in str(e.value)


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "no labels", "labels out of range"])
def test_tensors_that_make_no_sense_are_refused(saved, change):
    tensors = load_file(saved / "model.safetensors")
    if change == "missing":
        del tensors["centers"]
    if change == "unexpected":
        tensors["surplus"] = torch.zeros(2)
    if change == "shape":
        tensors["centers"] = tensors["centers"][:-1].contiguous()
    if change == "no labels":
        del tensors["labels"]
    if change == "labels out of range":
        tensors["labels"] = tensors["labels"] + 99
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(ValueError, match="damaged"):
        DiEC.from_pretrained(saved)


def test_a_pickle_beside_the_model_is_not_loaded(saved, marker, fitted, unseen):
    data, made = marker
    for name in ("model.pkl", "pytorch_model.bin", "unet/unet/diffusion_pytorch_model.bin"):
        (saved / name).write_bytes(data)
    assert np.array_equal(DiEC.from_pretrained(saved).predict(unseen), fitted.predict(unseen)) and not made.exists()


def test_its_unet_still_is_a_diffusion_model_for_others(saved):
    from diffusers import DDPMPipeline

    from diec.unet import load_unet

    pipe = DDPMPipeline.from_pretrained(saved / "unet", local_files_only=True)
    assert pipe.unet.config.sample_size == 8 and load_unet(saved / "unet")[0].config.sample_size == 8
    assert len(quick(unet=str(saved / "unet")).fit(PIXELS).labels_) == 60


# --- the way of an image


def test_a_fit_scans_the_pixels_once(digits, monkeypatch):
    "`as_images` is called where images enter, and nowhere behind"
    real, scans = diec.data.images.as_images, []

    def counted(*args, **kwargs):
        scans.append(args)
        return real(*args, **kwargs)

    for module in [m for name, m in sys.modules.items() if name.startswith("diec") and hasattr(m, "as_images")]:
        monkeypatch.setattr(module, "as_images", counted)
    model = DiEC(3, "digits", search_size=20, n_draws=1, random_state=0).fit(digits[:40])
    assert len(scans) == 1
    model.predict(digits[:5])
    assert len(scans) == 2


def test_the_name_of_a_layer_is_parsed_in_one_place(digits):
    package = Path(E.__file__).parent  # the modules of the method
    assert [p.name for p in package.glob("*.py") for _ in range(p.read_text().count('split("+")'))] == ["features.py"]
    model = DiEC(3, "digits", layer="mid_block+up_blocks.0", timestep=50, n_draws=1, random_state=0).fit(digits[:10])
    assert type(model.layer_) is Layer and model.layer_.names == ("mid_block", "up_blocks.0")


def test_prediction_in_blocks_gives_what_one_pass_gives(digits, monkeypatch, tmp_path):
    model = quick(batch_size=16).fit(digits)
    whole = model.transform(digits), model.predict_proba(digits)
    assert E._block_size((1, 8, 8), 256) == 9984 and E._block_size((3, 128, 128), 256) == 1280
    assert E._block_size((3, 4096, 4096), 256) == 256
    sizes = []
    embed = type(model.extract_).embed
    monkeypatch.setattr(E, "_block_size", lambda shape, batch_size: 3 * batch_size)
    monkeypatch.setattr(
        type(model.extract_), "embed", lambda self, x, *args: sizes.append(len(x)) or embed(self, x, *args)
    )
    np.save(tmp_path / "x.npy", ((digits + 1) * 127.5).round().astype(np.uint8))
    for images in (digits, np.load(tmp_path / "x.npy", mmap_mode="r")):
        sizes.clear()
        z, q = model.transform(images), model.predict_proba(images)
        assert sizes == 2 * [48, 48, 48, 48, 8]
        if images is digits:
            assert np.allclose(z, whole[0], atol=1e-5) and np.allclose(q, whole[1], atol=1e-5)
        assert np.isfinite(z).all() and len(q) == 200


def test_floats_from_zero_to_one_are_recognized_and_remembered(digits, tmp_path):
    unit = digits / 2 + 0.5
    expected = quick().fit(digits)
    with pytest.warns(UserWarning, match=r"all values of X are in \[0, 1\]") as said:
        fitted = quick().fit(unit)
    assert Path(said[0].filename).name == Path(__file__).name  # the line that called `fit`
    assert (fitted.labels_ == expected.labels_).all()
    np.testing.assert_array_equal(fitted.predict_proba(unit[:3]), expected.predict_proba(digits[:3]))
    fitted.save_pretrained(tmp_path / "model")
    again = DiEC.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(unit), fitted.labels_)
    with pytest.raises(ValueError, match=r"X must lie in \[0, 1\]"):
        again.predict(digits)
    by_function = DiEC(4, embed=lambda x: x.flatten(1), training_config=QUICK, random_state=0).fit(digits)
    for model in (expected, by_function):
        with pytest.warns(UserWarning, match=r"all values of X are in \[0, 1\], but those of fit were not") as said:
            model.predict(unit)
        assert Path(said[0].filename).name == Path(__file__).name
        model.predict(((digits + 1) * 127.5).round().astype(np.uint8))  # says nothing


def test_flat_rows_and_data_sets(digits, tmp_path):
    expected, rows = quick().fit(digits), digits.reshape(len(digits), -1)
    for shape in ((1, 8, 8), [8, 8]):
        fitted = quick(image_shape=shape).fit(rows)
        np.testing.assert_array_equal(fitted.labels_, expected.labels_)
        np.testing.assert_array_equal(fitted.predict(rows[:9]), expected.labels_[:9])
    fitted.save_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(DiEC.from_pretrained(tmp_path / "model").predict(rows), expected.labels_)
    labeled = torch.utils.data.TensorDataset(torch.tensor(digits), torch.zeros(len(digits)))
    np.testing.assert_array_equal(quick().fit_predict(labeled), expected.labels_)
    np.testing.assert_array_equal(expected.predict(torch.utils.data.DataLoader(labeled, 64)), expected.labels_)
    for wrong in (8, (8,), (8, 0), (1, 8, "8")):
        with pytest.raises(ValueError, match="image_shape"):
            quick(image_shape=wrong).fit(rows)


def test_the_unet_is_chosen_by_the_images(digits, caplog, tmp_path):
    short = TrainingConfig(head_epochs=1, joint_epochs=0)
    given, auto = (
        DiEC(4, name, timestep=60, training_config=short, random_state=0).fit(digits) for name in ("digits", "auto")
    )
    assert (given.labels_ == auto.labels_).all() and auto.unet == "auto" and DiEC().unet == "auto"
    auto.save_pretrained(tmp_path / "model")
    assert (DiEC.from_pretrained(tmp_path / "model").predict(digits) == auto.labels_).all()
    photos = np.random.default_rng(0).integers(0, 255, (9, 3, 80, 80), np.uint8)
    with caplog.at_level("WARNING", "diec"):
        DiEC(2, layer="mid_block", timestep=60, n_draws=1, training_config=short, random_state=0).fit(photos)
    assert "cifar10 is taken, and images of 80 pixels are reduced to 32" in caplog.text
    with pytest.raises(ValueError, match="unet must be given for images of 4 channels"):
        DiEC(2).fit(np.zeros((9, 4, 8, 8), np.uint8))


# --- paths in place of images


@pytest.fixture(scope="module")
def photos(tmp_path_factory, digits):
    "60 digits as PNGs of 8x8 in two folders, in the order of their names"
    folder = tmp_path_factory.mktemp("photos")
    for i, picture in enumerate(as_uint8(digits[:60])):
        (folder / "ab"[i // 30]).mkdir(exist_ok=True)
        Image.fromarray(picture[0]).save(folder / "ab"[i // 30] / f"{i:02d}.png")
    return folder


def as_uint8(x):
    return ((x + 1) * 127.5).round().astype(np.uint8)


def test_a_folder_gives_what_its_images_give(photos, digits):
    by_path, by_array = quick().fit(photos), quick().fit(as_uint8(digits[:60]))
    np.testing.assert_array_equal(by_path.labels_, by_array.labels_)
    assert [f.name for f in by_path.files_] == [f"{i:02d}.png" for i in range(60)] and by_path.files_[0].is_file()
    assert by_array.files_ is None
    for call in ("predict", "predict_proba", "transform"):
        np.testing.assert_array_equal(
            getattr(by_path, call)(str(photos)), getattr(by_array, call)(as_uint8(digits[:60]))
        )
    assert len(by_path.hierarchy(photos).labels_) == 60
    assert by_path.fit(digits).files_ is None


def test_lists_of_paths_have_a_row_for_each(photos, digits):
    fitted = quick().fit(photos)
    files = fitted.files_
    chosen = [files[7], str(files[2]), files[7]]
    np.testing.assert_array_equal(fitted.predict(chosen), fitted.labels_[[7, 2, 7]])
    np.testing.assert_array_equal(fitted.predict(files[9]), fitted.labels_[[9]])
    again = quick().fit((photos / "b", *files[:30]))
    assert [f.name for f in again.files_] == [f"{i:02d}.png" for i in (*range(30, 60), *range(30))]
    with pytest.raises(ValueError, match="n_clusters must be an integer in 2..8"):
        quick(n_clusters=9).fit(files[:10])


def test_the_unet_is_chosen_by_the_files(photos, digits, tmp_path):
    short = dict(timestep=60, training_config=TrainingConfig(head_epochs=1, joint_epochs=0), random_state=0)
    by_path, by_name = DiEC(4, **short).fit(photos), DiEC(4, "digits", **short).fit(as_uint8(digits[:60]))
    np.testing.assert_array_equal(by_path.labels_, by_name.labels_)
    for i in range(8):
        Image.new("RGB", (90, 40), (i * 30, 0, 99)).save(tmp_path / f"{i}.jpg")
    color = DiEC(2, layer="mid_block", n_draws=1, **short).fit(tmp_path)
    assert color.unet_.config.in_channels == 3 and color.unet_.config.sample_size == 32


def test_what_cannot_be_read_is_left_out_of_a_folder_and_refused_in_a_list(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "some")
    for name in ("a/00.png", "b/30.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:60])
    (folder / "b" / "31.png").write_bytes(b"")
    (folder / "raw.dng").write_bytes(b"")
    with pytest.warns(UserWarning) as said:
        fitted = quick().fit(folder)
    assert [str(w.message) for w in said] == [
        "4 of 61 files left out: the image cannot be read (2), a raw or vector image (1), the file is empty (1)"
    ]
    assert len(fitted.labels_) == len(fitted.files_) == 57 and "00.png" not in [f.name for f in fitted.files_]
    with pytest.warns(UserWarning, match="4 of 61 files left out"):
        np.testing.assert_array_equal(fitted.predict(folder), fitted.labels_)
    files = [*fitted.files_, folder / "b" / "31.png"]
    for call in (lambda: fitted.predict(files), lambda: quick().fit(files)):
        with pytest.raises(ValueError, match=r"^X: .*31.png: the file is empty"):
            call()
    with pytest.raises(ValueError, match="X: .*nowhere: there is no such file or folder"):
        fitted.predict(folder / "nowhere")
    for file in folder.rglob("*.png"):
        file.write_bytes(b"")
    for unet in (tiny(), "auto"):
        with pytest.raises(ValueError, match="X: none of"):
            quick(unet=unet).fit(folder)


def test_nothing_of_a_folder_stays_in_the_temporary_one(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    quick().fit(photos).predict(photos)
    assert not list(tmp_path.iterdir())


def test_a_function_sees_files_at_the_shape_that_is_set(photos):
    seen = []

    def look(batch):
        seen.append(tuple(batch.shape[1:]))
        return batch.flatten(1)[:, ::50]

    by_function = DiEC(3, embed=look, training_config=QUICK, random_state=0, batch_size=30).fit(photos)
    assert set(seen) == {(3, 224, 224)} and len(by_function.files_) == 60
    seen.clear()
    by_function.set_params(image_shape=(10, 16)).fit(photos)
    assert set(seen) == {(1, 10, 16)}
    np.testing.assert_array_equal(by_function.predict(by_function.files_[:4]), by_function.labels_[:4])


def test_vectors_and_paths_do_not_go_together(photos, digits):
    rows = digits.reshape(len(digits), -1)
    files = [photos / "a" / f"{i:02d}.png" for i in range(30)]
    for embed in ("precomputed", rows[:30], {"a": rows[:30]}):
        with pytest.raises(ValueError, match="X must hold vectors, or be None"):
            DiEC(3, embed=embed, training_config=QUICK).fit(files)
    with pytest.raises(ValueError, match="X must hold vectors"):
        DiEC(3, embed="precomputed", training_config=QUICK, random_state=0).fit(rows).predict(photos)


# --- scikit-learn's manners


def test_the_score_is_what_the_best_epoch_was_chosen_by(digits):
    fitted = quick(timestep=60, training_config=TrainingConfig(head_epochs=4, joint_epochs=0)).fit(digits)
    e = fitted.raw_embeddings(digits, (60,))[60]
    x = fitted.model_.embed_all(e).numpy()
    near = np.linalg.norm(x[:, None] - x[None], axis=2).argsort(1)[:, 1 : LossWeights().n_neighbors + 1]
    assert fitted.score(digits) == pytest.approx(diec.search.neighbor_information(fitted.labels_, near), abs=1e-3)
    assert fitted.score(digits) >= max(fitted.history_["information"][1:]) - 1e-6
    assert 0 < fitted.score(digits[:50], "ignored") < np.log(4)
    at_random = quick(timestep=60).fit(digits)
    at_random.model_.centers.data = torch.randn_like(at_random.model_.centers)
    assert at_random.score(digits) < fitted.score(digits)
    with pytest.raises(ValueError, match="X must hold 4 images or more, got 3"):
        fitted.score(digits[:3])


def test_the_columns_of_transform_have_names(digits):
    pandas = pytest.importorskip("pandas")
    model = quick()
    with pytest.raises(NotFittedError):
        model.get_feature_names_out()
    fitted = model.fit(digits)
    names = fitted.get_feature_names_out()
    d = fitted.cluster_centers_.shape[1]
    assert list(names) == [f"diec{i}" for i in range(d)]
    z = fitted.transform(digits[:5])
    table = fitted.set_output(transform="pandas").transform(digits[:5])
    assert isinstance(table, pandas.DataFrame) and list(table.columns) == list(names)
    np.testing.assert_array_equal(table.to_numpy(), z)
    assert isinstance(clone(fitted).fit_transform(digits), pandas.DataFrame)
    assert fitted.hierarchy(digits).n_clusters_ == 4 and fitted.score(digits) > 0


OF_VECTORS = dict(unet="auto", timestep="search", n_draws="auto", device=None, embed="precomputed")


def test_tables_leave_the_number_and_the_names_of_their_columns(digits):
    pandas = pytest.importorskip("pandas")
    rows = digits.reshape(len(digits), -1)[:, 8:40]
    table = pandas.DataFrame(rows, columns=[f"pixel {i}" for i in range(32)])
    fitted = quick(**OF_VECTORS).fit(table)
    assert fitted.n_features_in_ == 32 and list(fitted.feature_names_in_) == list(table.columns)
    np.testing.assert_array_equal(fitted.predict(table), fitted.labels_)
    np.testing.assert_array_equal(fitted.predict(rows), fitted.labels_)
    with pytest.raises(ValueError, match="X must have the columns of fit in their order, got 'pixel 31' in place"):
        fitted.predict(table[table.columns[::-1]])
    assert fitted.fit(rows).n_features_in_ == 32 and not hasattr(fitted, "feature_names_in_")
    whole = pandas.DataFrame(digits.reshape(len(digits), -1))
    images = quick(image_shape=(8, 8)).fit(whole)
    np.testing.assert_array_equal(images.predict(whole), images.labels_)
    assert quick(image_shape=(8, 8)).fit(digits.reshape(len(digits), -1)).n_features_in_ == 64
    assert not hasattr(quick().fit(digits), "n_features_in_")


def test_in_a_pipeline_and_a_search(digits):
    rows = digits.reshape(len(digits), -1)
    whole = make_pipeline(StandardScaler(), quick(**OF_VECTORS))
    labels = clone(whole).fit_predict(rows)
    whole.set_output(transform="pandas" if find_spec("pandas") else "default").fit(rows)
    np.testing.assert_array_equal(whole[-1].labels_, labels)
    assert whole[-1].n_features_in_ == 64 and whole.score(rows) > 0
    assert list(whole.get_feature_names_out())[:2] == ["diec0", "diec1"]
    found = GridSearchCV(quick(), {"timestep": [30, 900]}, cv=2).fit(digits)
    assert np.isfinite(found.cv_results_["mean_test_score"]).all()


# --- the hub


class Hub:
    "A stand-in for the hub: repositories are folders, and its cache has links, as that of huggingface_hub"

    def __init__(self, root):
        self.root, self.commits, self.fetched = root, {}, []

    def HfApi(self, **kwargs):
        return self

    def create_repo(self, repo_id, private=None, exist_ok=False):
        self.private = private
        assert exist_ok or not (self.root / repo_id).exists()
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, repo_id, folder_path, commit_message, ignore_patterns, delete_patterns):
        repository = self.root / repo_id
        there = [p.relative_to(repository).as_posix() for p in repository.rglob("*") if p.is_file()]
        for name in filter_repo_objects(there, allow_patterns=delete_patterns):
            (repository / name).unlink()
        files = [p.relative_to(folder_path).as_posix() for p in Path(folder_path).rglob("*") if p.is_file()]
        for name in filter_repo_objects(files, ignore_patterns=ignore_patterns):
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder_path) / name, repository / name)
        return SimpleNamespace(oid="c0ffee")

    def snapshot_download(self, repo_id, revision, allow_patterns):
        repository, cache = self.root / repo_id, self.root / "cache" / repo_id.replace("/", "--")
        if not repository.is_dir():
            raise OSError(f"404: {repo_id}")
        self.fetched.append((repo_id, revision))
        shutil.rmtree(cache, ignore_errors=True)
        files = [p.relative_to(repository).as_posix() for p in repository.rglob("*") if p.is_file()]
        for i, name in enumerate(filter_repo_objects(files, allow_patterns=allow_patterns)):
            link = cache / "snapshots" / "c0ffee" / name
            for folder in (cache / "blobs", link.parent):
                folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(repository / name, cache / "blobs" / str(i))
            link.symlink_to(os.path.relpath(cache / "blobs" / str(i), link.parent))
        return str(cache / "snapshots" / "c0ffee")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    stand_in = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", stand_in.HfApi)
    monkeypatch.setattr("huggingface_hub.snapshot_download", stand_in.snapshot_download)
    return stand_in


def test_through_the_hub_and_back(hub, fitted, unseen, same, marker):
    with pytest.raises(NotFittedError):
        quick().push_to_hub("owner/name")
    assert fitted.push_to_hub("owner/name", private=True) == "owner/name@c0ffee" and hub.private
    (hub.root / "owner" / "name" / "unet" / "weights.bin").write_bytes(marker[0])
    (hub.root / "owner" / "name" / "unet" / "code.py").write_text("raise SystemExit")
    for name, revision in (("owner/name", "main"), ("owner/name@v1", "v1")):
        assert alike(DiEC.from_pretrained(name), fitted, unseen, same) and hub.fetched[-1] == ("owner/name", revision)
    fetched = {p.name for p in (hub.root / "cache").rglob("*") if p.is_symlink()}
    assert fetched == {
        *("config.json", "model.safetensors", "model_index.json"),
        *("scheduler_config.json", "diffusion_pytorch_model.safetensors"),
    }
    assert not [p for p in (hub.root / "owner").rglob(".diec.json")]


def test_the_card_says_how_to_load_the_model(hub, fitted, unseen, same):
    fitted.push_to_hub("owner/name")
    card = ModelCard.load(hub.root / "owner" / "name" / "README.md")
    assert card.data.library_name == "diec" and f"`{fitted.layer_}` and the timestep 60" in card.text
    code = card.text.split("```python")[1].split("```")[0]
    scope = {"images": unseen}
    exec(code, scope)
    np.testing.assert_array_equal(scope["clusters"], fitted.predict(unseen))
    assert str(hub.root.parent) not in card.text


def test_a_model_of_embeddings_replaces_one_with_a_unet_on_the_hub(hub, fitted, digits):
    def pixels(batch):
        return batch.flatten(1)

    fitted.push_to_hub("owner/name")
    other = DiEC(3, embed=pixels, training_config=QUICK, random_state=0).fit(digits)
    other.push_to_hub("owner/name")
    assert not list((hub.root / "owner" / "name" / "unet").rglob("*.safetensors"))
    np.testing.assert_array_equal(DiEC.from_pretrained("owner/name", embed=pixels).predict(digits), other.labels_)
    assert "embed=..." in (hub.root / "owner" / "name" / "README.md").read_text()


def test_a_folder_here_comes_before_the_hub(hub, saved, fitted, unseen, same, monkeypatch):
    (saved.parent / "owner").mkdir()
    saved.rename(saved.parent / "owner" / "name")
    monkeypatch.chdir(saved.parent)
    assert alike(DiEC.from_pretrained("owner/name"), fitted, unseen, same) and not hub.fetched
    with pytest.raises(
        OSError, match="path 'owner/other' is no folder here, and could not be fetched from the hub: OSError: 404"
    ):
        DiEC.from_pretrained("owner/other")
    with pytest.raises(ValueError, match="path must name a revision after the @"):
        DiEC.from_pretrained("owner/other@")
    for nowhere in (Path("owner/other"), "nowhere"):
        with pytest.raises(FileNotFoundError, match="there is no such folder"):
            DiEC.from_pretrained(nowhere)
    with pytest.raises(FileNotFoundError, match="model folder owner has no config.json"):
        DiEC.from_pretrained("./owner")
