"Models from strangers: whatever a folder says, one line names file and key, within seconds and in little memory."

import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import subprocess_cases
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import diec.unet as U
from diec.app.cli import main, write_labels
from diec.core.compat import diffusers
from diec.estimator import DiEC
from diec.features import Extractor
from diec.trainer import TrainingConfig
from diec.unet import forward_cost, load_unet, new_scheduler, new_unet

SECONDS, BYTES = 10, 10**9  # of the processor and of memory, at most

CONFIG, MODEL, NET, NOISE, WEIGHTS = (
    "config.json",
    "model.safetensors",
    "unet/unet/config.json",
    "unet/scheduler/scheduler_config.json",
    "unet/unet/diffusion_pytorch_model.safetensors",
)


@pytest.fixture(scope="module")
def good(digits, tmp_path_factory):
    "A small model as `save_pretrained` writes it, and images to predict"
    place = tmp_path_factory.mktemp("good")
    unet = new_unet(8, block_out_channels=(8, 16, 16)).eval(), new_scheduler()
    DiEC(
        3,
        unet,
        layer="mid_block+up_blocks.0",
        search_size=40,
        n_draws=2,
        training_config=TrainingConfig(head_epochs=2),
        random_state=0,
        device="cpu",
    ).fit(digits[:60]).save_pretrained(place / "model")
    (place / "images").mkdir()
    for i, x in enumerate(digits[:6]):
        Image.fromarray(np.round((x[0] + 1) * 127.5).astype(np.uint8)).save(place / "images" / f"{i}.png")
    return place


# --- how a folder is altered


def settings(file, *path, **change):
    "Change keys of a JSON file; `path` leads to the object"

    def alter(folder):
        content = json.loads((folder / file).read_text())
        node = content
        for key in path:
            node = node[key]
        node.update({k: v(node[k]) if callable(v) else v for k, v in change.items()})
        (folder / file).write_text(json.dumps(content))

    return alter


def without(file, *path):
    def alter(folder):
        content = json.loads((folder / file).read_text())
        node = content
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]
        (folder / file).write_text(json.dumps(content))

    return alter


def tensor(file, name, change):
    "Change one tensor, or add one; None: take it out"

    def alter(folder):
        tensors = load_file(folder / file)
        made = change(tensors.get(name))
        tensors = {k: v.clone() for k, v in tensors.items() if k != name} | (
            {} if made is None else {name: made.contiguous()}
        )
        save_file(tensors, folder / file)

    return alter


def filled(value):
    return lambda v: torch.full_like(v, value)


def everywhere(file, value, only=""):
    def alter(folder):
        save_file(
            {
                k: torch.full_like(v, value) if k.startswith(only) else v.clone()
                for k, v in load_file(folder / file).items()
            },
            folder / file,
        )

    return alter


def large(file, size=3 * 10**9):
    "A file that says it is large; it takes no room on the disk"

    def alter(folder):
        os.truncate(folder / file, size)

    return alter


def sparse_tensors(path, shapes, dtype="F32"):
    "A consistent safetensors file full of zeros, which takes no room on the disk"
    width, header, end = {"F16": 2, "F32": 4, "I64": 8}, {}, 0
    for name, shape in shapes.items():
        kind = "I64" if name == "labels" else dtype
        start, end = end, end + width[kind] * math.prod(shape)
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + end)


def stretched(**shapes):
    "The model's tensors, of other shapes"

    def alter(folder):
        now = {k: tuple(v.shape) for k, v in load_file(folder / MODEL).items()}
        sparse_tensors(folder / MODEL, now | {k.replace("_", "."): v for k, v in shapes.items()})

    return alter


def network(dtype="F32", rename=lambda k: k, **config):
    "A consistent U-Net with other settings"

    def alter(folder):
        settings(NET, **config)(folder)
        with torch.device("meta"):
            unet = diffusers.UNet2DModel.from_config(json.loads((folder / NET).read_text()))
        sparse_tensors(folder / WEIGHTS, {rename(k): tuple(v.shape) for k, v in unet.state_dict().items()}, dtype)

    return alter


def levels(n, channels=8, **config):
    return (
        dict(block_out_channels=[channels] * n, down_block_types=["DownBlock2D"] * n, up_block_types=["UpBlock2D"] * n)
        | config
    )


