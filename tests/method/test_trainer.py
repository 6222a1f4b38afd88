"Refinement: what each term and each stage does, and that being killed changes nothing."

import itertools
import json
import random
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import subprocess_cases
import torch

import diec.trainer as T
from diec.core.checkpoint import load_state
from diec.core.interrupt import Interrupted
from diec.losses import adaptive_graph
from diec.search import initial_clusters, neighbor_information
from diec.trainer import ClusterModel, LossWeights, Trainer, TrainingConfig
from diec.unet import new_scheduler, new_unet

SHORT = replace(subprocess_cases.QUICK, head_epochs=2, warmup_epochs=0, joint_epochs=2)


def weights(trainer):
    return {f"unet.{k}": v.clone() for k, v in trainer.extract.unet.state_dict().items()} | {
        k: v.clone() for k, v in trainer.model.state_dict().items()
    }


def run(**kwargs):
    "Train; (trainer, labels, weights before)"
    trainer, images = subprocess_cases.trainer(**{"training_config": SHORT, **kwargs})
    before = weights(trainer)
    return trainer, trainer.fit(images), before


# --- killed and resumed


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert subprocess_cases.finish(subprocess_cases.refinement, folder) == 0
    return subprocess_cases.kept(folder)


def equal_to(undisturbed, folder, same):
    found, facts = subprocess_cases.kept(folder)
    assert facts == undisturbed[1] and same(found, undisturbed[0])
    assert facts["history"]["stage"] == ["head"] * 4 + ["joint"] * 4


def reached(checkpoint, before=0):
    "Epochs in a checkpoint, which must be whole and not lie behind"
    if not checkpoint.exists():
        return before
    n = len(load_state(checkpoint)["history"]["epoch"])
    assert n >= before
    return n


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments(tmp_path, undisturbed, same, seed):
    moments, n, killed = random.Random(seed), 0, 0
    for _ in range(5):
        killed += subprocess_cases.killed_after(
            moments.randrange(3), moments.uniform(0, 0.05), subprocess_cases.refinement, tmp_path
        )
        n = reached(tmp_path / "checkpoint", n)
    assert killed >= 2
    assert subprocess_cases.finish(subprocess_cases.refinement, tmp_path) == 0
    equal_to(undisturbed, tmp_path, same)


@pytest.mark.parametrize(
    "place, nth, epochs",
    [
        ("mid-write", 2, 1),
        ("mid-write", 7, 5),
        ("before-replace", 5, 4),
        ("after-replace", 5, 4),
        ("after-replace", 7, 6),
        ("mid-step", 5, 1),
        ("mid-step", 20, 6),
    ],
)
def test_killed_at_the_worst_moments(tmp_path, undisturbed, same, place, nth, epochs):
    "In either stage, and just between them (the fifth checkpoint)"
    assert subprocess_cases.finish(subprocess_cases.refinement, tmp_path, death=(place, nth)) == -signal.SIGKILL
    assert reached(tmp_path / "checkpoint") == epochs
    assert subprocess_cases.finish(subprocess_cases.refinement, tmp_path) == 0
    equal_to(undisturbed, tmp_path, same)


def test_stopped_and_continued(tmp_path, undisturbed, same):
    for stop in (1, 3, 4, 5, 8, None):
        trainer, images = subprocess_cases.trainer()
        labels = trainer.fit(images, checkpoint=tmp_path / "c", stop_after=stop)
    assert same(weights(trainer), undisturbed[0]) and labels.tolist() == undisturbed[1]["labels"]
    trainer, images = subprocess_cases.trainer()  # already done: nothing more happens
    assert trainer.fit(images, checkpoint=tmp_path / "c").tolist() == undisturbed[1]["labels"] and same(
        weights(trainer), undisturbed[0]
    )


def test_embeddings_that_are_there_already_change_nothing(same):
    one, images = subprocess_cases.trainer(training_config=SHORT)
    e = one.extract(images, ["mid_block"], 50)["mid_block"]
    copy = e.copy()
    one.fit(images, e)
    assert np.array_equal(e, copy) and same(weights(one), weights(run()[0]))


OTHER = {
    "loss_weights": dict(loss_weights=LossWeights(lambda_kl=2.0, n_neighbors=5)),
    "training_config": dict(training_config=replace(SHORT, lr_head=1e-4)),
    "seed": dict(training_config=replace(SHORT, random_state=9)),
    "number of clusters": dict(n_clusters=4),
    "noise": dict(random_state=7),
    "fewer images": dict(data=subprocess_cases.images()[:-1]),
    "other images": dict(data=subprocess_cases.images().clip(-0.9, 1)),
    "order of the images": dict(data=subprocess_cases.images()[::-1].copy()),
}


@pytest.fixture(scope="module", params=[1, 3, None], ids=["head", "joint", "done"])
def left_off(request, tmp_path_factory):
    "The checkpoint of a run that was left off in this stage"
    path = tmp_path_factory.mktemp("left off") / "c"
    trainer, images = subprocess_cases.trainer(training_config=SHORT)
    trainer.fit(images, checkpoint=path, stop_after=request.param)
    return path


@pytest.mark.parametrize("change", [*OTHER, "U-Net", "start labels", "start centers", "noise schedule"])
def test_the_checkpoint_of_another_run_is_refused(left_off, change):
    before = left_off.read_bytes()
    kwargs = OTHER.get(change, {})
    if change == "U-Net":
        kwargs = {"unet": new_unet(8, block_out_channels=(8, 8), random_state=8)}
    trainer, images = subprocess_cases.trainer(**{"training_config": SHORT, **kwargs})
    if change == "start labels":
        trainer.model.start_labels = trainer.model.start_labels.roll(1)
    if change == "start centers":
        trainer.model.centers.data += 0.1
    if change == "noise schedule":
        trainer.extract.scheduler = new_scheduler(beta_schedule="linear")
    settings = trainer.layer, trainer.t, trainer.loss_weights, trainer.training_config
    trainer = Trainer(trainer.extract, trainer.model, *settings)
    try:
        with pytest.raises(ValueError, match="another run"):
            trainer.fit(images, checkpoint=left_off)
        assert left_off.read_bytes() == before
    finally:
        left_off.write_bytes(before)


