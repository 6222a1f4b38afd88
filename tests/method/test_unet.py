"Pretraining that survives being killed, and U-Nets loaded from good, damaged and malicious folders."

import functools
import json
import random
import re
import shutil
import signal
import time
from dataclasses import asdict
from pathlib import Path

import diffusers
import numpy as np
import pytest
import subprocess_cases
import torch
from diffusers import DDPMPipeline, UNet2DConditionModel, UNet2DModel
from safetensors.torch import load_file, save_file

import diec.app.pretrain as P
import diec.core.names as names
import diec.data.datasets as D
import diec.unet as U
from diec.app.pretrain import COOLDOWN, UNTIL_RIPE, Recipe, make_unet, pretrain
from diec.core.checkpoint import load_state
from diec.core.files import check_replaceable
from diec.core.names import unet_names
from diec.core.rng import generator
from diec.data.datasets import dataset_available, load_dataset
from diec.data.formats import read_idx
from diec.unet import denoising_loss, load_unet, loss_by_timestep, n_levels, new_scheduler, new_unet, sample, save_unet


def small(random_state=0):
    return new_unet(8, block_out_channels=(8, 8), random_state=random_state)


# --- pretraining: killed and resumed


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    "Weights and losses of the run that nobody kills"
    folder = tmp_path_factory.mktemp("undisturbed")
    assert subprocess_cases.finish(subprocess_cases.pretraining, folder) == 0
    return subprocess_cases.kept(folder)


def equal_to(undisturbed, folder, same):
    weights, facts = subprocess_cases.kept(folder)
    assert facts == undisturbed[1] and facts["step"] == list(range(1, subprocess_cases.RECIPE.n_steps + 1))
    assert same(weights, undisturbed[0])


def loadable(checkpoint, step=0):
    "The step that a checkpoint has reached; it must not be damaged and not lie behind"
    if not checkpoint.exists():
        return step
    reached = load_state(checkpoint)["step"]
    assert reached >= step
    return reached


@pytest.mark.slow
@pytest.mark.parametrize("every, seed", [(1, 0), (2, 1), (3, 2)])
def test_killed_at_random_moments(tmp_path, undisturbed, same, every, seed):
    moments, step, killed = random.Random(seed), 0, 0
    for _ in range(4):
        killed += subprocess_cases.killed_after(
            moments.randrange(3), moments.uniform(0, 0.05), subprocess_cases.pretraining, tmp_path, every
        )
        step = loadable(tmp_path / "checkpoint", step)
    assert killed >= 2
    assert subprocess_cases.finish(subprocess_cases.pretraining, tmp_path, every) == 0
    equal_to(undisturbed, tmp_path, same)


@pytest.mark.parametrize(
    "place, nth", [("mid-write", 1), ("mid-write", 3), ("before-replace", 2), ("after-replace", 2), ("mid-step", 6)]
)
def test_killed_at_the_worst_moments(tmp_path, undisturbed, same, place, nth):
    assert subprocess_cases.finish(subprocess_cases.pretraining, tmp_path, death=(place, nth)) == -signal.SIGKILL
    written = {"mid-write": nth - 1, "before-replace": nth - 1, "after-replace": nth, "mid-step": (nth - 1) // 2}[place]
    assert loadable(tmp_path / "checkpoint") == 2 * written
    assert subprocess_cases.finish(subprocess_cases.pretraining, tmp_path, death=(place, nth)) in (
        0,
        -signal.SIGKILL,
    )  # killed when resumed, too
    assert subprocess_cases.finish(subprocess_cases.pretraining, tmp_path) == 0
    equal_to(undisturbed, tmp_path, same)


def test_stopped_and_continued_within_a_process(tmp_path, undisturbed, same):
    for stop in (1, 5, None):
        trained = pretrain(
            subprocess_cases.images(),
            subprocess_cases.RECIPE,
            subprocess_cases.small(),
            tmp_path / "c",
            stop_at=stop,
            progress=False,
        )
    assert same(trained.unet, undisturbed[0]) and trained.history["loss"] == undisturbed[1]["loss"]
    again = pretrain(
        subprocess_cases.images(), subprocess_cases.RECIPE, subprocess_cases.small(), tmp_path / "c", progress=False
    )  # finished already
    assert same(again.unet, undisturbed[0])


def test_a_damaged_checkpoint_is_refused_and_left_alone(tmp_path, marker):
    data, made = marker
    pretrain(
        subprocess_cases.images(),
        subprocess_cases.RECIPE,
        subprocess_cases.small(),
        tmp_path / "c",
        stop_at=1,
        progress=False,
    )
    for content in ((tmp_path / "c").read_bytes()[:-100], b"", data):
        (tmp_path / "c").write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            pretrain(
                subprocess_cases.images(),
                subprocess_cases.RECIPE,
                subprocess_cases.small(),
                tmp_path / "c",
                progress=False,
            )
        assert (tmp_path / "c").read_bytes() == content and not made.exists()


def attention_unet():
    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 8),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )


