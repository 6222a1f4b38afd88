"What pretraining and the choice of K promise, on small data that come with the test: each test fails if the promise is quietly dropped."

import numpy as np
import pytest
import subprocess_cases
import torch

import diec.trainer as T
from diec.app.pretrain import Recipe, pretrain
from diec.core.checkpoint import load_state
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