def test_a_damaged_checkpoint_or_a_pickle_is_refused(tmp_path, marker):
    data, made = marker
    for content in (data, b""):
        (tmp_path / "c").write_bytes(content)
        trainer, images = subprocess_cases.trainer(training_config=SHORT)
        with pytest.raises(ValueError, match="damaged"):
            trainer.fit(images, checkpoint=tmp_path / "c")
        assert (tmp_path / "c").read_bytes() == content and not made.exists()


@pytest.mark.parametrize("stop, stage", [(1, "head"), (2, "head"), (3, "joint"), (None, "done")])
def test_a_checkpoint_gives_back_the_whole_trainer(tmp_path, same, stop, stage):
    one, images = subprocess_cases.trainer(training_config=replace(SHORT, tol=1.0, patience=9))
    one.fit(images, checkpoint=tmp_path / "c", stop_after=stop)
    two, _ = subprocess_cases.trainer(training_config=replace(SHORT, tol=1.0, patience=9))
    two.load(tmp_path / "c", two.origin(one.extract.prepare(images)))
    facts = lambda t: (t.stage, t.epoch, t.settled, t.begun, t.history, t.labels.tolist())
    assert (
        facts(one) == facts(two)
        and one.stage == stage
        and same(weights(one), weights(two))
        and all(map(torch.equal, one.graph, two.graph))
    )
    if stage == "done":
        return
    a, b = one.optimizer.state_dict(), two.optimizer.state_dict()
    assert (
        a["param_groups"] == b["param_groups"]
        and a["state"].keys() == b["state"].keys() != set()
        and all(same(a["state"][k], b["state"][k]) for k in a["state"])
    )
    assert [p.shape for g in two.optimizer.param_groups for p in g["params"]] == [
        p.shape for m in [two.model, two.extract.unet][: len(a["param_groups"])] for p in m.parameters()
    ]


def test_a_trainer_begins_at_the_beginning():
    t, _ = subprocess_cases.trainer()
    assert (t.stage, t.epoch, t.settled, t.labels, t.graph, t.begun) == ("head", 0, 0, None, None, None) and not any(
        t.history.values()
    )


def saves(tmp_path, monkeypatch):
    "Train with a checkpoint; what each one says: stage, epoch, steps of an epoch that has begun"
    seen, (trainer, images) = [], subprocess_cases.trainer(training_config=SHORT)
    monkeypatch.setattr(
        T,
        "save_state",
        lambda path, state: seen.append((state["stage"], state["epoch"], state["begun"] and state["begun"]["step"])),
    )
    trainer.fit(images, checkpoint=tmp_path / "c")
    return seen


def test_a_checkpoint_says_how_many_steps_of_the_epoch_are_done(tmp_path, monkeypatch):
    monkeypatch.setattr(T, "SAVE_EVERY", -1)  # after each step
    epoch = lambda stage, n: [(stage, n, 1), (stage, n, 2), (stage, n, 3), (stage, n + 1, None)]
    assert saves(tmp_path, monkeypatch) == [
        *epoch("head", 0),
        *epoch("head", 1),
        ("joint", 0, None),
        *epoch("joint", 0),
        *epoch("joint", 1),
        ("done", 0, None),
    ]


@pytest.mark.parametrize("seconds, within", [(1, []), (30, [3] * 4), (31, [2, 1, 3] * 2), (61, [1, 2, 3] * 4)])
def test_within_an_epoch_a_checkpoint_is_written_once_a_minute(tmp_path, monkeypatch, seconds, within):
    "Where a step takes so many seconds"
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now

    def finished(*which):
        clock.now += seconds

    monkeypatch.setattr(T, "time", clock)
    monkeypatch.setattr(T, "finished", finished)
    assert [step for *_, step in saves(tmp_path, monkeypatch) if step is not None] == within


def test_with_a_checkpoint_the_images_are_hashed_once_in_a_fit(tmp_path, monkeypatch):
    trainer, images = subprocess_cases.trainer(training_config=SHORT)
    hashed, real = [], T.fingerprint
    monkeypatch.setattr(T, "fingerprint", lambda tensors: hashed.append(tensors) or real(tensors))
    monkeypatch.setattr(T, "SAVE_EVERY", -1)  # after each step
    trainer.fit(images, checkpoint=tmp_path / "c")
    assert [tensors[0] is images for tensors in hashed] == [True]


def test_without_a_checkpoint_nothing_is_saved(monkeypatch):
    monkeypatch.setattr(T, "SAVE_EVERY", -1)
    monkeypatch.setattr(T, "save_state", lambda *args: pytest.fail("there is no file to save to"))
    assert run()[0].stage == "done"


@pytest.mark.parametrize(
    "nth, kept",
    [
        (2, "at step 2 of 3 in epoch 1 of the head stage"),
        (6, "at step 3 of 3 in epoch 2 of the head stage"),
        (10, "at step 1 of 3 in epoch 2 of the joint stage"),
    ],
)
def test_a_signal_is_heeded_after_the_step_and_none_is_lost_or_done_twice(tmp_path, monkeypatch, same, nth, kept):
    whole, wanted, _ = run()
    count, done = itertools.count(1), []

    def finished(*which):
        done.append(which)
        if next(count) == nth:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(T, "finished", finished)
    trainer, images = subprocess_cases.trainer(training_config=SHORT)
    with pytest.raises(Interrupted) as e:
        trainer.fit(images, checkpoint=tmp_path / "c")
    assert e.value.kept == kept and len(done) == nth
    again, _ = subprocess_cases.trainer(training_config=SHORT)
    labels = again.fit(images, checkpoint=tmp_path / "c")
    assert same(weights(again), weights(whole)) and np.array_equal(labels, wanted) and again.history == whole.history
    assert done == [
        ("update", stage, epoch, step) for stage in ("head", "joint") for epoch in range(2) for step in range(3)
    ]


