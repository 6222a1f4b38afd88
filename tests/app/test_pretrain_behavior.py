"What pretraining and the choice of K promise, on small data that come with the test: each test fails if the promise is quietly dropped."

from contextlib import nullcontext

import numpy as np
import pytest
import subprocess_cases
import torch
from diffusers.models.upsampling import Upsample2D

import diec.app.pretrain as P
import diec.trainer as T
from diec.app.pretrain import Recipe, pretrain
from diec.core.checkpoint import load_state, save_state
from diec.estimator import DiEC
from diec.features import Extractor
from diec.hierarchy.estimator import ReverseHierarchicalDiffusion
from diec.losses import adaptive_graph
from diec.search import CommonSpace
from diec.trainer import TrainingConfig
from diec.unet import new_scheduler


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