@pytest.mark.parametrize(
    "change", ["recipe", "fewer images", "other images", "order of the images", "channels", "attention"]
)
def test_the_checkpoint_of_another_run_is_refused(tmp_path, change):
    x, recipe, unet = subprocess_cases.images(), subprocess_cases.RECIPE, subprocess_cases.small()
    pretrain(x, recipe, unet, tmp_path / "c", stop_at=1, progress=False)
    before = (tmp_path / "c").read_bytes()
    if change == "recipe":
        recipe = Recipe(**{**recipe.__dict__, "learning_rate": 2e-3})
    if change == "fewer images":
        x = x[:-1]
    if change == "other images":
        x = x.clip(-0.9, 1)
    if change == "order of the images":
        x = x[::-1].copy()
    unet = {"channels": new_unet(8, block_out_channels=(8, 16)), "attention": attention_unet()}.get(
        change, subprocess_cases.small()
    )
    with pytest.raises(ValueError, match=r"belongs to another run \(.*\): delete it, or choose another file"):
        pretrain(x, recipe, unet, tmp_path / "c", progress=False)
    assert (tmp_path / "c").read_bytes() == before


# --- pretraining: what it does


def test_the_same_seed_gives_the_same_bits_and_another_does_not(same):
    recipe = Recipe(n_steps=3, batch_size=8)
    one, two = (pretrain(subprocess_cases.images(), recipe, small(), progress=False) for _ in range(2))
    torch.rand(1)  # the global generator plays no part
    other = pretrain(
        subprocess_cases.images(), Recipe(n_steps=3, batch_size=8, random_state=1), small(), progress=False
    )
    assert same(one.unet, two.unet) and one.history["loss"] == two.history["loss"]
    assert not same(one.unet, other.unet)


def test_images_of_any_size_get_a_unet_that_takes_them():
    x = np.random.default_rng(0).uniform(-1, 1, (6, 3, 9, 7)).astype(np.float32)
    trained = pretrain(x, Recipe(n_steps=1, batch_size=4), progress=False)
    assert (trained.unet.config.sample_size, trained.unet.config.in_channels) == (12, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"snr_gamma": 5.0},
        {"augment": 0.1},
        {"beta_schedule": "linear"},
        {"prediction_type": "v_prediction", "snr_gamma": 5.0},
    ],
)
def test_a_change_of_recipe_changes_the_result_and_can_be_resumed(tmp_path, same, change):
    recipe = Recipe(n_steps=4, batch_size=8, warmup_steps=1, **change)
    whole = pretrain(subprocess_cases.images(), recipe, small(), progress=False)
    pretrain(subprocess_cases.images(), recipe, small(), tmp_path / "c", stop_at=2, progress=False)
    resumed = pretrain(subprocess_cases.images(), recipe, small(), tmp_path / "c", progress=False)
    usual = pretrain(
        subprocess_cases.images(), Recipe(n_steps=4, batch_size=8, warmup_steps=1), small(), progress=False
    )
    assert same(whole.unet, resumed.unet) and not same(whole.unet, usual.unet)
    assert whole.scheduler.config.beta_schedule == recipe.beta_schedule


def test_a_warp_of_whole_pixels_is_a_shift_and_every_warp_stays_within_its_bounds(monkeypatch):
    x = torch.randn((2, 1, 8, 8), generator=generator(0))
    monkeypatch.setattr(
        torch, "rand", lambda size, generator, device: torch.tensor([0.5, 0.5, 1.0]).expand(size)
    )  # no turn, both shifts at their most
    assert torch.allclose(P.warped(x, 1 / 8, generator(0))[..., :-1, :-1], x[..., 1:, 1:], atol=1e-5)
    monkeypatch.undo()
    ramp = torch.linspace(-7 / 8, 7 / 8, 8).expand(
        500, 1, 8, 8
    )  # each pixel says where it is, so the image says where it was read
    read = P.warped(ramp, 0.1, generator(0))[:, 0, 3:5, 3:5].mean((1, 2))  # the middle: where the shift alone took it
    assert 0.17 < read.abs().max() <= 0.2 + 1e-5 and read.abs().min() < 0.01


