"What pretraining and the choice of K promise, on small data that come with the test: each test fails if the promise is quietly dropped."

import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import subprocess_cases
import torch
from diffusers.models.upsampling import Upsample2D

import diec.app.pretrain as P
import diec.trainer as T
from diec.app.pretrain import Recipe, pretrain
from diec.core.checkpoint import load_state, save_state
from diec.data.datasets import load_dataset
from diec.estimator import DiEC
from diec.features import Extractor
from diec.hierarchy.estimator import ReverseHierarchicalDiffusion
from diec.losses import adaptive_graph
from diec.search import CommonSpace
from diec.trainer import TrainingConfig
from diec.unet import load_unet, new_scheduler


def steps(folder, n, **recipe):
    "Pretrain for n steps; after each, (weights of the result, weights in training, the optimizer's state)"
    recipe, found = Recipe(**{"n_steps": 1000, "batch_size": 8, "warmup_steps": 0, "weight_decay": 0.0, **recipe}), []
    for k in range(1, n + 1):
        trained = pretrain(
            subprocess_cases.images(), recipe, subprocess_cases.small(), folder / "c", stop_at=k, progress=False
        )
        state = load_state(folder / "c")
        found.append((flat(trained.unet.state_dict()), flat(state["unet"]), state["optimizer"]))
    return found


def flat(weights):
    return torch.cat([v.flatten() for v in weights.values()])


# --- pretraining


def test_pretraining_gives_the_running_mean_of_the_weights(tmp_path):
    "And not the last ones: EMA with a warm-up, decay 1 - (1 + k)^(-3/4) after k steps, at most `ema_decay`"
    found, mean = steps(tmp_path, 5, ema_decay=0.6), flat(subprocess_cases.small().state_dict())
    for k, (result, raw, _) in enumerate(found):
        decay = min(0.6, 1 - (1 + k) ** -0.75)  # the first step replaces the random start
        mean = decay * mean + (1 - decay) * raw
        assert torch.allclose(result, mean, atol=1e-6)
    assert not torch.allclose(result, raw, atol=1e-4)


def test_the_default_recipe_averages_warms_up_and_clips():
    recipe = Recipe()
    assert (recipe.ema_decay, recipe.warmup_steps, recipe.grad_clip) == (0.999, 500, 1.0)


@pytest.mark.parametrize("warmup, lengths", [(0, [1e-3, 1e-3, 1e-3]), (10, [1e-4, 2e-4, 3e-4])])
def test_pretraining_warms_up(tmp_path, warmup, lengths):
    "Adam's first steps are about as long as the learning rate, where the gradient keeps its sign"
    found, before = (
        steps(tmp_path, 3, warmup_steps=warmup, learning_rate=1e-3),
        flat(subprocess_cases.small().state_dict()),
    )
    for (_, raw, _), length in zip(found, lengths):
        assert (raw - before).abs().max().item() == pytest.approx(length, rel=0.1)
        before = raw


def test_pretraining_clips_gradients(tmp_path):
    "Adam's mean of gradients after one step is a tenth of the gradient"
    norm = {}
    for clip in (1e-3, 1e9):
        (tmp_path / f"{clip}").mkdir()
        ((_, _, optimizer),) = steps(tmp_path / f"{clip}", 1, grad_clip=clip)
        norm[clip] = torch.cat([s["exp_avg"].flatten() for s in optimizer["state"].values()]).norm().item() / 0.1
    assert norm[1e9] > 0.1  # what there is to clip
    assert norm[1e-3] == pytest.approx(1e-3, rel=1e-3)


# --- early stopping


@pytest.fixture
def measured(monkeypatch):
    "Measures after 2, 4, 8, ... steps, which give the values that the test sets"
    values = []
    monkeypatch.setattr(P, "FIRST_MEASURE", 2)
    monkeypatch.setattr(P, "embedding_information", lambda *args: values.pop(0))
    return values


EARLY = Recipe(n_steps=100, batch_size=8, warmup_steps=0, schedule="constant", early_stopping=True, n_clusters=3)


def early(checkpoint=None, recipe=EARLY, **kwargs):
    return pretrain(subprocess_cases.images(), recipe, subprocess_cases.small(), checkpoint, progress=False, **kwargs)


