"Jobs that run in processes of their own, to be killed there. Not a test file."

import itertools
import json
import logging
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import diec.app.pretrain
import diec.core.checkpoint
import diec.trainer
import diec.unet
from diec.app.pretrain import Recipe, pretrain
from diec.features import Extractor
from diec.trainer import ClusterModel, LossWeights, Trainer, TrainingConfig
from diec.unet import new_scheduler, new_unet

# A server that has imported the package forks each child: starting one takes a fraction of a second.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["pytest", "diec.estimator", "tests.helpers.preloaded"])


def start(job, *args, **kwargs):
    child = context.Process(target=_run, args=(job, args, kwargs))
    child.start()
    return child


def _joined(rank, world, port, job, *args):
    "One of several processes that work together"
    if world > 1:
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
        )
    os.environ["OMP_NUM_THREADS"] = (
        "1"  # as torchrun sets it; without it accelerate gives each process several threads, which wait for each other on a busy machine
    )
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # two processes cannot share one GPU
    job(rank, *args)
    if world > 1:
        torch.distributed.destroy_process_group()


def together(job, world, folder, *args, timeout=300):
    "Run a job, which gets its rank first, in several processes at once; what each of them kept in the folder, by rank"
    folder.mkdir(exist_ok=True)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    processes = [start(_joined, rank, world, port, job, folder, *args) for rank in range(world)]
    for p in processes:
        p.join(timeout)
    alive = [p.kill() for p in processes if p.is_alive()]
    assert not alive and [p.exitcode for p in processes] == [0] * world
    return [kept(folder / f"rank{rank}") for rank in range(world)]


def finish(job, *args, timeout=60, **kwargs):
    "Run a job to its end, however that comes about; the exit code"
    child = start(job, *args, **kwargs)
    child.join(timeout)
    if child.is_alive():
        child.kill()
        raise TimeoutError(f"{job.__name__} took more than {timeout} s")
    return child.exitcode


def killed_after(n, delay, job, folder, *args):
    "Kill a job a little after it has written its n-th checkpoint; whether it was still alive then"
    checkpoint, seen = Path(folder) / "checkpoint", 0
    stamp = lambda: checkpoint.stat().st_ino if checkpoint.exists() else None  # each one is a new file
    last, child = stamp(), start(job, folder, *args)
    while seen < n and child.is_alive():
        time.sleep(0.001)
        if (now := stamp()) != last:
            seen, last = seen + 1, now
    child.join(delay)
    child.kill()
    child.join()
    return child.exitcode == -signal.SIGKILL