def test_it_learns(digits):
    trained = pretrain(
        digits, Recipe(n_steps=60, batch_size=32, warmup_steps=5, ema_decay=0.9), small(), progress=False
    )
    untrained = loss_by_timestep(small(), new_scheduler(), digits, [300, 700])
    assert (loss_by_timestep(trained.unet, trained.scheduler, digits, [300, 700]) < 0.8 * untrained).all()
    assert not trained.unet.training and trained.history["seconds"] > 0


def test_every_epoch_sees_every_image_once():
    x = torch.arange(10.0).view(10, 1, 1, 1)
    batches = [P._batch(x, Recipe(batch_size=4), step, 1000)[0].flatten().int().tolist() for step in range(5)]
    seen = sum(batches, [])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10)) and seen[:10] != seen[10:]
    big = P._batch(x, Recipe(batch_size=25), 1, 1000)[0].flatten().int().tolist()  # a batch may be longer than an epoch
    assert len(big) == 25 and max(map(big.count, big)) <= 4


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(tmp_path):
    recipe = Recipe(n_steps=8, batch_size=8, learning_rate=1e30, warmup_steps=1)
    with pytest.raises(FloatingPointError, match="denoising loss became (nan|inf) at step"):
        pretrain(subprocess_cases.images(), recipe, small(), tmp_path / "c", checkpoint_every=100, progress=False)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    "kwargs, words",
    [
        (dict(recipe=Recipe(batch_size=0)), ("batch_size", "0")),
        (dict(recipe=Recipe(n_steps=-1)), ("n_steps", "-1")),
        (dict(recipe=Recipe(prediction_type="noise")), ("prediction_type", "noise", "epsilon")),
        (dict(recipe=Recipe(beta_schedule="cosine")), ("beta_schedule", "cosine", "squaredcos_cap_v2")),
        (dict(recipe=Recipe(snr_gamma=-1.0)), ("snr_gamma", "-1")),
        (dict(recipe=Recipe(augment=-1.0)), ("augment", "-1")),
        (dict(recipe=Recipe(random_state=-1)), ("random_state", "-1")),
        (dict(recipe=Recipe(learning_rate=-1.0)), ("learning_rate", "-1")),
        (dict(checkpoint_every=0, checkpoint="c"), ("checkpoint_every", "0")),
        (dict(stop_at=-1), ("stop_at", "-1")),
    ],
)
def test_bad_arguments_of_pretrain_are_named(tmp_path, monkeypatch, kwargs, words):
    monkeypatch.chdir(tmp_path)
    recipe = kwargs.pop("recipe", Recipe(n_steps=2, batch_size=4))
    with pytest.raises(ValueError) as e:
        pretrain(subprocess_cases.images(), recipe, small(), progress=False, **kwargs)
    assert all(w in str(e.value) for w in words), str(e.value)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: n_levels(7), ("image_size", "7", "8 or more")),
        (lambda: n_levels(36), ("image_size", "36", "divisible by")),
        (lambda: n_levels("a"), ("image_size", "'a'")),
        (lambda: new_unet(8, block_out_channels=(8,)), ("block_out_channels", "(8,)", "two or more")),
        (lambda: new_unet(8, block_out_channels=(8, 12)), ("block_out_channels", "(8, 12)", "multiples of 8")),
        (lambda: new_unet(8, in_channels=0), ("in_channels", "0")),
        (lambda: new_scheduler(prediction_type="noise"), ("prediction_type", "noise", "epsilon")),
        (lambda: new_scheduler(0), ("num_train_timesteps", "0")),
        (lambda: generator(-1), ("random_state", "-1")),
        (lambda: make_unet("cifar", "out"), ("name", "cifar", "digits")),
        (lambda: loss_by_timestep(small(), new_scheduler(), subprocess_cases.images(4), [1000]), ("t", "1000", "999")),
        (lambda: loss_by_timestep(small(), new_scheduler(), subprocess_cases.images(4), [-1]), ("t", "-1", "999")),
        (lambda: sample(small(), new_scheduler(), n_steps=0), ("n_steps", "0")),
        (lambda: load_unet(5), ("unet", "5", "digits")),
        (lambda: load_unet(None), ("unet", "None", "digits")),
        (lambda: load_unet(""), ("unet", "''", "digits")),
        (lambda: load_unet("nonsense"), ("unet", "nonsense", "digits", "folder", "owner/name")),
        (lambda: load_unet("a/b/c"), ("unet", "a/b/c", "owner/name")),
        (lambda: load_unet(Path("no") / "folder"), ("unet", "no/folder", "existing folder")),
    ],
)
def test_bad_arguments_are_named(tmp_path, monkeypatch, call, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, TypeError)) as e:
        call()
    assert all(w in str(e.value) for w in words), str(e.value)