def test_early_stopping_returns_the_best_weights_of_an_undisturbed_run(measured):
    measured[:] = [1.0, 1.5, 1.4]
    stopped = early()
    assert stopped.history["measured"] == [2, 4, 8] and stopped.history["information"] == [1.0, 1.5, 1.4]
    plain = [early(recipe=replace(EARLY, early_stopping=False, n_steps=n)) for n in (4, 8)]
    assert stopped.history["loss"] == plain[1].history["loss"]  # measuring draws no random numbers
    assert flat(stopped.unet.state_dict()).equal(flat(plain[0].unet.state_dict()))
    assert not stopped.unet.training


@pytest.mark.parametrize("values, steps", [([1.0, 1.004], 4), ([1.0, 1.2, 1.201], 8), ([1.0, 1.1, 1.2, 1.0], 16)])
def test_early_stopping_ends_with_the_first_doubling_that_does_not_pay(measured, values, steps):
    measured[:] = values
    assert early().history["step"][-1] == steps and not measured


def test_early_stopping_is_over_after_n_steps_at_the_latest(measured):
    measured[:] = [1.0, 1.5, 1.2]
    trained = early(recipe=replace(EARLY, n_steps=5))
    assert trained.history["measured"] == [2, 4, 5]
    best = early(recipe=replace(EARLY, early_stopping=False, n_steps=4))
    assert flat(trained.unet.state_dict()).equal(flat(best.unet.state_dict()))


@pytest.mark.parametrize("stop_at", [3, 4, 7, 8])
def test_a_run_that_resumes_knows_its_best_weights(measured, tmp_path, stop_at):
    measured[:] = [1.0, 1.5, 1.4]
    whole = early()
    measured[:] = [1.0, 1.5, 1.4]
    early(tmp_path / "c", stop_at=stop_at)
    resumed = early(tmp_path / "c")
    assert not measured
    assert {k: v for k, v in resumed.history.items() if k != "seconds"} == {
        k: v for k, v in whole.history.items() if k != "seconds"
    }
    assert flat(resumed.unet.state_dict()).equal(flat(whole.unet.state_dict()))
    again = early(tmp_path / "c")  # it is over: nothing is trained or measured
    assert flat(again.unet.state_dict()).equal(flat(whole.unet.state_dict()))


def test_a_run_that_is_stopped_before_it_is_over_returns_the_weights_of_that_step(measured, tmp_path):
    measured[:] = [1.5, 1.51]
    stopped = early(tmp_path / "c", stop_at=3)
    plain = early(recipe=replace(EARLY, early_stopping=False, n_steps=3))
    assert flat(stopped.unet.state_dict()).equal(flat(plain.unet.state_dict()))


def test_the_measure_knows_a_trained_embedding_and_sees_no_more_images_than_it_says(digits_unet, tiny, monkeypatch):
    images = torch.from_numpy(load_dataset("digits").images[:400])
    trained, untrained = (P.embedding_information(*unet, images, 10) for unet in (digits_unet, tiny()))
    assert untrained + 0.2 < trained < np.log(10)
    monkeypatch.setattr(P, "MOST_IMAGES", 300)
    rows = P._some_rows(400)
    assert len(set(rows)) == 300 and P.embedding_information(*digits_unet, images, 10) == pytest.approx(
        P.embedding_information(*digits_unet, images[rows], 10), abs=1e-6
    )


@pytest.mark.parametrize(
    "change, said",
    [
        ({"schedule": "cosine"}, "recipe.schedule must be 'constant' with early_stopping"),
        ({"schedule": "linear"}, "recipe.schedule must be one of"),
        ({"n_clusters": 1}, "recipe.n_clusters"),
        ({"n_clusters": 1000}, "recipe.n_clusters"),
    ],
)
def test_early_stopping_names_what_is_wrong_before_it_trains(change, said):
    with pytest.raises(ValueError, match=said):
        early(recipe=replace(EARLY, **change))