def _run(job, args, kwargs):
    torch.set_num_threads(1)
    job(*args, **kwargs)


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def plant(where, nth):
    "Have this process killed at the `nth` time that it comes to a place"
    owner, name, module = {
        "mid-write": (diec.core.checkpoint, "save_file", diec.core.checkpoint),
        "before-replace": (os, "replace", os),
        "after-replace": (os, "replace", os),
        "mid-step": (torch.Tensor, "backward", torch.Tensor),
        "before-swap": (os, "rename", os),  # the calls of os.rename in atomic_folder
    }[where]
    real, count = getattr(owner, name), itertools.count(1)

    def deadly(*args, **kwargs):
        if next(count) < nth:
            return real(*args, **kwargs)
        if where == "mid-write":
            real(*args, **kwargs)
            os.truncate(args[1], os.path.getsize(args[1]) // 2)
        if where == "after-replace":
            real(*args, **kwargs)
        _die()

    setattr(owner, name, deadly)


# --- pretraining

RECIPE = Recipe(n_steps=14, batch_size=8, warmup_steps=3, random_state=3)


def images(n=40):
    return np.random.default_rng(0).uniform(-1, 1, (n, 1, 8, 8)).astype(np.float32)


def small():
    return new_unet(8, block_out_channels=(8, 8), random_state=3)


def pretraining(folder, every=2, death=None):
    "The result is written next to the checkpoint"
    if death:
        plant(*death)
    trained = pretrain(images(), RECIPE, small(), Path(folder) / "checkpoint", every, progress=False)
    _keep(folder, trained.unet.state_dict(), {"step": trained.history["step"], "loss": trained.history["loss"]})


def distributed(rank, folder, steps):
    "One of several processes that train one U-Net"
    diec.app.pretrain.has_fast_bfloat16 = lambda device: False  # the comparison is about float32
    written, save_state = [], diec.app.pretrain.save_state

    def counting(path, state):
        written.append(state["step"])
        save_state(path, state)

    diec.app.pretrain.save_state = counting
    trained = pretrain(
        images(), RECIPE, small(), Path(folder) / "checkpoint", checkpoint_every=3, stop_at=steps, progress=False
    )
    out = Path(folder) / f"rank{rank}"
    out.mkdir(exist_ok=True)
    _keep(out, trained.unet.state_dict(), {"loss": trained.history["loss"], "written": written})


# --- refinement

QUICK = TrainingConfig(
    head_epochs=4, warmup_epochs=1, joint_epochs=4, batch_size=16, lr_unet=1e-4, tol=-1.0, random_state=2
)


def trainer(
    random_state=0,
    n_clusters=3,
    loss_weights=LossWeights(n_neighbors=5, lambda_graph=0.1),
    training_config=QUICK,
    data=None,
    unet=None,
):
    "A trainer on a small untrained U-Net, and its images"
    extract = Extractor(unet or small(), new_scheduler(), n_draws=2, random_state=random_state)
    x = extract.prepare(images() if data is None else data)
    e = extract(x, ["mid_block"], 50)["mid_block"]
    model = ClusterModel.start(e, n_clusters, random_state=random_state)
    return Trainer(extract, model, "mid_block", 50, loss_weights, training_config), x


def refinement(folder, death=None):
    if death:
        plant(*death)
    t, x = trainer()
    labels = t.fit(x, checkpoint=Path(folder) / "checkpoint")
    weights = {f"unet.{k}": v for k, v in t.extract.unet.state_dict().items()} | dict(t.model.state_dict())
    _keep(folder, weights, {"labels": labels.tolist(), "history": t.history})


# --- saving


def saving(model_folder, path, nth):
    from diec.estimator import DiEC

    model = DiEC.from_pretrained(model_folder)
    plant("before-swap", nth)
    model.save_pretrained(path)


def _keep(folder, weights, facts):
    save_file({k: v.clone() for k, v in weights.items()}, Path(folder) / "weights.safetensors")
    (Path(folder) / "facts.json").write_text(json.dumps(facts))


def kept(folder):
    from safetensors.torch import load_file

    return load_file(Path(folder) / "weights.safetensors"), json.loads((Path(folder) / "facts.json").read_text())


def distributed_fit(rank, folder):
    "One of several processes that fit one DiEC"
    from diec.estimator import DiEC

    written, save_state = [], diec.trainer.save_state

    def counting(path, state):
        written.append(state["stage"])
        save_state(path, state)

    diec.trainer.save_state = counting
    model = DiEC(
        3,
        (small(), new_scheduler()),
        search_size=20,
        fine_tune_unet=True,
        training_config=QUICK,
        checkpoint=Path(folder) / "checkpoint",
        batch_size=7,
        precision="float32",  # bfloat16 rounds differently in batches of another size
        random_state=0,
        device="cpu",
    ).fit(images())
    model.save_pretrained(Path(folder) / "model")
    out = Path(folder) / f"rank{rank}"
    out.mkdir(exist_ok=True)
    _keep(
        out,
        {**model.unet_.state_dict(), **model.model_.state_dict()},
        {"labels": model.labels_.tolist(), "history": model.history_, "t": model.timestep_, "written": written},
    )


# --- interrupted


class _Count(logging.Handler):
    "Steps that were finished; at the `nth` of them this process gets a signal"

    def __init__(self, nth):
        super().__init__(logging.DEBUG)
        self.nth, self.steps = nth, 0

    def emit(self, record):
        self.steps += record.getMessage().startswith("finished step")
        if self.steps == self.nth:
            signal.raise_signal(signal.SIGTERM)


def interrupted_pretraining(rank, folder, struck):
    "One of several processes; that of rank `struck` gets a signal at its fifth step"
    from diec.core.interrupt import Interrupted

    count, kept, log = _Count(5 if rank == struck else None), "", logging.getLogger("diec")
    log.addHandler(count)
    log.setLevel(logging.DEBUG)
    unet = small()
    try:
        pretrain(images(), RECIPE, unet, Path(folder) / "checkpoint", 1000, progress=False)
    except Interrupted as e:
        kept = e.kept
    out = Path(folder) / f"rank{rank}"
    out.mkdir(exist_ok=True)
    _keep(out, unet.state_dict(), {"kept": kept, "steps": count.steps})


def counted_command(path, words):
    "The command `diec`; what it finishes is logged to a file"
    from diec.app.cli import main

    handler, log = logging.FileHandler(path), logging.getLogger("diec")
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    main(words)