def test_the_loss_is_what_it_says():
    unet, scheduler, g = small(), new_scheduler(), torch.Generator().manual_seed(0)
    x0, eps, t = (
        torch.rand(3, 1, 8, 8, generator=g) * 2 - 1,
        torch.randn(3, 1, 8, 8, generator=g),
        torch.tensor([0, 500, 999]),
    )
    a = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    with torch.no_grad():
        by_hand = ((unet(a.sqrt() * x0 + (1 - a).sqrt() * eps, t).sample - eps) ** 2).mean((1, 2, 3))
        assert torch.allclose(denoising_loss(unet, scheduler, x0, t, eps), by_hand)
        v = denoising_loss(unet, new_scheduler(prediction_type="v_prediction"), x0, t, eps)
        assert torch.allclose(
            v,
            ((unet(a.sqrt() * x0 + (1 - a).sqrt() * eps, t).sample - (a.sqrt() * eps - (1 - a).sqrt() * x0)) ** 2).mean(
                (1, 2, 3)
            ),
        )


# --- more than one process


def test_two_processes_give_what_one_gives(tmp_path, same):
    ((alone, facts),) = subprocess_cases.together(subprocess_cases.distributed, 1, tmp_path / "one", 6)
    (first, its), (second, others) = subprocess_cases.together(subprocess_cases.distributed, 2, tmp_path / "two", 6)
    assert same(first, second) and its["loss"] == others["loss"]
    assert np.allclose(its["loss"], facts["loss"], rtol=1e-4)
    assert its["written"] == facts["written"] == [3, 6] and others["written"] == []  # once, by one

    def predicts(weights):
        unet = small()
        unet.load_state_dict(weights)
        with torch.no_grad():
            return unet.eval()(torch.from_numpy(subprocess_cases.images(8)), 300).sample

    start = predicts(subprocess_cases.small().state_dict())
    change = (predicts(alone) - start).abs().max()
    assert change > 0.01 and (predicts(first) - predicts(alone)).abs().max() < 0.02 * change
    # one continues what two began
    shutil.copytree(tmp_path / "two", tmp_path / "mixed")
    ((mixed, m),) = subprocess_cases.together(subprocess_cases.distributed, 1, tmp_path / "mixed", 8)
    ((rest, r),) = subprocess_cases.together(subprocess_cases.distributed, 1, tmp_path / "one", 8)
    assert len(m["loss"]) == 8 and np.allclose(m["loss"], r["loss"], rtol=1e-3)


# --- loading


@pytest.fixture
def folder(tmp_path):
    save_unet(tmp_path / "net", small(), new_scheduler(), {"README.md": "a card", "extra.bin": b"\x00\x01"})
    return tmp_path / "net"


def flattened(folder):
    "The layout of google/ddpm-cifar10-32: the model at the root, the scheduler's settings beside it"
    root = folder.parent / "root-level"
    shutil.copytree(folder / "unet", root)
    shutil.copy(folder / "scheduler" / "scheduler_config.json", root)
    return root


def test_saved_and_loaded(folder, same):
    for where in (folder, str(folder), flattened(folder)):
        unet, scheduler = load_unet(where)
        assert same(unet, small()) and not unet.training and unet.dtype == torch.float32
        assert torch.equal(scheduler.alphas_cumprod, new_scheduler().alphas_cumprod)
    assert (folder / "README.md").read_text() == "a card" and (folder / "extra.bin").read_bytes() == b"\x00\x01"


def test_half_precision_is_loaded_as_float32(tmp_path):
    save_unet(tmp_path / "half", small(), new_scheduler(), half=True)
    unet, _ = load_unet(tmp_path / "half")
    assert {p.dtype for p in unet.parameters()} == {torch.float32}
    assert all(
        torch.equal(a, b.half().float()) for a, b in zip(unet.state_dict().values(), small().state_dict().values())
    )


def test_saving_anew_replaces_everything(folder, same):
    save_unet(folder, small(1), new_scheduler())
    assert same(load_unet(folder)[0], small(1)) and not (folder / "extra.bin").exists()