def test_the_card_says_where_the_weights_come_from(tmp_path, monkeypatch):
    monkeypatch.setattr(P, "FIRST_MEASURE", 1)
    values = [1.25, 1.0]
    monkeypatch.setattr(P, "embedding_information", lambda *args: values.pop(0))
    P.main(["digits", "--out", str(tmp_path / "u"), "--n-steps", "2", "--early-stopping", "--quiet"])
    card = (tmp_path / "u" / "README.md").read_text()
    assert "The weights are those of step 1" in card and "| 1 | 1.250 |" in card and "--early-stopping`" in card
    history = json.loads((tmp_path / "u" / "history.json").read_text())
    assert history["measured"] == [1, 2] and history["information"] == [1.25, 1.0]
    P.main(["digits", "--out", str(tmp_path / "v"), "--n-steps", "2", "--quiet"])
    with pytest.raises(ValueError, match="recipe.n_steps must be an integer of 1 or more, got 0"):
        P.main(["digits", "--out", str(tmp_path / "w"), "--n-steps", "0", "--quiet"])
    card = (tmp_path / "v" / "README.md").read_text()
    assert "information" not in card and "--early-stopping" not in card


# --- cooldown


@pytest.fixture(scope="module")
def constant(tmp_path_factory):
    "A U-Net of digits, trained for some steps at a constant rate"
    folder = tmp_path_factory.mktemp("constant") / "u"
    recipe = Recipe(n_steps=12, batch_size=8, warmup_steps=0, schedule="constant", ema_decay=0.5)
    P.make_unet("digits", folder, recipe=recipe, progress=False)
    return folder


def test_a_cooldown_starts_from_the_weights_and_leaves_them_alone(constant, tmp_path):
    before = {f: f.read_bytes() for f in constant.rglob("*") if f.is_file()}
    start = flat(load_unet(constant)[0].state_dict())
    still = replace(P.COOLDOWN, n_steps=3, learning_rate=0.0)
    assert flat(P.make_unet("digits", tmp_path / "a", None, still, False, start=constant).unet.state_dict()).equal(
        start
    )
    P.main(["digits", "--cooldown", str(constant), "--out", str(tmp_path / "b"), "--n-steps", "3", "--quiet"])
    moved = flat(load_unet(tmp_path / "b")[0].state_dict())
    scratch = flat(P.make_unet("digits", tmp_path / "c", None, replace(P.COOLDOWN, n_steps=3), False).unet.state_dict())
    assert 0 < (moved - start).abs().max() < 0.1 * (moved - scratch).abs().max()
    assert before == {f: f.read_bytes() for f in constant.rglob("*") if f.is_file()}


def test_the_learning_rate_of_a_cooldown_falls_to_zero_and_its_batches_are_new():
    rates = [P._learning_rate(P.COOLDOWN, step) for step in range(P.COOLDOWN.n_steps)]
    assert max(rates) > 0.99 * P.UNTIL_RIPE.learning_rate and rates[-1] < 1e-6 * max(rates)
    assert P.COOLDOWN.random_state != P.UNTIL_RIPE.random_state


def test_a_cooled_u_net_keeps_card_history_and_curve_of_the_training_before(constant, tmp_path):
    curve = {"curve": {"12": {"information": 1.5}}}
    (constant / "curve.json").write_text(json.dumps(curve))
    P.main(["digits", "--cooldown", str(constant), "--out", str(tmp_path / "u"), "--n-steps", "2", "--quiet"])
    card = (tmp_path / "u" / "README.md").read_text()
    assert card.index("n_steps 2,") < card.index("## The U-Net before this run") < card.index("n_steps 12,")
    assert "--cooldown BEFORE`" in card.split("## The U-Net before this run")[0]
    history = json.loads((tmp_path / "u" / "history.json").read_text())
    assert history["step"] == [1] and history["before"] == json.loads((constant / "history.json").read_text())
    assert json.loads((tmp_path / "u" / "curve.json").read_text()) == curve
    (constant / "curve.json").unlink()


def test_a_cooldown_needs_the_noise_schedule_of_its_u_net(constant, tmp_path):
    for change in ({"prediction_type": "v_prediction"}, {"beta_schedule": "linear"}):
        ((name, value),) = change.items()
        with pytest.raises(ValueError, match=f"recipe.{name} must be .* as in the U-Net to start from.* got '{value}'"):
            P.make_unet("digits", tmp_path / "u", recipe=replace(P.COOLDOWN, **change), start=constant)
    assert not (tmp_path / "u").exists()


