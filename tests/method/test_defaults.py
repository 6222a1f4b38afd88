"The defaults with which the committed results were made: a change is a decision, which changes tables, and not a slip."

import inspect

import pytest

from diec import hierarchy, losses, model, search, trainer
from diec.app.pretrain import Recipe

DEFAULTS = {
    losses.soft_assignment: dict(alpha=1.0),
    losses.adaptive_graph: dict(k=10),
    losses.diffuse: dict(n_steps=20),
    losses.entropy_loss: dict(eta=0.1),
    losses.neighbor_loss: dict(attraction=2.0),
    model.ResidualHead: dict(width=256, depth=2, residual=True, random_state=0),
    search.CommonSpace: dict(n_components=64),
    search.CommonSpace.fit: dict(n_components=64, random_state=0),
    search.kmeans: dict(random_state=0, n_init=10),
    search.stability: dict(random_state=0),
    search.neighbor_consistency: dict(k=10),
    search.Clusterability: dict(criterion="information", m=None, random_state=0),
    search.search_timestep: dict(
        layer="mid_block+up_blocks.0", max_evaluations=12, grid=9, tolerance=0.05, progress=False
    ),
    search.search_layer: dict(layers=None, timesteps=None, progress=False),
    search.initial_clusters: dict(
        random_state=0, diffusion=(20, 50, 100, 200, 400), n_init=None, by_information=True, rearrange=True
    ),
    search.score_map: dict(progress=False),
    trainer.ClusterModel: dict(head=True, random_state=0),
    trainer.ClusterModel.start: dict(
        head=True, random_state=0, diffusion=(20, 50, 100, 200, 400), n_init=None, by_information=True, rearrange=True
    ),
    trainer.LossWeights: dict(
        lambda_kl=1.0,
        lambda_graph=0.0,
        lambda_ent=0.1,
        lambda_diff=1.0,
        lambda_nbr=0.3,
        lambda_stay=0.1,
        n_neighbors=10,
        eta=0.1,
    ),
    trainer.TrainingConfig: dict(
        head_epochs=40,
        warmup_epochs=10,
        joint_epochs=3,
        batch_size=128,
        lr_head=3e-3,
        lr_unet=1e-5,
        tol=1e-3,
        patience=3,
        random_state=0,
        restore_best=True,
        keep_neighbors=0.67,
    ),
    trainer.Trainer.fit: dict(progress=False),
    hierarchy.ReverseHierarchicalDiffusion: dict(
        n_clusters=None, affinity="neighbors", n_neighbors=10, max_clusters=40, random_state=0
    ),
    Recipe: dict(
        n_steps=8000,
        batch_size=64,
        learning_rate=1e-3,
        warmup_steps=500,
        weight_decay=1e-2,
        ema_decay=0.999,
        grad_clip=1.0,
        snr_gamma=None,
        augment=0.05,
        random_state=0,
    ),
}


@pytest.mark.parametrize("name", [f.__qualname__ for f in DEFAULTS])
def test_defaults(name):
    of, wanted = next((f, d) for f, d in DEFAULTS.items() if f.__qualname__ == name)
    found = {p.name: p.default for p in inspect.signature(of).parameters.values()}
    assert {k: found[k] for k in wanted} == wanted and all(type(found[k]) is type(v) for k, v in wanted.items())