def test_a_crash_while_saving_leaves_the_old_one(folder, same, monkeypatch):
    def crash(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(U, "write_tensors", crash)
    with pytest.raises(OSError, match="no space"):
        save_unet(folder, small(1), new_scheduler())
    assert same(load_unet(folder)[0], small()) and [p.name for p in folder.parent.iterdir()] == ["net"]


@pytest.mark.parametrize("layout", ["pipeline", "root-level"])
@pytest.mark.parametrize("name", ["config.json", "diffusion_pytorch_model.safetensors", "scheduler_config.json"])
def test_a_missing_file_is_named(folder, layout, name):
    if layout == "root-level":
        folder = flattened(folder)
    next(folder.rglob(name)).unlink()
    with pytest.raises(FileNotFoundError, match=name) as e:
        load_unet(folder)
    assert str(folder) in str(e.value)


def test_an_empty_folder_is_no_unet(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json"):
        load_unet(tmp_path)


WEIGHTS = Path("unet") / "diffusion_pytorch_model.safetensors"


def refused(folder):
    with pytest.raises(ValueError, match="damaged|must hold") as e:
        load_unet(folder)
    assert type(e.value) is ValueError and str(folder) in str(e.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b"",
        lambda b: b[:4],
        lambda b: b[:200],
        lambda b: b[:-1],
        lambda b: b + b"x",
        lambda b: b"\xff" * 8 + b[8:],
        lambda b: b[:8] + b"[" + b[9:],
        lambda b: b[:40] + bytes([b[40] ^ 255]) + b[41:],
        lambda b: b.replace(b"F32", b"Q32", 1),
    ],
)
def test_damaged_weights_are_refused(folder, damage):
    (folder / WEIGHTS).write_bytes(damage((folder / WEIGHTS).read_bytes()))
    refused(folder)


@pytest.mark.parametrize("change", ["shape", "missing", "unexpected", "renamed", "nothing"])
def test_weights_of_something_else_are_refused(folder, change):
    weights = load_file(folder / WEIGHTS)
    name = "conv_in.weight"
    if change == "shape":
        weights[name] = weights[name][:, :, :2].contiguous()
    if change == "missing":
        del weights[name]
    if change == "unexpected":
        weights["surplus"] = torch.zeros(1)
    if change == "renamed":
        weights["module." + name] = weights.pop(name)
    if change == "nothing":
        weights = {}
    save_file(weights, folder / WEIGHTS)
    refused(folder)


NO_SETTINGS = [b"", b"{", b"[]", b'"text"', b"null", b"7", b"\xff\xfe\x00", b"[" * 5000]


@pytest.mark.parametrize(
    "name, content",
    [("unet/config.json", c) for c in [b"{}", *NO_SETTINGS]]
    + [("scheduler/scheduler_config.json", c) for c in NO_SETTINGS],
)
def test_damaged_settings_are_refused(folder, monkeypatch, name, content):
    def no_network(*args):
        raise AssertionError("a text in place of settings was taken for the id of a download")

    monkeypatch.setattr("socket.socket.connect", no_network)
    (folder / name).write_bytes(content)
    refused(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"_class_name": "UNet2DConditionModel"},
        {"_class_name": "AutoencoderKL"},
        {"_class_name": None},
        {"norm_num_groups": 0},
        {"norm_num_groups": 3},
        {"down_block_types": ["Nope", "DownBlock2D"]},
        {"down_block_types": ["DownBlock2D"]},
        {"block_out_channels": []},
        {"block_out_channels": "ab"},
        {"block_out_channels": [8, -8]},
        {"block_out_channels": [10**11, 8]},
        {"act_fn": "nope"},
        {"layers_per_block": None},
        {"in_channels": 3},
        {"layers_per_block": 2},
    ],
    ids=str,
)
def test_wrong_settings_are_refused(folder, change):
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps(config | change))
    refused(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"num_train_timesteps": "many"},
        {"num_train_timesteps": 0},
        {"beta_schedule": "nope"},
        {"prediction_type": "nope"},
    ],
    ids=str,
)
def test_wrong_schedules_are_refused(folder, change):
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config | change))
    refused(folder)


def test_a_text_conditioned_unet_is_refused(tmp_path):
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 8),
        norm_num_groups=8,
        cross_attention_dim=8,
        attention_head_dim=4,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    unet.save_pretrained(tmp_path / "net" / "unet")
    new_scheduler().save_pretrained(tmp_path / "net" / "scheduler")
    with pytest.raises(ValueError, match="must hold a UNet2DModel, got 'UNet2DConditionModel'"):
        load_unet(tmp_path / "net")