def test_a_run_is_a_cooldown_or_stops_early_but_not_both(tmp_path, capsys):
    with pytest.raises(SystemExit):
        P.main(["digits", "--cooldown", "digits", "--early-stopping", "--out", str(tmp_path / "u")])
    assert "not allowed with" in capsys.readouterr().err and not (tmp_path / "u").exists()


@pytest.mark.parametrize("h, w", [(1, 1), (2, 5), (8, 8)])
def test_a_convolution_after_upsampling_is_computed_on_the_coarse_grid(h, w):
    "Values and gradients, against torch's own upsampling"
    g = torch.Generator().manual_seed(0)
    conv, x = torch.nn.Conv2d(3, 4, 3, padding=1).double(), torch.randn((2, 3, h, w), generator=g).double()
    inputs = (x.requires_grad_(), conv.weight, conv.bias)
    quick, slow = P.upsampled_conv(conv, x), conv(torch.nn.functional.interpolate(x, scale_factor=2.0))
    up = torch.randn(slow.shape, generator=g).double()
    torch.testing.assert_close(quick, slow)
    for a, b in zip(torch.autograd.grad(quick, inputs, up), torch.autograd.grad(slow, inputs, up)):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "layer",
    [
        Upsample2D(8, use_conv=True, kernel_size=5, padding=2),
        Upsample2D(8, use_conv=True, bias=False),
        Upsample2D(8, use_conv=True, norm_type="rms_norm", eps=1e-5, elementwise_affine=True),
        Upsample2D(8, use_conv=True, interpolate=False),
        Upsample2D(8, use_conv_transpose=True),
        Upsample2D(8),
    ],
)
def test_other_upsampling_layers_are_left_alone(layer):
    x = torch.randn((2, 8, 4, 4), generator=torch.Generator().manual_seed(0))
    with P.upsampling_on_coarse_grid(layer):
        assert "forward" not in vars(layer)
        layer(x)


def test_an_upsampling_layer_is_as_before_after_an_error_and_keeps_a_size_that_is_asked_for():
    layer, x = Upsample2D(8, use_conv=True), torch.randn((2, 8, 4, 4), generator=torch.Generator().manual_seed(0))
    with pytest.raises(RuntimeError, match="stop"), P.upsampling_on_coarse_grid(layer):
        assert "forward" in vars(layer) and layer(x).shape[2:] == (8, 8) and layer(x, (7, 9)).shape[2:] == (7, 9)
        raise RuntimeError("stop")
    assert "forward" not in vars(layer)


def test_the_coarse_grid_changes_a_run_by_rounding_only(tmp_path, monkeypatch):
    monkeypatch.setattr(P, "has_fast_bfloat16", lambda device: False)  # the comparison is about float32
    calls, real = [], P.upsampled_conv
    monkeypatch.setattr(P, "upsampled_conv", lambda conv, x: calls.append(1) or real(conv, x))
    recipe = Recipe(n_steps=5, batch_size=8, warmup_steps=3)
    quick = pretrain(subprocess_cases.images(), recipe, subprocess_cases.small(), progress=False)
    assert len(calls) == 5  # one upsampling layer
    monkeypatch.setattr(P, "upsampling_on_coarse_grid", nullcontext)
    slow = pretrain(subprocess_cases.images(), recipe, subprocess_cases.small(), progress=False)
    assert len(calls) == 5 and quick.history["loss"] == pytest.approx(slow.history["loss"], rel=1e-4)


def test_a_checkpoint_of_the_optimizer_that_was_not_fused_is_read_and_goes_on_fused(tmp_path):
    "Earlier versions wrote the same tensors and another setting; both ways end with the same bits from there"
    x, recipe = subprocess_cases.images(), subprocess_cases.RECIPE
    pretrain(x, recipe, subprocess_cases.small(), tmp_path / "c", stop_at=4, progress=False)
    state = load_state(tmp_path / "c")
    assert [g["fused"] for g in state["optimizer"]["param_groups"]] == [True]
    state["optimizer"]["param_groups"][0]["fused"] = None
    save_state(tmp_path / "old", state)
    ends = []
    for name in ("c", "old"):
        ends.append(pretrain(x, recipe, subprocess_cases.small(), tmp_path / name, progress=False))
        assert load_state(tmp_path / name)["optimizer"]["param_groups"][0]["fused"] is True
    assert flat(ends[0].unet.state_dict()).equal(flat(ends[1].unet.state_dict()))


