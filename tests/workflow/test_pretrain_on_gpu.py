"""Pretraining side by side, here on the CPU: what a GPU adds is only the graph of a step."""

import json
import shutil
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.training_utils import EMAModel

from diec.app import pretrain as recipes
from diec.app.pretrain import COOLDOWN, Recipe, make_unet
from diec.core.files import check_replaceable
from diec.unet import load_unet
from workflow import measure_cooldown
from workflow import pretrain_on_gpu as gpu

TINY = Recipe(n_steps=6, batch_size=8, schedule="constant", early_stopping=True, ema_decay=0.9)
JOB = gpu.Job("tiny", "digits", TINY, (8, 8, 8), 200)


def trainer(job=JOB):
    torch.manual_seed(0)
    return gpu.Trainer(job, gpu.load_images(job)[1], torch.device("cpu"))


def test_the_averaged_weights_are_those_of_diffusers():
    t = trainer()
    ema = EMAModel(t.parameters, decay=0.9, use_ema_warmup=True, power=3 / 4)
    for step in range(1, 31):
        t.update()
        ema.step(t.parameters)
    assert step == t.count and all(torch.allclose(a, b, atol=1e-6) for a, b in zip(t.averaged, ema.shadow_params))
    assert not any(torch.equal(a, p) for a, p in zip(t.averaged, t.parameters))


def test_an_epoch_shows_every_image_once_and_is_shuffled():
    t = trainer(replace(JOB, recipe=replace(TINY, augment=0.0)))  # so that the value of an image stays its number
    t.images = torch.arange(200.0)[:, None, None, None].expand(200, 1, 8, 8).clone()
    seen = []
    t.reshuffle()
    for _ in range(200 // 8):
        seen += t.batch()[0][:, 0, 4, 4].round().int().tolist()
        t.count += 1
    assert sorted(seen) == list(range(200)) and seen != sorted(seen)


def test_runs_leave_folders_with_card_history_and_curve(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "FIRST_LOOK", 1)
    monkeypatch.setattr(recipes, "FIRST_MEASURE", 4)
    other = gpu.Job("other", "digits", TINY, (8, 8, 8), 120)
    gpu.train(["tiny", "other"], tmp_path, 5, 5, workers=2, threads=1, jobs={"tiny": JOB, "other": other})
    for job in (JOB, other):
        folder = tmp_path / job.name
        curve, history = (json.loads((folder / f"{name}.json").read_text()) for name in ("curve", "history"))
        assert list(curve["curve"]) == ["1", "2", "4", "6"] and curve["images"] == job.n_images
        assert history["measured"] == [4, 6]  # the recipe does not look earlier
        assert history["information"] == [curve["curve"][str(step)]["information"] for step in (4, 6)]
        assert curve["step"] == history["measured"][int(np.argmax(history["information"]))]
        saved = load_unet(tmp_path / "snapshots" / job.name / str(curve["step"]))[0]
        shipped = load_unet(folder)[0]
        assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), shipped.parameters()))
        card = (folder / "README.md").read_text()
        assert f"The weights are those of step {curve['step']}," in card
        assert f"`python -m workflow.pretrain_on_gpu FOLDER {job.name}`" in card
        assert f"# U-Net `{job.name}`" in card and f"denoise the {job.n_images} images of *digits*" in card
        assert 'unet="FOLDER"' in card and 'unet="digits"' not in card
    assert "tiny 6" in capsys.readouterr().out


def test_a_run_whose_loss_is_not_finite_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu.Trainer, "update", lambda self: self.losses.fill_(float("nan")))
    assert gpu.train(["tiny"], tmp_path, 5, 0, workers=1, threads=1, jobs={"tiny": JOB}) == ["tiny"]
    assert "FAILED FloatingPointError" in capsys.readouterr().out
    assert not (tmp_path / "tiny").exists()


def test_a_failed_run_is_an_exit_status(tmp_path, monkeypatch):
    for failed in ([], ["usps"]):
        monkeypatch.setattr(gpu, "train", lambda *args, failed=failed: failed)
        if not failed:
            gpu.main([str(tmp_path), "usps"])
            continue
        with pytest.raises(SystemExit, match="failed: usps"):
            gpu.main([str(tmp_path), "usps"])


def test_what_is_not_measured_when_the_time_is_up_is_left_out():
    run = gpu.Run(SimpleNamespace(job=JOB), None, None, 0.0, 1)
    run.pending = {step: Future() for step in (1, 2, 3, 4)}
    run.pending[1].set_result({"information": 1.0})
    run.pending[2].cancel()
    run.pending[3].set_exception(ValueError())
    assert run.values() == {1: {"information": 1.0}}
    run.pending[1] = Future()
    assert run.values() == {} and run.eligible() == {}


def test_unknown_names_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu.main([str(tmp_path / "out"), "nonsense"])
    assert "nonsense" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_curve_of_a_cooled_unet_gets_its_last_look(tmp_path, monkeypatch, same):
    before, folder = tmp_path / "before", tmp_path / "tiny"
    assert gpu.train([JOB.name], tmp_path / "gpu", 5, 1, workers=1, threads=1, jobs={JOB.name: JOB}) == []
    shutil.move(tmp_path / "gpu" / JOB.name, before)
    make_unet("digits", folder, recipe=replace(COOLDOWN, n_steps=11), progress=False, start=before)
    unet, curve = load_unet(folder)[0], json.loads((folder / "curve.json").read_text())
    monkeypatch.setitem(gpu.JOBS, "tiny", JOB)
    found = measure_cooldown.add_measure(folder)
    assert json.loads((folder / "curve.json").read_text()) == curve | {"cooldown": found}
    assert found["steps"] == 11 and 0 < found["information"] < np.log(10) and 0 < found["ACC"] <= 1
    history = json.loads((folder / "history.json").read_text())
    assert found["loss"] == pytest.approx(history["loss"][-1]) and same(load_unet(folder)[0], unet)
    check_replaceable(folder)  # the list of files fits the new curve
    with pytest.raises(SystemExit, match="must hold a U-Net after its cooldown"):
        measure_cooldown.add_measure(before)