@pytest.mark.parametrize("layout", ["pipeline", "root-level"])
def test_a_pickle_is_never_loaded(folder, marker, same, layout):
    data, made = marker
    if layout == "root-level":
        folder = flattened(folder)
    weights = next(folder.rglob("*.safetensors"))
    for name in ("diffusion_pytorch_model.bin", "pytorch_model.bin", "diffusion_pytorch_model.pt", "model.pkl"):
        (weights.parent / name).write_bytes(data)
    assert same(load_unet(folder)[0], small())  # beside good weights
    weights.write_bytes(data)  # in place of them
    with pytest.raises(ValueError, match="damaged"):
        load_unet(folder)
    weights.unlink()  # instead of them
    with pytest.raises(FileNotFoundError, match="safetensors"):
        load_unet(folder)
    assert not made.exists()


# --- from the hub


def test_a_hub_id_is_downloaded(folder, monkeypatch, same):
    root, asked = flattened(folder), []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **kwargs: asked.append((name, kwargs)) or str(root)
    )
    unet, scheduler = load_unet("google/ddpm-cifar10-32")
    assert same(unet, small()) and isinstance(scheduler, diffusers.DDPMScheduler)
    ((name, kwargs),) = asked
    assert name == "google/ddpm-cifar10-32" and kwargs["revision"] == "main"
    assert not any(
        p.endswith((".bin", ".pt", ".pkl", "*")) for p in kwargs["allow_patterns"]
    )  # nothing that could be a pickle is fetched


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/1", "c" * 40])
def test_a_hub_id_names_a_revision_and_the_commit_is_stored_and_logged(
    folder, tmp_path, monkeypatch, caplog, same, revision
):
    commit, asked = "0123456789abcdef" * 2 + "01234567", []
    snapshot = flattened(folder).rename(tmp_path / commit)  # as the hub's cache has it
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda name, **kwargs: asked.append((name, kwargs["revision"])) or str(snapshot),
    )
    with caplog.at_level("INFO", "diec"):
        unet, scheduler = load_unet(f"owner/name@{revision}")
    assert asked == [("owner/name", revision)] and same(unet, small()) and commit in caplog.text
    save_unet(tmp_path / "saved", unet, scheduler)
    assert f"owner/name@{commit}" in (tmp_path / "saved" / "unet" / "config.json").read_text()
    assert same(load_unet(tmp_path / "saved")[0], small())


@pytest.mark.parametrize("name", ["owner/name@", "owner@main/name/x"])
def test_a_hub_id_without_its_revision_is_refused(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("a download was tried"))
    with pytest.raises(ValueError, match="owner/name"):
        load_unet(name)