def test_a_checkpoint_of_a_recipe_with_fewer_fields_is_read(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = steps(tmp_path / "whole", 3)[-1][0]
    steps(tmp_path, 2)
    state = load_state(tmp_path / "c")
    for field in ("schedule", "early_stopping", "n_clusters"):
        del state["origin"]["recipe"][field]
    save_state(tmp_path / "c", state)
    recipe = Recipe(n_steps=1000, batch_size=8, warmup_steps=0, weight_decay=0.0)
    resume = lambda recipe: pretrain(  # noqa: E731
        subprocess_cases.images(), recipe, subprocess_cases.small(), tmp_path / "c", stop_at=3, progress=False
    )
    with pytest.raises(ValueError, match="another run"):
        resume(replace(recipe, schedule="constant"))
    assert flat(resume(recipe).unet.state_dict()).equal(whole)


def test_the_order_of_an_epoch_is_drawn_once(monkeypatch):
    P._epoch_order.cache_clear()
    drawn, real = [], P.generator
    monkeypatch.setattr(P, "generator", lambda *key: drawn.append(key) or real(*key))
    for step in range(8):
        P._batch_rows(12, Recipe(batch_size=4), step)
    assert [key[2] for key in drawn] == [0, 1, 2]  # 32 images of epochs of 12


# --- refinement


def test_the_graph_is_refreshed_in_epochs_0_1_2_4_8(monkeypatch):
    made, real = [], T.adaptive_graph

    def spy(z, k):
        made.append(trainer.epoch)
        return real(z, k)

    trainer, images = subprocess_cases.trainer(
        training_config=TrainingConfig(
            head_epochs=11, warmup_epochs=0, joint_epochs=0, batch_size=20, lr_head=1e-2, tol=-1.0
        )
    )
    monkeypatch.setattr(T, "adaptive_graph", spy)
    e, graphs = trainer.extract(images, ["mid_block"], 50)["mid_block"], []
    for epoch in range(1, 11):
        with torch.no_grad():
            z = trainer.model(trainer.model.embed_all(e))[0]
        trainer.fit(images, e, stop_after=epoch)
        graphs.append(trainer.graph)
        if epoch - 1 in (0, 1, 2, 4, 8):
            now = adaptive_graph(z, 5)
            assert torch.equal(trainer.graph.neighbors, now.neighbors) and torch.allclose(
                trainer.graph.weights, now.weights
            )
        else:
            assert trainer.graph.neighbors is graphs[-2].neighbors  # the one before is kept
    assert made == [0, 1, 2, 4, 8] and not torch.equal(graphs[0].neighbors, graphs[-1].neighbors)


# --- the number of clusters


@pytest.mark.parametrize("t, read_at", [(60, 60), (900, 900), ("search", 125)])
def test_the_number_is_counted_at_the_timestep_of_the_embedding(monkeypatch, digits, t, read_at):
    "A timestep that was given; T/8, in the middle of where images cluster well, where it is to be searched"
    counted, layer = [], "mid_block"

    class Spy(ReverseHierarchicalDiffusion):
        def fit(self, X, *args):
            counted.append(np.array(X))
            return super().fit(X, *args)

    monkeypatch.setattr("diec.estimator.ReverseHierarchicalDiffusion", Spy)
    unet = subprocess_cases.small().eval(), new_scheduler()
    DiEC(
        None,
        unet,
        layer=layer,
        timestep=t,
        n_draws=1,
        search_size=40,
        training_config=TrainingConfig(head_epochs=0, joint_epochs=0),
        random_state=0,
        device="cpu",
    ).fit(digits[:80])
    e = Extractor(*unet, 1, 0)(digits[:80], [layer], read_at)[layer]
    wanted = CommonSpace.fit(e).transform(e)
    assert len(counted) == 1 and np.allclose(counted[0], wanted, atol=1e-4)
    elsewhere = Extractor(*unet, 1, 0)(digits[:80], [layer], 500)[layer]
    assert not np.allclose(counted[0], CommonSpace.fit(elsewhere).transform(elsewhere), atol=1e-2)