# --- several processes, as one of them sees it


def test_processes_share_a_batch_or_each_does_the_whole(monkeypatch):
    for size, n in itertools.product((1, 2, 3, 5), (1, 2, 3, 4, 5, 11)):
        parts = []
        for rank in range(size):
            monkeypatch.setattr(T, "rank_and_world_size", lambda: (rank, size))
            parts.append(list(range(n))[T._share(n)])
        if n < size:
            assert parts == [list(range(n))] * size
        else:
            assert (
                sorted(sum(parts, [])) == list(range(n))
                and {len(p) for p in parts} <= {n // size, -(-n // size)}
                and [p[0] for p in parts] == list(range(size))
            )


def test_the_rows_of_all_are_there_and_a_gradient_flows_to_the_own(monkeypatch):
    rng, own = torch.Generator().manual_seed(0), slice(1, None, 2)
    whole, weight = torch.randn(5, 3, generator=rng).bfloat16(), torch.randn(5, 3, generator=rng)

    def all_reduce(a):
        assert not a[0::2].any() and torch.equal(a[own], whole[own].float())  # each brings its part
        a[0::2] += whole[0::2].float()

    monkeypatch.setattr(T, "all_reduce", all_reduce)
    e = whole[own].clone().requires_grad_()
    rows = T._all_rows(e, 5, own)
    assert torch.equal(rows, whole.float()) and rows.dtype == torch.float32
    (rows * weight).sum().backward()
    assert torch.equal(e.grad, weight[own].bfloat16())
    assert T._all_rows(e, 2, slice(None)) is e  # all there are


@pytest.mark.parametrize(
    "size, n, added", [(1, 5, False), (2, 1, False), (2, 2, True), (2, 5, True), (3, 2, False), (3, 3, True)]
)
def test_gradients_and_the_denoising_loss_are_those_of_the_whole_batch(monkeypatch, size, n, added):
    "But where each process did the whole"
    trainer, _ = subprocess_cases.trainer()
    monkeypatch.setattr(T, "rank_and_world_size", lambda: (0, size))
    monkeypatch.setattr(T, "all_reduce", lambda a: a.mul_(7))  # as if the others had six times as much
    first, *others = trainer.extract.unet.parameters()
    kl, diff = torch.tensor(2.0), torch.tensor(3.0, requires_grad=True)
    some = {p: torch.randn_like(p) for p in (first, *others[::2])}  # the others have no gradient
    for p, grad in some.items():
        p.grad = grad.clone()
    terms = {"kl": kl, "diff": diff}
    trainer._reduce_gradients(n, terms)
    assert all(torch.equal(p.grad, grad * (7 if added else 1)) for p, grad in some.items())
    assert all((p.grad is not None and not p.grad.any()) if added else p.grad is None for p in others[1::2])
    assert (
        terms["kl"] is kl
        and terms["diff"].item() == (21 if added else 3)
        and diff.item() == 3
        and all(p.grad is None for p in trainer.model.parameters())
    )
    trainer._reduce_gradients(n, without := {"kl": kl})
    assert without == {"kl": kl}


# --- determinism


def test_the_same_seed_gives_the_same_bits(same):
    one, labels, _ = run()
    torch.rand(3)  # the global generators play no part
    np.random.rand(3)
    two, again, _ = run()
    assert same(weights(one), weights(two)) and np.array_equal(labels, again) and one.history == two.history
    other, _, _ = run(training_config=replace(SHORT, random_state=3))
    assert not same(weights(one), weights(other))


def test_labels_are_those_of_the_final_model():
    trainer, labels, _ = run(training_config=replace(SHORT, lr_unet=1e-3))
    e = trainer.extract(subprocess_cases.images(), ["mid_block"], 50)["mid_block"]
    with torch.no_grad():
        q = trainer.model(trainer.model.embed(torch.from_numpy(e)))[1]
    assert labels.dtype == np.int64 and np.array_equal(labels, q.argmax(1))


# --- stages


def moved(trainer, before, part):
    now = weights(trainer)
    names = [k for k in now if k.startswith("unet.") == (part == "unet")]
    return any(not torch.equal(now[k], before[k]) for k in names)


def test_only_the_joint_stage_moves_the_unet():
    head, _, before = run(training_config=replace(SHORT, joint_epochs=0))
    assert moved(head, before, "model") and not moved(head, before, "unet") and set(head.history["stage"]) == {"head"}
    assert all(p.grad is None for p in head.extract.unet.parameters())
    joint, _, before = run(training_config=replace(SHORT, head_epochs=0))
    assert moved(joint, before, "model") and moved(joint, before, "unet") and set(joint.history["stage"]) == {"joint"}
    none, labels, before = run(training_config=replace(SHORT, head_epochs=0, joint_epochs=0))
    assert not moved(none, before, "model") and not moved(none, before, "unet") and len(labels) == 40


@pytest.mark.parametrize("rate, part", [("lr_unet", "unet"), ("lr_head", "model")])
def test_a_learning_rate_of_zero_holds_its_part_still(rate, part):
    trainer, _, before = run(training_config=replace(SHORT, **{rate: 0.0}))
    assert not moved(trainer, before, part) and moved(trainer, before, {"unet": "model", "model": "unet"}[part])


def test_the_first_step_is_as_long_as_the_learning_rates_say():
    "Adam's first step is the learning rate itself, for every weight with a gradient"
    trainer, _, before = run(
        training_config=TrainingConfig(
            head_epochs=0, joint_epochs=1, batch_size=40, lr_head=3e-3, lr_unet=2e-4, tol=-1.0
        )
    )
    step = {k: (v - before[k]).abs().max().item() for k, v in weights(trainer).items()}
    assert max(v for k, v in step.items() if k.startswith("unet.")) == pytest.approx(2e-4, rel=0.05)
    assert step["centers"] == pytest.approx(3e-3, rel=0.05)
    assert (
        step["space.mean"] == step["space.components"] == step["scale"] == 0
    )  # the way into the common space is fixed


@pytest.mark.parametrize("tol, epochs", [(1.0, ["head", "joint"]), (-1.0, ["head"] * 2 + ["joint"] * 2)])
def test_tolerance(tol, epochs):
    assert run(training_config=replace(SHORT, tol=tol, patience=1))[0].history["stage"] == epochs


@pytest.mark.parametrize("patience", [1, 3])
def test_it_stops_when_labels_stop_changing(patience):
    still, _, _ = run(
        training_config=TrainingConfig(
            head_epochs=30, warmup_epochs=0, joint_epochs=30, batch_size=16, lr_head=0.0, lr_unet=0.0, patience=patience
        )
    )
    assert still.history["stage"] == ["head"] * patience + ["joint"] * patience and not any(
        still.history["changed"][1:]
    )
    trainer, _, _ = run(
        training_config=TrainingConfig(
            head_epochs=60, warmup_epochs=0, joint_epochs=0, batch_size=16, lr_head=3e-3, tol=0.0, patience=patience
        )
    )
    changed = trainer.history["changed"]
    assert patience <= len(changed) < 60 and changed[0] is None  # nothing to compare with yet
    settled = "".join("-" if c == 0 else "x" for c in changed)
    assert "-" * patience not in settled  # it would have stopped there


def test_patience_survives_an_interruption(tmp_path):
    for stop in range(1, 8):
        trainer, images = subprocess_cases.trainer(
            training_config=TrainingConfig(
                head_epochs=30, warmup_epochs=0, joint_epochs=0, batch_size=16, lr_head=0.0, patience=3
            )
        )
        trainer.fit(images, checkpoint=tmp_path / "c", stop_after=stop)
    assert len(trainer.history["epoch"]) == 3 and trainer.stage == "done"


def test_history_adds_up():
    trainer, _, _ = run()
    h = trainer.history
    assert {len(v) for v in h.values()} == {4} and h["epoch"] == [1, 2, 3, 4]
    assert np.allclose(h["total"], np.sum([[v or 0.0 for v in h[k]] for k in T.TERMS], 0), rtol=1e-5)
    assert not any(h["diff"][:2]) and min(h["diff"][2:]) > 0.5  # an untrained network does not denoise
    json.dumps(h)


def test_history_holds_the_mean_over_the_steps():
    "Where nothing moves, the mean of the terms of equal batches is that of the whole"
    trainer, images = subprocess_cases.trainer(
        training_config=TrainingConfig(head_epochs=1, warmup_epochs=0, joint_epochs=0, batch_size=10, lr_head=0.0),
        loss_weights=LossWeights(n_neighbors=5, lambda_graph=0.1),
    )
    e = torch.from_numpy(trainer.extract(images, ["mid_block"], 50)["mid_block"])
    x = trainer.model.embed(e)
    view = T.EpochView(trainer.model, x, trainer.loss_weights)
    view.partners = trainer._partners(x)
    wanted = T._clustering_terms(trainer.model, view, trainer.loss_weights, torch.arange(len(images)), view.x)
    trainer.fit(images)
    for k in ("kl", "graph", "stay"):
        assert trainer.history[k] == [pytest.approx(wanted[k].item(), rel=1e-4, abs=1e-12)]
    assert trainer.history["diff"] == [None] and trainer.history["total"][0] == pytest.approx(
        sum(trainer.history[k][0] for k in ("kl", "graph", "ent", "nbr", "stay"))
    )


# --- terms

TERMS = {
    "lambda_kl": ("kl", "kl_loss"),
    "lambda_graph": ("graph", "graph_loss"),
    "lambda_ent": ("ent", "entropy_loss"),
    "lambda_diff": ("diff", "denoising_loss"),
    "lambda_nbr": ("nbr", "neighbor_loss"),
    "lambda_stay": ("stay", "stay_loss"),
}


@pytest.mark.parametrize("name", TERMS)
def test_a_weight_of_zero_removes_the_term(name):
    column, base = TERMS[name][0], LossWeights(n_neighbors=5, lambda_graph=1.0, lambda_ent=1.0)
    with_it, _, _ = run(loss_weights=base)
    without, _, _ = run(loss_weights=replace(base, **{name: 0.0}))
    assert any(with_it.history[column]) and not any(without.history[column])
    assert any(not torch.equal(a, b) for a, b in zip(weights(with_it).values(), weights(without).values()))
    assert all(any(without.history[other]) for other, _ in TERMS.values() if other != column)


@pytest.mark.parametrize("name", TERMS)
def test_a_term_of_no_weight_leaves_no_trace(monkeypatch, same, name):
    "Not even through the random numbers or the gradients: the term may as well be garbage"
    loss_weights = replace(LossWeights(n_neighbors=5, lambda_graph=0.1), **{name: 0.0})
    plain, _, _ = run(loss_weights=loss_weights)
    monkeypatch.setattr(T, TERMS[name][1], lambda *args, **kwargs: torch.tensor(float("nan")))
    garbage, _, _ = run(loss_weights=loss_weights)
    assert same(weights(plain), weights(garbage)) and plain.history == garbage.history


def test_points_that_must_stay_move_less_within_their_cluster():
    "By the weight; at the start they have not moved, so the term is zero"

    def distance(weight):
        config = TrainingConfig(
            head_epochs=12, joint_epochs=0, batch_size=20, lr_head=3e-3, tol=-1.0, restore_best=False
        )
        trainer, images = subprocess_cases.trainer(loss_weights=LossWeights(lambda_stay=weight), training_config=config)
        trainer.fit(images)
        e = trainer.extract(images, ["mid_block"], 50)["mid_block"]
        with torch.no_grad():
            x, model = trainer.model.embed(torch.from_numpy(e)), trainer.model
            shift = (model.centers - model.start_centers)[trainer.labels]
            moved = (model.head(x) - x - shift).square().sum(1).mean().item()
        return moved, trainer.history["stay"]

    free, never = distance(0.0)
    held, column = distance(1.0)
    assert held < free / 2 and set(never) == {None} and column[-1] > 0
    assert column[-1] == pytest.approx(held, rel=0.3)  # the mean over the last epoch


HELD = TrainingConfig(head_epochs=8, joint_epochs=0, batch_size=20, lr_head=1e-2, tol=-1.0, restore_best=False)


def test_points_are_held_more_firmly_while_neighbors_part():
    "The weight of the stay term doubles before each epoch that finds fewer neighbors than wanted"
    trainer, images = subprocess_cases.trainer(
        loss_weights=LossWeights(n_neighbors=5), training_config=replace(HELD, keep_neighbors=0.9)
    )
    trainer.fit(images)
    kept = trainer.history["kept"]
    # at the start the head is the identity, so all neighbors are kept
    assert kept[0] == 1.0 and min(kept) < 0.9 and all(0 <= share <= 1 for share in kept)
    fewer = sum(share < 0.9 for share in kept)
    assert trainer.lambda_stay in (0.1 * 2**fewer, 0.1 * 2 ** (fewer + 1))  # one more look after the last epoch
    fixed, images = subprocess_cases.trainer(
        loss_weights=LossWeights(n_neighbors=5), training_config=replace(HELD, keep_neighbors=0.0)
    )
    fixed.fit(images)
    assert fixed.lambda_stay == 0.1 and set(fixed.history["kept"]) == {None}


def test_a_resumed_run_holds_points_as_firmly(tmp_path):
    def run(stop_after=None, checkpoint=None):
        trainer, images = subprocess_cases.trainer(
            loss_weights=LossWeights(n_neighbors=5), training_config=replace(HELD, keep_neighbors=0.9)
        )
        trainer.fit(images, checkpoint=checkpoint, stop_after=stop_after)
        return trainer

    through = run()
    assert run(5, tmp_path / "checkpoint").lambda_stay > 0.1
    resumed = run(None, tmp_path / "checkpoint")
    assert resumed.lambda_stay == through.lambda_stay > 0.2 and resumed.history == through.history


def test_the_share_of_neighbors_kept_is_that_of_a_plain_search():
    trainer, images = subprocess_cases.trainer(
        loss_weights=LossWeights(n_neighbors=5), training_config=replace(HELD, head_epochs=3)
    )
    trainer.fit(images)
    x = trainer.model.embed(torch.from_numpy(trainer.extract(images, ["mid_block"], 50)["mid_block"]))
    trainer.stage, view = "head", T.EpochView(trainer.model, x, trainer.loss_weights)
    trainer._hold_neighbors(x, view)

    def nearest(points):
        apart = torch.cdist(points, points).fill_diagonal_(float("inf"))
        return apart.topk(5, largest=False).indices

    pairs = zip(nearest(x).tolist(), nearest(view.z).tolist())
    assert view.kept == pytest.approx(np.mean([len({*a} & {*b}) / 5 for a, b in pairs]), abs=1e-6)
    for wanted, enough in ((view.kept, True), (view.kept + 1e-6, False)):
        trainer.training_config = replace(HELD, keep_neighbors=wanted)
        trainer._hold_neighbors(x, view)
        assert view.keeps_enough is enough


def test_only_images_in_the_cluster_of_their_target_are_held():
    trainer, images = subprocess_cases.trainer(loss_weights=LossWeights(n_neighbors=5, lambda_nbr=0.0))
    x = trainer.model.embed(torch.from_numpy(trainer.extract(images, ["mid_block"], 50)["mid_block"]))
    with torch.no_grad():
        list(trainer.model.head.parameters())[-2].add_(0.1)
        view = T.EpochView(trainer.model, x, trainer.loss_weights)
        view.target = view.target.roll(1, 1)  # nobody is in the cluster of the target
        index = torch.arange(len(x))
        terms = T._clustering_terms(trainer.model, view, trainer.loss_weights, index, x)
        assert terms["stay"] == 0
        view.target = view.target.roll(-1, 1)
        assert T._clustering_terms(trainer.model, view, trainer.loss_weights, index, x)["stay"] > 0


def test_the_partners_are_neighbors_of_the_embedding_drawn_for_each_epoch():
    trainer, images = subprocess_cases.trainer()
    x = trainer.model.embed(torch.from_numpy(trainer.extract(images, ["mid_block"], 50)["mid_block"]))
    near = adaptive_graph(x, 5).neighbors
    first, again = trainer._partners(x), trainer._partners(x)
    trainer.epoch = 1
    second = trainer._partners(x)
    assert torch.equal(first, again) and not torch.equal(first, second)
    for partners in (first, second):
        assert (near == partners[:, None]).any(1).all()
    without, _ = subprocess_cases.trainer(loss_weights=LossWeights(lambda_nbr=0.0))
    assert without._partners(x) is None


OFF = dict(lambda_kl=0.0, lambda_graph=0.0, lambda_ent=0.0, lambda_diff=0.0, lambda_nbr=0.0, lambda_stay=0.0)


@pytest.mark.parametrize("name", ["lambda_graph", "lambda_ent", "lambda_nbr"])
def test_each_term_alone_goes_down(name):
    loss_weights = LossWeights(**OFF | {name: 1.0}, n_neighbors=5)
    training_config = TrainingConfig(head_epochs=25, joint_epochs=0, batch_size=20, lr_head=1e-3, tol=-1.0)
    column = run(loss_weights=loss_weights, training_config=training_config)[0].history[TERMS[name][0]]
    assert column[-1] < column[0]


def test_self_training_alone_sharpens():
    "KL itself need not fall, its target moves away; the confidence rises"

    def confidence(trainer):
        e = trainer.extract(subprocess_cases.images(), ["mid_block"], 50)["mid_block"]
        with torch.no_grad():
            return trainer.model(trainer.model.embed(torch.from_numpy(e)))[1].max(1).values.mean()

    trained, _, _ = run(
        loss_weights=LossWeights(**OFF | {"lambda_kl": 1.0}),
        training_config=TrainingConfig(head_epochs=25, joint_epochs=0, batch_size=20, tol=-1.0, restore_best=False),
    )
    assert confidence(trained) > confidence(subprocess_cases.trainer()[0]) + 0.05


def test_denoising_alone_trains_the_unet(digits):
    "The loss_weights of the ablation without clustering: L_diff is left"
    loss_weights, training_config = (
        LossWeights(**OFF | {"lambda_diff": 1.0}),
        TrainingConfig(head_epochs=2, joint_epochs=15, batch_size=40, lr_unet=1e-3, tol=-1.0),
    )
    trainer, _, before = run(loss_weights=loss_weights, training_config=training_config, data=digits[:80])
    diff = [d for d, s in zip(trainer.history["diff"], trainer.history["stage"]) if s == "joint"]
    assert (
        np.mean(diff[-3:]) < np.mean(diff[:3])
        and moved(trainer, before, "unet")
        and not moved(trainer, before, "model")
    )


def test_nothing_to_minimize():
    "All weights zero: nothing moves, or a refusal that says so"
    try:
        trainer, labels, before = run(loss_weights=LossWeights(**OFF))
    except ValueError as e:
        assert "lambda" in str(e)
    else:
        assert not moved(trainer, before, "unet") and not moved(trainer, before, "model") and len(labels) == 40


# --- trouble


@pytest.mark.parametrize("stage", ["head", "joint"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_objective_that_is_not_finite_names_the_stage(monkeypatch, stage, value):
    function = "kl_loss" if stage == "head" else "denoising_loss"
    real = getattr(T, function)
    monkeypatch.setattr(T, function, lambda *a: real(*a) * value)
    with pytest.raises(FloatingPointError, match=f"{value}.*{stage} stage"):
        run()


@pytest.mark.parametrize("batch_size", [16, 1000])
@pytest.mark.parametrize("stage", ["head", "joint"])
def test_divergence_names_the_stage(stage, batch_size):
    "Also when the weights explode in the last step of an epoch, so that the next one begins with NaN"
    training_config = TrainingConfig(
        head_epochs=4 * (stage == "head"),
        joint_epochs=4,
        batch_size=batch_size,
        lr_head=1e30 if stage == "head" else 0.0,
        lr_unet=1e30,
        tol=-1.0,
    )
    with pytest.raises(FloatingPointError, match=f"{stage} stage"):
        run(training_config=training_config)


def test_weights_that_are_nan_from_the_start_name_the_stage():
    trainer, images = subprocess_cases.trainer(training_config=SHORT)
    trainer.model.centers.data[0] = float("nan")
    with pytest.raises(FloatingPointError, match="head stage"):
        trainer.fit(images)


def test_no_checkpoint_is_made_of_trouble(tmp_path, monkeypatch):
    trainer, images = subprocess_cases.trainer(training_config=SHORT)
    trainer.fit(images, checkpoint=tmp_path / "c", stop_after=1)
    before = (tmp_path / "c").read_bytes()
    monkeypatch.setattr(T, "kl_loss", lambda p, q: q.sum() * float("nan"))
    with pytest.raises(FloatingPointError):
        trainer.fit(images, checkpoint=tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == before


@pytest.mark.parametrize(
    "data",
    [np.zeros((20, 1, 8, 8)), np.repeat([np.zeros((1, 8, 8)), np.ones((1, 8, 8))], 10, 0), subprocess_cases.images(5)],
    ids=["all alike", "two kinds", "five"],
)
def test_poor_data_are_borne(data):
    "Fewer kinds of image than clusters, fewer images than neighbors"
    trainer, labels, _ = run(data=data.astype(np.float32), loss_weights=LossWeights())
    assert len(labels) == len(data) and set(labels) <= {0, 1, 2} and np.isfinite(trainer.history["total"]).all()
    assert len({tuple(x.ravel()) + (l,) for x, l in zip(data, labels)}) == len(
        {tuple(x.ravel()) for x in data}
    )  # alike images, alike labels


@pytest.mark.parametrize(
    "build, name, value",
    [
        *[(TrainingConfig, "batch_size", v) for v in (0, -1, 1.5, "x")],
        *[(TrainingConfig, f"{s}_epochs", v) for s in ("head", "joint") for v in (-1, 1.5, "x")],
        *[(TrainingConfig, lr, v) for lr in ("lr_head", "lr_unet") for v in (-1.0, float("nan"), "x")],
        (TrainingConfig, "tol", "x"),
        (TrainingConfig, "patience", 0),
        (TrainingConfig, "patience", "x"),
        (TrainingConfig, "random_state", -1),
        *[(TrainingConfig, "restore_best", v) for v in (1, None, "yes")],
        *[(TrainingConfig, "keep_neighbors", v) for v in (-0.1, 1.1, float("nan"), "x")],
        *[(LossWeights, term, v) for term in (*TERMS, "lambda_stay") for v in (-1.0, float("nan"), "x")],
        *[(LossWeights, "n_neighbors", v) for v in (0, -2, 1.5, "x")],
        *[(LossWeights, "eta", v) for v in (-1.0, "x")],
    ],
)
def test_bad_settings_are_named(build, name, value):
    kind = "loss_weights" if build is LossWeights else "training_config"
    with pytest.raises((ValueError, TypeError)) as e:
        run(**{kind: build(**{name: value})})
    assert name in str(e.value) and repr(value) in str(e.value) and "must be" in str(e.value)


def test_numbers_of_numpy_become_those_of_python(tmp_path):
    numpy_one = replace(SHORT, head_epochs=np.int64(2), lr_head=np.float32(0.5), restore_best=np.bool_(True))
    assert numpy_one == replace(SHORT, head_epochs=2, lr_head=0.5, restore_best=True)
    weights_of = LossWeights(lambda_kl=np.float64(1), n_neighbors=np.int32(5))
    assert {type(v) for v in (*vars(numpy_one).values(), *vars(weights_of).values())} == {int, float, bool}
    trainer, images = subprocess_cases.trainer(training_config=numpy_one, loss_weights=weights_of)
    trainer.fit(images, checkpoint=tmp_path / "c", stop_after=1)
    assert (tmp_path / "c").exists()


def test_the_smallest_settings_are_allowed():
    LossWeights(**OFF, n_neighbors=1, eta=0.0).check()
    TrainingConfig(0, 0, 0, 1, 0.0, 0.0, -1.0, 1, 0).check()
    with pytest.raises(ValueError, match="warmup_epochs must be an integer of 0 or more, got -1"):
        TrainingConfig(warmup_epochs=-1).check()


@pytest.mark.parametrize("joint_epochs", [0, 1])
def test_the_head_stage_ends_with_its_most_informative_epoch(joint_epochs, same):
    "After at least one epoch, the first of equals; the labels are those of the model"
    config = TrainingConfig(
        head_epochs=8, warmup_epochs=2, joint_epochs=joint_epochs, batch_size=8, lr_head=0.03, tol=-1.0
    )
    trainer, images = subprocess_cases.trainer(training_config=config)
    e = trainer.extract(images, ["mid_block"], 50)["mid_block"]
    x = trainer.model.embed_all(e)
    near = adaptive_graph(x, 5).neighbors.numpy()
    trainer.loss_weights = replace(trainer.loss_weights, n_neighbors=5)
    found, models = [], []
    for epoch in range(1, 9):
        trainer.fit(images, e, stop_after=epoch)
        models.append({k: v.clone() for k, v in trainer.model.state_dict().items()})
        found.append(neighbor_information(trainer.model.assign_all(x)[1].argmax(1).numpy(), near))
    assert trainer.history["information"][1:] == pytest.approx(found[:-1])
    best = int(np.argmax(found))
    assert best < 7  # otherwise there is nothing to return to
    trainer.next_stage() if joint_epochs else trainer.fit(images, e)
    assert trainer.best is None and same(models[best], dict(trainer.model.state_dict()))
    assert torch.equal(trainer.labels, trainer.model.assign_all(x)[1].argmax(1))


def test_an_epoch_that_keeps_the_neighbors_comes_before_one_that_says_more_about_them():
    config = replace(HELD, restore_best=True, keep_neighbors=0.9)
    trainer, images = subprocess_cases.trainer(
        loss_weights=LossWeights(n_neighbors=5, lambda_stay=1e-3), training_config=config
    )
    looks = {1: (False, 1.9), 2: (True, 1.2), 3: (True, 1.4), 4: (False, 1.8), 5: (True, 1.4)}
    x = trainer.model.embed_all(trainer.extract(images, ["mid_block"], 50)["mid_block"])
    view = SimpleNamespace(labels=torch.zeros(len(x), dtype=torch.long))
    for trainer.epoch, (view.keeps_enough, information) in looks.items():
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(T, "neighbor_information", lambda *_, value=information: value)
            trainer._keep_best(x, view)
        assert trainer.best["epoch"] == {1: 1, 2: 2}.get(trainer.epoch, 3)  # the first of equals


@pytest.mark.parametrize("t", [-1, 1000, 2.5, "search", None])
def test_bad_timesteps_are_named(t):
    trainer, _ = subprocess_cases.trainer()
    with pytest.raises(ValueError, match=r"timestep must be .*0\.\.999"):
        Trainer(trainer.extract, trainer.model, "mid_block", t)


def test_the_start_is_kmeans_after_diffusion():
    trainer, images = subprocess_cases.trainer()
    e = trainer.extract(images, ["mid_block"], 50)["mid_block"]
    model = ClusterModel.start(e, 3, random_state=4)
    with torch.no_grad():
        z = model(model.embed(torch.from_numpy(e)))[0]
    plain = model.space.transform(e)
    graph = adaptive_graph(plain, 10)
    labels = initial_clusters(plain, graph, 3, 4).labels_
    assert torch.equal(model.start_labels, torch.from_numpy(labels).long()) and len(set(labels)) == 3
    assert torch.allclose(model.centers, torch.stack([z[labels == k].mean(0) for k in range(3)]), atol=1e-4)
    assert (z - model.centers[model.start_labels]).square().sum(1).mean().item() == pytest.approx(
        1, rel=1e-3
    )  # the scale: unit mean squared distance


def test_where_groups_have_no_spread_the_space_is_not_scaled():
    e = np.repeat(np.eye(2, 6, dtype=np.float32), 10, 0)
    for n_clusters in (2, 3):
        model = ClusterModel.start(e, n_clusters)
        assert model.scale == 1 and len(set(model.start_labels.tolist())) == 2 and torch.isfinite(model.centers).all()
    assert torch.allclose(model.embed(torch.from_numpy(e)).norm(dim=1), torch.ones(20))


def test_the_head_first_learns_the_groups_it_starts_from(tmp_path):
    "Also groups that have nothing to do with where the points lie; then self-training takes over"
    training_config = TrainingConfig(
        head_epochs=30, warmup_epochs=30, joint_epochs=0, batch_size=16, lr_head=3e-3, tol=1.0, restore_best=False
    )
    trainer, images = subprocess_cases.trainer(
        training_config=training_config, loss_weights=LossWeights(lambda_stay=0.0)
    )
    trainer.model.start_labels = torch.arange(len(images)) % 3
    assert (torch.from_numpy(trainer.fit(images)) == trainer.model.start_labels).float().mean() > 0.9
    assert len(trainer.history["epoch"]) == 30  # no stopping before
    for warmup, after in ((0, 0.6), (2, None)):
        trainer, _ = subprocess_cases.trainer(
            training_config=replace(training_config, warmup_epochs=warmup, head_epochs=4, tol=-1.0)
        )
        trainer.model.start_labels = torch.arange(len(images)) % 3
        trainer.fit(images, checkpoint=tmp_path / f"{warmup}", stop_after=1)
        assert trainer.warming_up == (warmup > 1)
        if after:
            assert (trainer.labels == trainer.model.start_labels).float().mean() < after


def test_a_dead_cluster_is_put_anew_and_said(caplog):
    t, x = subprocess_cases.trainer(n_clusters=3)
    with torch.no_grad():
        t.model.centers[1] = 1e3  # nobody is near
    t.model.start_labels = None
    with caplog.at_level("WARNING", logger="diec"):
        labels = t.fit(x, stop_after=2)
    assert "cluster 1" in caplog.text and set(labels.tolist()) == {0, 1, 2}


def seen(z, labels, centers):
    centers, z = torch.tensor(centers), torch.tensor(z)
    model = SimpleNamespace(centers=torch.nn.Parameter(centers), start_centers=centers - 1)
    return model, SimpleNamespace(x=z - 2, z=z, labels=torch.tensor(labels))


def test_dead_centers_go_where_images_are_held_least():
    "The least first; not to the only image of a cluster, and nowhere twice"
    z = [[2.9, 1.0], [2.0, 1.0], [2.0, -2.0], [30.0, 0.0], [2.5, 1.0]]
    model, view = seen(z, [1, 1, 1, 3, 1], [[99.0, 0.0], [2.0, 1.0], [98.0, 0.0], [25.0, 0.0], [97.0, 0.0]])
    assert T._reseed(model, view) == [0, 2, 4]
    assert torch.equal(
        model.centers, torch.tensor([z[2], [2.0, 1.0], z[0], [25.0, 0.0], z[4]])
    )  # of cluster 1 the image at its center is left
    assert torch.equal(model.start_centers, model.centers - torch.tensor([2.0, 1.0, 2.0, 1.0, 2.0])[:, None])


def test_no_center_is_put_on_another():
    "Where no image is away from its center, or alone is left, the rest of the clusters stay dead"
    z = [[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]]
    model, view = seen(z, [1, 1, 1], [[99.0, 0.0], [0.0, 0.0], [98.0, 0.0], [97.0, 0.0]])
    assert T._reseed(model, view) == [0, 2] and model.centers.tolist() == [z[2], [0.0, 0.0], z[0], [97.0, 0.0]]
    model, view = seen(z[1:2] * 3, [1, 1, 1], [[99.0, 0.0], [0.0, 0.0], [98.0, 0.0]])
    assert T._reseed(model, view) == [] and model.centers.tolist() == [[99.0, 0.0], [0.0, 0.0], [98.0, 0.0]]
    model, view = seen(z[:2], [0, 1], [[9.0, 0.0], [-9.0, 0.0]])
    assert T._reseed(model, view) == []  # nobody is dead


def test_dead_clusters_are_named_with_the_epoch_and_the_stage(caplog):
    t, x = subprocess_cases.trainer(n_clusters=4)
    with torch.no_grad():
        t.model.centers[1] = t.model.centers[3] = 1e3
    t.model.start_labels = None
    with caplog.at_level("WARNING", logger="diec"):
        t.fit(x, stop_after=1)
        assert len(set(t.labels.tolist())) == 4
        with torch.no_grad():
            t.model.centers[1] = 1e3
        t.fit(x, stop_after=2)
    (said,) = caplog.messages  # once
    assert "epoch 1 of the head stage: no image was in clusters 1, 3; each center without images is moved" in said


def test_images_that_are_all_alike_leave_clusters_dead():
    x = np.zeros((20, 1, 8, 8), np.float32)
    t, _ = subprocess_cases.trainer(n_clusters=3, data=x)
    assert len(t.fit(torch.from_numpy(x))) == 20  # and it ends


def test_all_points_are_assigned_in_blocks(monkeypatch):
    model = ClusterModel(12, 8, 3, random_state=0)
    torch.nn.init.normal_(model.centers)
    torch.nn.init.normal_(model.head.g[-1].weight)
    x = torch.randn(25, 8)
    expected, sizes = model(x), []
    monkeypatch.setattr(T, "BLOCK", 10)
    model.head.register_forward_hook(lambda head, args, z: sizes.append(len(z)))
    found = model.assign_all(x)
    assert sizes == [10, 10, 5]
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b)
        assert not a.requires_grad