@pytest.mark.parametrize("error", [OSError("offline"), ConnectionError("refused"), ValueError("bad id"), KeyError("x")])
def test_a_failed_download_names_the_id(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(OSError, match="google/ddpm-cifar10-32") as e:
        load_unet("google/ddpm-cifar10-32")
    assert e.value.__cause__ is error


def test_offline_for_real():
    with pytest.raises(OSError, match="nobody/nothing-at-all"):
        load_unet("nobody/nothing-at-all")


def test_no_download_for_what_is_here(folder, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    monkeypatch.chdir(folder.parent.parent)
    load_unet("digits")
    load_unet(f"{folder.parent.name}/{folder.name}")  # looks like an id, but is a folder
    with pytest.raises(ValueError):
        load_unet("nonsense")


# --- the ones that come with the package

load_once = functools.cache(load_dataset)
SAMPLE = Path(__file__).parents[1] / "samples" / "fashion-mnist"  # drawn by tools/sample.py


def some_images(name, n):  # of Fashion-MNIST the repository holds a sample, others come inside Python packages
    if name == "fashion-mnist":
        images = read_idx(SAMPLE / "images-idx3-ubyte.gz")
    elif dataset_available(name):
        images = load_once(name).images
    elif name == "mnist":
        images = load_once("mnist-5k").images
    else:
        pytest.skip(f"{name} is not on this machine")
    return U.as_images(images[:: len(images) // n][:n])


def facts(
    name,
):  # number and side of the images that a U-Net was pretrained on, whether they are on this machine or not
    if known := D._KNOWN.get(name):
        return known.count, known.shape[-1]
    return len(load_once(name)), load_once(name).images.shape[-1]


SHIPPED_FOLDERS = [names._SHIPPED / name for name in unet_names()]
shipped = pytest.mark.parametrize("folder", SHIPPED_FOLDERS, ids=lambda f: f.name)


def test_digits_is_shipped():
    assert "digits" in unet_names()


def training_runs(folder):  # the recipe, card and history of each run that made a U-Net, the first one first
    card, history = (folder / "README.md").read_text(), json.loads((folder / "history.json").read_text())
    first = Recipe() if folder.name in ("digits", "mnist-5k") else UNTIL_RIPE
    if "before" not in history:
        return [(first, card, history)]
    last, before = card.split("## The U-Net before this run")
    return [(first, before, history["before"]), (COOLDOWN, last, history)]


@shipped
def test_shipped_card_states_data_recipe_seed_time_and_loss(folder):
    card, (n, side) = (folder / "README.md").read_text(), facts(folder.name)
    size = U.unet_size(side)
    assert f"*{folder.name}*" in card and f"{n:,} images" in card and re.search(r"checksum .*`[0-9a-f]{64}`", card)
    assert f"x {size} x {size}" in card and torch.__version__.split(".")[0] in card
    assert f"{load_unet(folder)[0].num_parameters():,}" in card
    for recipe, card, history in training_runs(folder):
        for field, value in asdict(recipe).items():
            if recipe != Recipe() or field not in ("schedule", "early_stopping", "n_clusters"):  # newer than the others
                assert f"{field} {value}" in card
        assert max(history["step"]) > 0.9 * min(recipe.n_steps, 14_000)
        assert len(history["loss"]) == len(history["step"]) and history["seconds"] > 0
        assert f"in {history['seconds'] / 60:.0f} minutes on " in card
        losses = re.search(r"first 100 steps: ([\d.]+\d); of the last 100: ([\d.]+\d)", card).groups()
        begin, end = map(float, losses)
        assert end < 0.3 * begin or recipe == COOLDOWN
        assert abs(end - np.mean(history["loss"][-10:])) < 0.05


@shipped
def test_shipped_weights_are_those_that_measured_best(folder):
    _, card, history = training_runs(folder)[0]
    if "information" not in history or not history["information"]:
        pytest.skip("pretrained for a fixed number of steps")
    best = history["measured"][int(np.argmax(history["information"]))]
    assert f"The weights are those of step {best}," in card
    curve = json.loads((folder / "curve.json").read_text())
    assert curve["step"] == best and curve["images"] == facts(folder.name)[0]
    assert [curve["curve"][str(step)]["information"] for step in history["measured"]] == history["information"]
    assert ("cooldown" in curve) == (len(training_runs(folder)) == 2)


@shipped
def test_shipped_card_states_source_and_checksum_of_its_data(folder):
    if not dataset_available(folder.name):
        pytest.skip(f"{folder.name} is not on this machine; Debian has it as dataset-{folder.name}")
    card, data = (folder / "README.md").read_text(), load_once(folder.name)
    assert data.checksum in card
    assert data.source in card or "DIEC_DATA" in card or "OpenML" in data.source


@shipped
def test_shipped_files(folder):
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert names == {
        ".diec.json",
        "README.md",
        "history.json",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        f"unet/{WEIGHTS.name}",
    } | ({"curve.json"} & names)
    check_replaceable(folder)  # the list fits, so `make unet-NAME` may write it again
    assert (folder / WEIGHTS).stat().st_size <= 6e6


@shipped
def test_shipped_is_a_diffusers_pipeline(folder, same):
    pipe = DDPMPipeline.from_pretrained(folder, local_files_only=True, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    unet, scheduler = load_unet(folder.name)
    assert (
        same(pipe.unet, unet)
        and scheduler.config.num_train_timesteps == pipe.scheduler.config.num_train_timesteps == 1000
    )
    assert torch.equal(pipe.scheduler.alphas_cumprod, scheduler.alphas_cumprod)
    size = unet.config.sample_size
    assert pipe(batch_size=1, num_inference_steps=2, output_type="np").images.shape[1:3] == (size, size)


@shipped
def test_shipped_denoises_as_its_card_says(folder):
    unet, scheduler = load_unet(folder.name)
    card = (folder / "README.md").read_text()
    images = P.fit_to(some_images(folder.name, 24), unet.config.sample_size, unet.config.in_channels)
    measured = loss_by_timestep(
        unet, scheduler, images, np.arange(42, 1000, 83)
    ).mean()  # the middles of twelve equal parts
    stated = float(card.split("of the last 100: ")[1].split(".\n")[0].split(". ")[0])
    assert 0.5 * stated < measured < 2 * stated


def test_make_unet_writes_what_is_shipped(tmp_path, same):
    trained = make_unet("digits", tmp_path / "out", tmp_path / "c", Recipe(n_steps=2))
    unet, _ = load_unet(tmp_path / "out")
    assert all(
        torch.allclose(a, b, rtol=1e-3, atol=1e-6)
        for a, b in zip(unet.state_dict().values(), trained.unet.state_dict().values())
    )
    test_shipped_files(tmp_path / "out")
    assert "n_steps 2," in (tmp_path / "out" / "README.md").read_text()


def test_sampling_is_deterministic_and_bounded(digits_unet):
    one, two, other = (sample(*digits_unet, n=2, n_steps=3, random_state=r) for r in (0, 0, 1))
    assert one.shape == (2, 1, 8, 8) and torch.equal(one, two) and not torch.equal(one, other)
    assert one.abs().max() <= 1


@pytest.mark.parametrize(
    "file, change",
    [
        ("unet/config.json", {"block_out_channels": [10**9, 10**9]}),
        ("unet/config.json", {"layers_per_block": 10**6}),
        ("unet/config.json", {"block_out_channels": [8] * 10**5}),
        ("unet/config.json", {"block_out_channels": [16, 16]}),
        ("unet/config.json", {"norm_eps": float("nan")}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}),
        ("scheduler/scheduler_config.json", {"trained_betas": [0.1] * 10**6}),
    ],
    ids=lambda v: str(v)[:40],
)
def test_settings_out_of_proportion_are_refused_at_once(folder, file, change):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    start = time.perf_counter()
    with pytest.raises(ValueError, match="damaged|asks for too much"):
        load_unet(folder)
    assert time.perf_counter() - start < 5


def test_a_checkpoint_beyond_the_step_to_stop_at_is_refused(digits, tmp_path, tiny):
    "Else what is looked at would be of a later step than it is said to be"
    few = Recipe(n_steps=4, batch_size=8, warmup_steps=1)
    pretrain(digits[:16], few, tiny()[0], tmp_path / "c", stop_at=3, progress=False)
    with pytest.raises(ValueError, match="stop_at must not lie before the checkpoint .* at step 3, got 2"):
        pretrain(digits[:16], few, tiny()[0], tmp_path / "c", stop_at=2, progress=False)
    assert len(pretrain(digits[:16], few, tiny()[0], tmp_path / "c", stop_at=3, progress=False).history["step"]) == 3


def test_a_loss_that_climbs_is_noticed(tmp_path, monkeypatch):
    import diec.app.pretrain

    losses = iter([*np.linspace(1, 0.1, 200), *np.linspace(0.1, 9, 400)])

    def climbing(run, scheduler, images):
        run.step += 1
        return float(next(losses))

    monkeypatch.setattr(diec.app.pretrain, "_train_step", climbing)
    with pytest.raises(FloatingPointError, match="the denoising loss grows"):
        pretrain(
            subprocess_cases.images(),
            Recipe(n_steps=600, batch_size=8),
            subprocess_cases.small(),
            tmp_path / "checkpoint",
            checkpoint_every=100,
            progress=False,
        )
    from diec.core.checkpoint import load_state

    assert load_state(tmp_path / "checkpoint")["step"] >= 200  # the last good state


@pytest.mark.parametrize(
    "shape, names",
    [
        ((1, 8, 8), ["digits"]),
        ((1, 5, 3), ["digits"]),
        ((1, 16, 9), ["usps"]),
        ((1, 20, 20), ["fashion-mnist", "mnist", "mnist-5k"]),
        ((1, 500, 300), ["fashion-mnist", "mnist", "mnist-5k"]),
        ((3, 500, 300), ["cifar10"]),
    ],
)
def test_the_unets_that_come_into_question(shape, names):
    assert U._candidates(shape[0], max(shape[1:])) == names


def test_the_unet_that_denoises_best_is_chosen():
    from diec.data.datasets import load_dataset
    from diec.data.formats import read_idx

    fashion = read_idx("tests/samples/fashion-mnist/images-idx3-ubyte.gz")
    assert U.choose_unet(fashion) == "fashion-mnist"
    assert U.choose_unet(load_dataset("digits").images) == "digits"
    for channels in (2, 4):
        with pytest.raises(ValueError, match=f"unet must be given for images of {channels} channels"):
            U.choose_unet(np.zeros((4, channels, 8, 8), np.uint8))