def long_header(file):
    def alter(folder):
        (folder / file).write_bytes(struct.pack("<Q", 2 * 10**9) + b"{")
        os.truncate(folder / file, 3 * 10**9)

    return alter


def linked(name, target=None):
    "A file or folder that is a link out of the model's folder"

    def alter(folder):
        away = target or folder.parent / "private"
        if target is None:
            os.rename(folder / name, away)
        else:
            (folder / name).unlink()
        (folder / name).symlink_to(away)

    return alter


def pipe(name):
    def alter(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return alter


def both(*alterations):
    def alter(folder):
        for a in alterations:
            a(folder)

    return alter


net, noise, params, history = (
    (lambda **k: settings(NET, **k)),
    (lambda **k: settings(NOISE, **k)),
    (lambda **k: settings(CONFIG, "params", **k)),
    (lambda **k: settings(CONFIG, "history", **k)),
)

CASES = {  # what: (how, words of the message)
    # values that are out of proportion
    "centers of 1e300": (
        tensor(MODEL, "centers", lambda v: v.double() * 1e300),
        (MODEL, "centers must be of type F32, got F64"),
    ),
    "centers of 3e38": (tensor(MODEL, "centers", filled(3e38)), (MODEL, "centers must be finite", "3e+38")),
    "a center of NaN": (
        tensor(MODEL, "centers", lambda v: torch.where(torch.arange(v.numel()).view_as(v) == 1, torch.nan, v)),
        (MODEL, "centers must be finite", "nan"),
    ),
    "head of 1e38": (tensor(MODEL, "head.g.0.weight", filled(1e38)), (MODEL, "head.g.0.weight must be finite")),
    "scale of 3e38": (tensor(MODEL, "scale", filled(3e38)), (MODEL, "scale must be finite")),
    "scale of 0": (tensor(MODEL, "scale", filled(0)), (MODEL, "scale must be finite")),
    "components of 5": (tensor(MODEL, "space.components", filled(5)), (MODEL, "space.components must be finite")),
    "norm_eps -1": (net(norm_eps=-1), (NET, "norm_eps must be a number in 1e-12..1, got -1")),
    "norm_eps NaN": (net(norm_eps=math.nan), (NET, "norm_eps must be", "got nan")),
    "weights of 1e38": (tensor(WEIGHTS, "conv_in.weight", filled(1e38)), (WEIGHTS, "conv_in.weight must be finite")),
    "weights of infinity": (
        tensor(WEIGHTS, "conv_in.bias", filled(math.inf)),
        (WEIGHTS, "conv_in.bias must be finite"),
    ),
    "weights of integers": (
        tensor(WEIGHTS, "conv_in.bias", lambda v: v.long()),
        (WEIGHTS, "conv_in.bias must be of type F32 or F16 or BF16, got I64"),
    ),
    # sizes
    "64 levels": (net(**levels(64)), (NET, "block_out_channels must be a list of 1 to 10 entries")),
    "64 channels lists": (
        net(block_out_channels=[8] * 64),
        (NET, "block_out_channels must be a list of 1 to 10 entries"),
    ),
    "a million layers": (
        net(layers_per_block=10**6),
        (NET, "layers_per_block must be an integer in 1..16, got 1000000"),
    ),
    "channels of 10^11": (net(block_out_channels=[8, 16, 10**11]), (NET, "block_out_channels must be")),
    "images of 1024": (
        network(**levels(3, 32, sample_size=1024)),
        (NET, "sample_size", "at most 512 MiB of activations an image"),
    ),
    "images of 1024 and few channels": (
        net(sample_size=1024),
        (MODEL, "space.mean must have the length 512, got 320", NET),
    ),
    "512 channels, 54 MB": (
        network("F16", **levels(1, 512, mid_block_type=None, sample_size=512)),
        (NET, "block_out_channels", "at most 512 MiB of activations an image"),
    ),
    "a sea of operations": (
        network(**levels(1, 288, layers_per_block=16, sample_size=128)),
        (NET, "layers_per_block", "at most 2,000 GFLOP an image"),
    ),
    "too many parameters": (network(**levels(3, 1024)), (NET, "block_out_channels", "at most 134,217,728 parameters")),
    "config.json of 3 GB": (large(CONFIG), (CONFIG, "at most 4,194,304 bytes, got 3,000,000,000")),
    "unet/config.json of 3 GB": (large(NET), (NET, "at most 4,194,304 bytes")),
    "scheduler_config.json of 3 GB": (large(NOISE), (NOISE, "at most 4,194,304 bytes")),
    "a header of 2 GB": (long_header(MODEL), (MODEL, "header must have at most 1,048,576 bytes")),
    "weights with a header of 2 GB": (long_header(WEIGHTS), (WEIGHTS, "header must have at most 1,048,576 bytes")),
    "weights cut short": (large(WEIGHTS, 3000), (WEIGHTS, "must be complete safetensors")),
    "labels of 10^9 images": (stretched(labels=(10**9,)), (MODEL, "labels must have N in 1..33,554,432")),
    "a million centers": (stretched(centers=(10**6, 40)), (MODEL, "centers must have")),
    "components of another length": (
        stretched(space_components=(40, 10**6)),
        (MODEL, "space.components must have the shape"),
    ),
    "no images": (stretched(labels=(0,)), (MODEL, "labels must have N in 1..")),
    "n_draws 1000": (
        params(n_draws=1000),
        (CONFIG, "params.n_draws must be an integer in 1..64 or one of 'auto', got 1000"),
    ),
    "batch_size 10^9": (params(batch_size=10**9), (CONFIG, "params.batch_size must be")),
    "search_size 10^12": (params(search_size=10**12), (CONFIG, "params.search_size must be")),
    "nested without end": (lambda folder: (folder / CONFIG).write_text("[" * 10**6), (CONFIG, "must be JSON")),
    # files that are not in the folder, or not files
    **{
        f"{name} is a link": (
            linked(name),
            (name if name.endswith(("json", "safetensors")) else "config.json", "a link that leads out of it"),
        )
        for name in (CONFIG, MODEL, NET, NOISE, WEIGHTS, "unet", "unet/unet", "unet/scheduler")
    },
    "weights link to a device": (linked(WEIGHTS, "/dev/zero"), (WEIGHTS, "a link that leads out of it")),
    "config.json is a pipe": (pipe(CONFIG), (CONFIG, "must be a regular file")),
    "weights are a pipe": (pipe(WEIGHTS), (WEIGHTS, "must be a regular file")),
    # settings of the wrong type, or that do not fit together
    **{
        f"sample_size {value!r}": (net(sample_size=value), (NET, "sample_size must be"))
        for value in (None, -8, 0, "8", True, 8.0, [8], [8, "8"], 10, 10**9)
    },
    "no sample_size": (without(NET, "sample_size"), (NET, "sample_size is required, but missing")),
    "betas too few": (
        noise(trained_betas=[0.1] * 7),
        (NOISE, "trained_betas must have as many entries as num_train_timesteps, 1000, got 7"),
    ),
    "betas too many": (noise(trained_betas=[0.1] * 1001), (NOISE, "trained_betas must have as many")),
    "betas of text": (noise(trained_betas=["x"] * 1000), (NOISE, "trained_betas must be")),
    "betas of 2": (noise(trained_betas=[2] * 1000), (NOISE, "trained_betas must be")),
    "beta_start 50000": (noise(beta_schedule="linear", beta_start=50_000), (NOISE, "beta_start must be")),
    "beta_end -1": (noise(beta_schedule="linear", beta_end=-1), (NOISE, "beta_end must be")),
    "beta_schedule": (noise(beta_schedule="nope"), (NOISE, "beta_schedule must be one of")),
    "T of 500": (
        noise(num_train_timesteps=500),
        (CONFIG, "num_train_timesteps must be that of", NOISE, "500, got 1000"),
    ),
    "T of 2000": (noise(num_train_timesteps=2000), (CONFIG, "num_train_timesteps must be that of", "2000, got 1000")),
    "T below t, in an old model": (
        both(without(CONFIG, "num_train_timesteps"), settings(CONFIG, timestep=900), noise(num_train_timesteps=500)),
        (CONFIG, "timestep must be less than num_train_timesteps"),
    ),
    "T of text": (noise(num_train_timesteps="many"), (NOISE, "num_train_timesteps must be")),
    "T of both": (settings(CONFIG, num_train_timesteps="1000"), (CONFIG, "num_train_timesteps must be")),
    "labels of float": (tensor(MODEL, "labels", lambda v: v.float()), (MODEL, "labels must be of type I64, got F32")),
    "labels in two dimensions": (
        tensor(MODEL, "labels", lambda v: v[:, None]),
        (MODEL, "labels must have the shape (N), got (60, 1)"),
    ),
    "labels a scalar": (tensor(MODEL, "labels", lambda v: v[0]), (MODEL, "labels must have the shape (N), got ()")),
    "labels negative": (tensor(MODEL, "labels", lambda v: v - 2), (MODEL, "labels must be finite and in 0..")),
    "labels beyond K": (tensor(MODEL, "labels", lambda v: v + 2), (MODEL, "labels must lie in 0..2")),
    "no labels": (tensor(MODEL, "labels", lambda v: None), (MODEL, "'labels' is required, but missing")),
    "a surplus tensor": (
        tensor(MODEL, "surplus\nline", lambda v: torch.zeros(2)),
        (MODEL, "'surplus\\nline' is a tensor that does not belong there"),
    ),
    "two surplus tensors": (
        both(tensor(MODEL, "a", lambda v: torch.zeros(2)), tensor(MODEL, "b", lambda v: torch.zeros(2))),
        (MODEL, "'a' is a tensor"),
    ),
    "a surplus weight": (
        tensor(WEIGHTS, "surplus", lambda v: torch.zeros(2)),
        (WEIGHTS, "'surplus' is a tensor that does not belong there"),
    ),
    "a missing weight": (
        tensor(WEIGHTS, "conv_in.bias", lambda v: None),
        (WEIGHTS, "'conv_in.bias' is required, but missing"),
    ),
    "half a head": (
        tensor(MODEL, "head.g.2.bias", lambda v: None),
        (MODEL, "'head.g.2.bias' is required, but missing"),
    ),
    "one cluster less": (
        params(n_clusters=2),
        (CONFIG, "params.n_clusters must be the number of rows of centers", "3, got 2"),
    ),
    "history a list": (settings(CONFIG, history=[1]), (CONFIG, "history must be a JSON object")),
    "history empty": (settings(CONFIG, history={}), (CONFIG, "history.stage is required, but missing")),
    "history of numbers": (history(stage=[1, 2]), (CONFIG, "history.stage must be a list")),
    "history of text": (history(kl=["x", "y"]), (CONFIG, "history.kl must be a list")),
    "history without a list": (history(epoch=7), (CONFIG, "history.epoch must be a list")),
    "history of two lengths": (history(epoch=[1]), (CONFIG, "history.stage must have as many entries as epoch, 1")),
    "search of text": (settings(CONFIG, search_result="x"), (CONFIG, "search_result must be null or a JSON object")),
    "an evaluation of text": (
        settings(CONFIG, "search_result", evaluations=lambda v: [*v[:1], v[0] | {"t": "x"}]),
        (CONFIG, "search_result.evaluations[1].t must be"),
    ),
    "seed": (settings(CONFIG, seed=-1), (CONFIG, "seed must be")),
    "layer": (settings(CONFIG, layer="nope"), (CONFIG, "layer must be one of", "'nope'")),
    "layer of params": (params(layer="nope"), (CONFIG, "params.layer must be one of", "'nope'")),
    "t": (settings(CONFIG, timestep=1000), (CONFIG, "timestep must be less than num_train_timesteps, 1000, got 1000")),
    "format": (settings(CONFIG, format="diec-model-9"), (CONFIG, "format must be", "got 'diec-model-9'")),
    "a key that nobody knows": (params(nonsense=1), (CONFIG, "params.nonsense")),
    "training_config": (
        settings(CONFIG, "params", "training_config", patience=0),
        (CONFIG, "params.training_config.patience must be"),
    ),
    "loss_weights": (params(loss_weights={"nonsense": 1}), (CONFIG, "params.loss_weights.nonsense")),
    "norm_num_groups": (
        net(norm_num_groups=3),
        (NET, "norm_num_groups must divide each of block_out_channels, got 3 for 8"),
    ),
    "fewer blocks": (
        net(down_block_types=["DownBlock2D"]),
        (NET, "down_block_types must have as many entries as block_out_channels, 3, got 1"),
    ),
    "a block of another kind": (net(down_block_types=["CrossAttnDownBlock2D"] * 3), (NET, "down_block_types must be")),
    "class labels": (net(num_class_embeds=10), (WEIGHTS, "'class_embedding.weight' is required, but missing")),
    "act_fn": (net(act_fn="nope"), (NET, "act_fn must be one of")),
    "heads wider than channels": (
        net(down_block_types=["AttnDownBlock2D"] * 3, attention_head_dim=4096),
        (NET, "attention_head_dim must be at most the channels"),
    ),
    "settings a list": (lambda folder: (folder / NET).write_text("[]"), (NET, "must be a JSON object, got []")),
    "another class": (
        net(_class_name="UNet3DConditionModel"),
        (NET, "must hold a UNet2DModel, got 'UNet3DConditionModel'"),
    ),
    "a long name": (net(act_fn="x" * 10**6), (NET, "act_fn must be", "1,000,002 characters")),
}

# what loads and is then found to be out of proportion
COMPUTED = {
    "weights of 9e5": (everywhere(WEIGHTS, 9e5), ("the U-Net's activations at", "are not finite")),
    "head of 1e6": (everywhere(MODEL, 1e6, "head."), ("of 6 images is not finite", "head")),
}

PREDICTED = (
    "centers of 1e300",
    "centers of 3e38",
    "head of 1e38",
    "scale of 3e38",
    "norm_eps -1",
    "64 levels",
    "images of 1024",
    "512 channels, 54 MB",
    "config.json of 3 GB",
    "n_draws 1000",
    f"{WEIGHTS} is a link",
    "betas too few",
    "labels of float",
    "history of numbers",
    "sample_size None",
    "a surplus tensor",
    "T of 500",
)


# --- the command in processes of their own, and what each took


def _alone(argv, place):
    "The command in a fork of this process, which has imported all; its exit status, seconds of the processor, peak of memory and output"
    pid = os.fork()
    if pid == 0:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        signal.alarm(120)  # a hang is a failure, not a wait
        status = 1
        try:
            main(argv)
            status = 0
        except SystemExit as e:
            status = e.code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return _outcome(pid, place)


def _program(argv, place):
    "The same for a program from its start; the peak of a process counts what forked it, which is small here, too"
    with open(place / "out", "wb") as out, open(place / "err", "wb") as err:
        child = subprocess.Popen([sys.executable, *argv], stdout=out, stderr=err)
    child.returncode = 0  # it is waited for here
    return _outcome(child.pid, place)


def _outcome(pid, place):
    _, status, used = os.wait4(pid, 0)
    return [
        os.waitstatus_to_exitcode(status),
        used.ru_utime + used.ru_stime,
        used.ru_maxrss * 1024,
        (place / "out").read_text(),
        (place / "err").read_text(),
    ]


def _commands(jobs, how, file):
    "Runs in one child: a command after the other"
    sys.stdout.flush()
    sys.stderr.flush()
    file.write_text(json.dumps({name: how(argv, place) for name, argv, place in jobs}))


def run(jobs, folder, how=_alone):
    "What came of commands: name -> status, seconds, bytes, output, errors"
    jobs = [(name, [str(w) for w in words], place) for name, words, place in jobs]
    assert subprocess_cases.finish(_commands, jobs, how, folder / "found.json", timeout=1200) == 0
    return json.loads((folder / "found.json").read_text())


def altered(good, place, alter):
    shutil.copytree(good / "model", place / "model")
    alter(place / "model")
    return place / "model"


def predict(good, place, model):
    return "predict", model, good / "images", "--out", place / "labels.csv", "--quiet"


@pytest.fixture(scope="module")
def found(good, tmp_path_factory):
    "All commands, each on a folder of its own"
    jobs = []
    for verb, cases in (("info", CASES), ("predict", {k: CASES[k] for k in PREDICTED} | COMPUTED)):
        for case, (alter, _) in cases.items():
            place = tmp_path_factory.mktemp("case")
            model = altered(good, place, alter)
            jobs.append((f"{verb}: {case}", ("info", model) if verb == "info" else predict(good, place, model), place))
    made = run(jobs, tmp_path_factory.mktemp("found"))
    return {name: (place, made[name]) for name, _, place in jobs}


def within_bounds(outcome):
    status, seconds, peak, out, err = outcome
    assert seconds < SECONDS and peak < BYTES, f"{seconds:.1f} s, {peak / 1e6:.0f} MB"
    return status, out, err


def refused(outcome, *words):
    status, out, err = within_bounds(outcome)
    assert status == 2 and out == "" and err.startswith("diec: ") and err.count("\n") == 1 and err.endswith("\n"), err
    assert all(w in err for w in words), err


@pytest.mark.parametrize("case", CASES)
def test_refused(found, case):
    place, outcome = found[f"info: {case}"]
    refused(outcome, str(place / "model"), *CASES[case][1])


@pytest.mark.parametrize("case", [*PREDICTED, *COMPUTED])
def test_refused_by_predict(found, case):
    place, outcome = found[f"predict: {case}"]
    refused(outcome, *(CASES | COMPUTED)[case][1])
    assert not (place / "labels.csv").exists()


def test_refused_by_the_program_from_its_start(good, tmp_path):
    alter, words = CASES["512 channels, 54 MB"]
    jobs = [
        ("import", ("-c", "import diec.app.cli, diec.estimator"), tmp_path),
        ("info", ("-m", "diec.app.cli", "info", altered(good, tmp_path, alter)), tmp_path),
    ]
    made = run(jobs, tmp_path, _program)
    status, seconds, *rest = made["info"]
    refused(
        [status, seconds - made["import"][1], *rest], *words
    )  # importing torch and diffusers takes a busy machine ten seconds by itself


# --- what must be accepted


def test_an_honest_model_is_accepted_within_the_same_bounds(good, tmp_path):
    made = run(
        [("info", ("info", good / "model"), tmp_path), ("predict", predict(good, tmp_path, good / "model"), tmp_path)],
        tmp_path,
    )
    status, out, _ = within_bounds(made["info"])
    assert status == 0 and "60" in out
    status, out, _ = within_bounds(made["predict"])
    assert status == 0 and "nan" not in out and len((tmp_path / "labels.csv").read_text().splitlines()) == 7


@pytest.mark.parametrize(
    "alter",
    [
        without(CONFIG, "num_train_timesteps"),
        net(written_by="a later version", more=[1, None]),
        noise(trained_betas=[0.01] * 1000),
        noise(tensor_format="pt"),
        without(NET, "upsample_type"),
        params(device="cuda:7", checkpoint="/elsewhere"),
    ],
    ids=[
        "saved before T was recorded",
        "a later diffusers",
        "trained betas",
        "an earlier diffusers",
        "a key left out",
        "another machine",
    ],
)
def test_accepted(good, tmp_path, alter):
    assert DiEC.from_pretrained(altered(good, tmp_path, alter)).n_clusters_ == 3


def test_a_link_within_the_folder_is_followed(good, tmp_path):
    model = altered(good, tmp_path, lambda folder: os.rename(folder / WEIGHTS, folder / "weights"))
    (model / WEIGHTS).symlink_to(Path("..") / ".." / "weights")
    assert DiEC.from_pretrained(model).n_clusters_ == 3


def test_what_can_be_loaded_can_be_fitted_and_the_other_way_round(digits):
    for name, value in (("n_draws", 65), ("batch_size", 10**6), ("search_size", 10**10)):
        with pytest.raises(ValueError, match=f"{name} must be an integer in .*, got {value}"):
            DiEC(3, **{name: value}).fit(digits)


HUB = dict(
    in_channels=3,
    out_channels=3,
    layers_per_block=2,
    downsample_padding=0,
    flip_sin_to_cos=False,
    freq_shift=1,
    norm_eps=1e-6,
    norm_num_groups=32,
    attention_head_dim=None,
    add_attention=True,
)
KNOWN = {
    "google/ddpm-cifar10-32": dict(
        sample_size=32,
        block_out_channels=[128, 256, 256, 256],
        down_block_types=["DownBlock2D", "AttnDownBlock2D"] + ["DownBlock2D"] * 2,
        up_block_types=["UpBlock2D"] * 2 + ["AttnUpBlock2D", "UpBlock2D"],
        **HUB,
    ),
    "google/ddpm-celebahq-256": dict(
        sample_size=256,
        block_out_channels=[128, 128, 256, 256, 512, 512],
        down_block_types=["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "AttnUpBlock2D"] + ["UpBlock2D"] * 4,
        **HUB,
    ),
}


def old_name(name):
    "What attention's weights were called when these were put on the hub"
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        name = name.replace(f".{new}.", f".{old}.")
    return name


@pytest.mark.parametrize(
    "name, parameters", [("google/ddpm-cifar10-32", 35_746_307), ("google/ddpm-celebahq-256", 113_673_219)]
)
@pytest.mark.parametrize("rename", [old_name, lambda name: name], ids=["old names", "new names"])
def test_the_unets_of_the_hub_are_within_the_bounds(good, tmp_path, name, parameters, rename):
    model = altered(good, tmp_path, network(rename=rename, **KNOWN[name]))
    design = U.read_unet_design(model / "unet")
    cost = forward_cost(design.unet.config)
    assert design.unet.num_parameters() == parameters and cost.n_bytes < U.ACTIVATION_BYTES and cost.flops < U.FLOPS / 2


def test_the_cost_is_that_of_a_real_pass():
    unet = new_unet(32, block_out_channels=(16, 48, 96, 112)).eval()
    cost, x = forward_cost(unet.config), torch.zeros(2, 1, 32, 32)
    with torch.no_grad(), U.FlopCounterMode(display=False) as counted, U._LiveBytes() as held:
        unet(x, 0)
    assert (cost.flops, cost.n_bytes) == (counted.get_total_flops() // 2, held.peak // 2)
    with torch.no_grad(), U._LiveBytes() as held:
        y = torch.zeros(1000) * 2
        del y
        torch.zeros(500)
    assert held.peak == 8000  # both of the first line, and not the last


def test_a_pass_takes_fewer_images_where_one_takes_much(tiny):
    with torch.device("meta"):
        large = diffusers.UNet2DModel.from_config(KNOWN["google/ddpm-celebahq-256"])
    assert Extractor(large, new_scheduler()).batch_size == 1
    for unet in (tiny()[0], new_unet(32, 3)):
        assert Extractor(unet, new_scheduler()).batch_size == 256  # as it was
    assert Extractor(tiny()[0], new_scheduler(), n_draws=10**5).batch_size < 256


# --- the cache of the hub, whose snapshots are links


@pytest.fixture
def cache(good, tmp_path):
    "A hub's folder as huggingface_hub lays it out: snapshots/REVISION/... are links into blobs"
    repository = tmp_path / "hub" / "models--owner--name"
    snapshot = repository / "snapshots" / "0123abc"
    (repository / "blobs").mkdir(parents=True)
    for i, file in enumerate(p for p in (good / "model" / "unet").rglob("*") if p.is_file()):
        link = snapshot / file.relative_to(good / "model" / "unet")
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, repository / "blobs" / f"{i}")
        link.symlink_to(os.path.relpath(repository / "blobs" / f"{i}", link.parent))
    return snapshot


def test_the_cache_of_the_hub_is_read_by_id(cache, monkeypatch, same, good):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **kwargs: str(cache))
    assert same(load_unet("owner/name")[0], load_unet(good / "model" / "unet")[0])
    with pytest.raises(ValueError, match="leads out of it"):
        load_unet(cache)  # a folder that is named holds its files itself


def test_a_link_out_of_the_cache_is_refused(cache, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **kwargs: str(cache))
    os.rename((cache / "unet" / "config.json").resolve(), tmp_path / "private.json")
    (cache / "unet" / "config.json").unlink()
    (cache / "unet" / "config.json").symlink_to(tmp_path / "private.json")
    with pytest.raises(ValueError, match="unet/config.json: .* leads out of it"):
        load_unet("owner/name")


# --- finite, wherever a result is written


def test_activations_that_are_not_finite_stop_the_extraction(tiny, digits):
    unet, scheduler = tiny()
    unet.conv_in.weight.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="activations at mid_block, t = 5, are not finite"):
        Extractor(unet, scheduler)(digits[:4], ["mid_block"], 5)
    with pytest.raises(FloatingPointError, match="not finite"):
        DiEC(3, (unet, scheduler), search_size=20).fit(digits[:30])


@pytest.mark.parametrize("confidence, distance", [([0.5, math.nan], [1.0, 1.0]), ([0.5, 0.5], [1.0, math.inf])])
def test_labels_are_not_written_with_what_is_not_finite(tmp_path, confidence, distance):
    with pytest.raises(FloatingPointError, match="not finite"):
        write_labels(tmp_path / "labels.csv", ["a", "b"], [0, 1], np.array(confidence), np.array(distance))
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_finite_is_not_saved(good, tmp_path):
    model = DiEC.from_pretrained(good / "model")
    model.model_.centers.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="centers must be finite"):
        model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
