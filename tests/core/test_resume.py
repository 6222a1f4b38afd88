"A run that is interrupted or repeated does no finished work twice: counted by the events that `diec.core.interrupt.finished` logs."

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import subprocess_cases
import torch
from PIL import Image

from diec.app.cli import main
from diec.app.pretrain import pretrain
from diec.core.interrupt import REPEATED, SIGNALS, Interrupted, deferred_signals
from diec.data.datasets import load_dataset
from diec.data.folder import pack_folder
from diec.estimator import DiEC
from diec.features import Extractor
from diec.search import Clusterability, search_timestep
from diec.unet import new_scheduler


def pictures(folder, n=24):
    digits = load_dataset("digits").images
    folder.mkdir(parents=True)
    for i in range(n):
        Image.fromarray(np.round((digits[i, 0] + 1) * 127.5).astype(np.uint8)).save(folder / f"{i:02d}.png")
    return folder


class Events(logging.Handler):
    "Counts finished pieces of work, and sends a signal to this process at the `nth` of a unit"

    def __init__(self, unit=None, nth=None, signum=signal.SIGINT):
        super().__init__(logging.DEBUG)
        self.seen, self.unit, self.nth, self.signum = [], unit, nth, signum

    def emit(self, record):
        if not (said := record.getMessage()).startswith("finished "):
            return
        self.seen.append(said.removeprefix("finished "))
        if said.split()[1] == self.unit and sum(e.split()[0] == self.unit for e in self.seen) == self.nth:
            signal.raise_signal(self.signum)

    def __enter__(self):
        log = logging.getLogger("diec")
        self.level = log.level
        log.addHandler(self)
        log.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *_):
        logging.getLogger("diec").removeHandler(self)
        logging.getLogger("diec").setLevel(self.level)


# --- in another process, with another order of sets

CHILD = """
import json, logging, sys, time
handler = logging.FileHandler(sys.argv[1], "w"); log = logging.getLogger("diec"); log.addHandler(handler); log.setLevel(logging.DEBUG)
import diec.app.cli, diec.estimator, diec.app.html_report
start = time.process_time()
diec.app.cli.main(sys.argv[2:])
print(json.dumps(time.process_time() - start))
"""


def in_a_process(hash_seed, log, *words):
    "Seconds beyond the import, and how much of what was done"
    env = os.environ | {"PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(log), *map(str, words)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout.splitlines()[-1]), Counter(
        line.split()[1] for line in log.read_text().splitlines() if line.startswith("finished")
    )


def test_repeated_with_another_hash_seed_nothing_is_done_twice(tmp_path):
    folder, out = pictures(tmp_path / "in"), tmp_path / "out"
    words = (
        "cluster",
        folder,
        "--image-size",
        8,
        "--steps",
        3,
        "-k",
        3,
        "--out",
        out,
        "--into",
        tmp_path / "sorted",
        "--quiet",
    )
    _, first = in_a_process(1, tmp_path / "log", *words)
    assert (
        first["image"] == 24
        and first["step"] == 3
        and first["evaluation"] >= 12
        and first["batch"] >= 1
        and first["update"] >= 1
    )
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    seconds, second = in_a_process(2, tmp_path / "log", *words)
    assert not second and seconds < 5
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name not in (".lock", "folder")} == {
        p: t for p, t in kept.items() if p.name != "folder"
    }
    before = (out / "labels.csv").read_bytes()
    (out / "labels.csv").unlink()  # what is written is made again, from what was kept
    _, third = in_a_process(3, tmp_path / "log", *words)
    assert not third and (out / "labels.csv").read_bytes() == before
    assert {p for p in out.rglob("*.f32")} == {p for p in kept if p.suffix == ".f32"}


# --- interrupted at the end of any step


def read(place):
    return np.array(pack_folder(place / "in", place / "store", 8).images)


def pretrained(place):
    return pretrain(
        subprocess_cases.images(),
        subprocess_cases.RECIPE,
        subprocess_cases.small(),
        place / "checkpoint",
        checkpoint_every=1000,
        progress=False,
    ).unet.state_dict()


def extractor(place, **kwargs):
    return Extractor(subprocess_cases.small().eval(), new_scheduler(), n_draws=2, batch_size=7, **kwargs)


def embedded(place):
    return extractor(place, cache_dir=place / "embeddings")(subprocess_cases.images(), ["mid_block"], 50)


def searched(place):
    return search_timestep(
        Clusterability(
            extractor(place), torch.from_numpy(subprocess_cases.images()), 3, cache_file=place / "search.json"
        ),
        "mid_block",
    ).evaluations


def fitted(place, **kwargs):
    model = DiEC(
        3,
        (subprocess_cases.small().eval(), new_scheduler()),
        n_draws=2,
        batch_size=7,
        timestep=50,
        layer="mid_block",
        fine_tune_unet=True,
        training_config=subprocess_cases.QUICK,
        checkpoint=place / "fit",
        random_state=0,
        device="cpu",
    ).fit(subprocess_cases.images())
    return {"labels": model.labels_, "history": model.history_, **model.model_.state_dict(), **model.unet_.state_dict()}


def same_result(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_result(a[k], b[k]) for k in a)
    return bool((a == b).all()) if isinstance(a, (np.ndarray, torch.Tensor)) else a == b


STAGES = {
    "reading": (read, "image", 5, "after 5 of 24 images"),
    "pretraining": (pretrained, "step", 6, "at step 6 of 14 of pretraining"),
    "extraction": (embedded, "batch", 3, "after 3 of 6 batches"),
    "search": (searched, "evaluation", 4, "after 4 evaluations"),
    "embeddings before training": (fitted, "batch", 4, "after 4 of 6 batches"),
    "head": (fitted, "update", 5, "at step 2 of 3 in epoch 2 of the head stage"),
    "last step of an epoch": (fitted, "update", 6, "at step 3 of 3 in epoch 2"),
    "fine-tuning": (fitted, "update", 17, "at step 2 of 3 in epoch 2 of the joint stage"),
    "embeddings in fine-tuning": (fitted, "batch", 15, "after 3 of 6 batches"),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    "What each job gives and does when nobody interrupts it"
    found = {}

    def get(job):
        if job not in found:
            place = tmp_path_factory.mktemp("undisturbed")
            pictures(place / "in")
            with Events() as events:
                found[job] = job(place), events.seen
        return found[job]

    return get


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("stage", STAGES)
def test_interrupted_it_resumes_where_it_was(tmp_path, undisturbed, stage, signum):
    job, unit, nth, said = STAGES[stage]
    if signum != SIGNALS[list(STAGES).index(stage) % len(SIGNALS)] and stage not in ("pretraining", "fine-tuning"):
        pytest.skip("each stage with one signal, two of them with all")
    pictures(tmp_path / "in")
    handlers = [signal.getsignal(s) for s in SIGNALS]
    with Events(unit, nth, signum) as before, pytest.raises(Interrupted) as e:
        job(tmp_path)
    assert e.value.signum == signum and said in e.value.kept and [signal.getsignal(s) for s in SIGNALS] == handlers
    with Events() as after:
        result = job(tmp_path)
    wanted, events = undisturbed(job)
    assert same_result(result, wanted)
    assert before.seen + after.seen == events  # nothing twice, nothing left out, in the same order


def test_the_kept_embeddings_of_an_earlier_run_are_removed_and_no_other_file(tmp_path):
    folder = Path(f"{tmp_path / 'fit'}.embeddings")
    folder.mkdir()
    stale = [
        "0123456789abcdef.json",
        "0123456789abcdef-0.f32",
        "0123456789abcdef.1of2.json",
        "0123456789abcdef.1of2-11.f32",
    ]
    foreign = [
        "notes.json",
        "0123456789abcdef",
        "0123456789abcdef.json.bak",
        "0123456789ABCDEF.json",
        "x0123456789abcdef.json",
        "0123456789abcdef-x.f32",
    ]
    for name in (*stale, *foreign):
        (folder / name).write_text(name)
    fitted(tmp_path)
    left = {p.name for p in folder.iterdir()}
    assert left >= set(foreign) and not left & set(stale)
    own = left - set(foreign)
    assert len(own) == 4  # before training, and of the U-Net as it is now: a note and a file each
    with Events() as events:
        fitted(tmp_path)
    assert not events.seen and {p.name for p in folder.iterdir()} == left


def test_the_start_of_training_is_not_found_twice(tmp_path, monkeypatch):
    import diec.estimator as E

    fitted(tmp_path)
    monkeypatch.setattr(E.ClusterModel, "start", lambda *_, **__: 1 / 0)
    fitted(tmp_path)
    (tmp_path / "fit.start.safetensors").write_bytes(b"half")
    with pytest.raises(ZeroDivisionError):
        fitted(tmp_path)


def test_a_long_epoch_is_saved_in_its_midst(tmp_path, undisturbed, monkeypatch):
    "Killed there, which no signal handler sees, it loses what came after the last checkpoint"
    import diec.trainer as T

    monkeypatch.setattr(T, "SAVE_EVERY", 0)

    class Killed(BaseException):
        pass

    class Kill(Events):
        def emit(self, record):
            super().emit(record)
            if self.seen.count("update joint 1 1") == 1:
                raise Killed

    with Kill() as before, pytest.raises(Killed):
        fitted(tmp_path)
    with Events() as after:
        result = fitted(tmp_path)
    wanted, events = undisturbed(fitted)
    assert same_result(result, wanted) and before.seen[:-1] + after.seen == events


# --- signals where nothing is kept, twice, ignored, or in another thread


def test_without_a_checkpoint_a_signal_is_answered_at_once():
    with Events("step", 3) as events, pytest.raises(KeyboardInterrupt):
        pretrain(subprocess_cases.images(), subprocess_cases.RECIPE, subprocess_cases.small(), progress=False)
    assert len(events.seen) == 3


def test_a_second_signal_does_not_wait():
    with pytest.raises(Interrupted) as e, deferred_signals() as signals:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)  # passed on by a launcher
        assert signals.here()
        time.sleep(1.1 * REPEATED)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError
    assert e.value.signum == signal.SIGINT and not e.value.kept


def test_a_signal_after_the_last_question_is_not_lost():
    with pytest.raises(Interrupted), deferred_signals():
        with deferred_signals() as inner:
            signal.raise_signal(signal.SIGTERM)
        assert inner.here()  # the outer block answers


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with deferred_signals() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert not signals.here() and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_train_too(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(pretrained(tmp_path)))
    thread.start()
    thread.join()
    assert len(found) == 1


def test_two_processes_stop_at_the_same_step(tmp_path, same):
    ((alone, _),) = subprocess_cases.together(subprocess_cases.interrupted_pretraining, 1, tmp_path / "one", 1)
    stopped = subprocess_cases.together(subprocess_cases.interrupted_pretraining, 2, tmp_path / "two", 1)
    assert [facts["kept"] for _, facts in stopped] == [
        "at step 5 of 14 of pretraining"
    ] * 2  # the signal came to the second process alone
    resumed = subprocess_cases.together(subprocess_cases.interrupted_pretraining, 2, tmp_path / "two", None)
    assert [facts["steps"] for _, facts in resumed] == [9, 9] and same(resumed[0][0], resumed[1][0])
    assert alone.keys() == resumed[0][0].keys()


# --- the command


@pytest.mark.parametrize("signum, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_command_says_what_is_kept(tmp_path, capsys, signum, status):
    words = [
        "pretrain",
        str(pictures(tmp_path / "in")),
        "--out",
        str(tmp_path / "net"),
        "--image-size",
        "8",
        "--steps",
        "5",
        "--quiet",
    ]
    with Events("step", 2, signum) as before, pytest.raises(SystemExit) as e:
        main(words)
    assert (
        e.value.code == status
        and capsys.readouterr().err
        == "diec: interrupted at step 2 of 5 of pretraining, which is saved; repeat the command to resume from there\n"
    )
    with Events() as after:
        main(words)
    assert before.seen + after.seen == [*(f"image {i:02d}.png" for i in range(24)), *(f"step {i}" for i in range(1, 6))]


def test_a_signal_between_the_stages(tmp_path, capsys, monkeypatch):
    "Where no loop waits for it, it ends the run at once, with the same status"
    monkeypatch.setattr("diec.app.cli._check_images", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as e:
        main(
            [
                "cluster",
                str(pictures(tmp_path / "in")),
                "--unet",
                "digits",
                "-k",
                "3",
                "--out",
                str(tmp_path / "out"),
                "--quiet",
            ]
        )
    assert (
        e.value.code == 143
        and capsys.readouterr().err
        == "diec: interrupted; what was finished before is saved; repeat the command to resume from there\n"
    )


def test_a_signal_from_outside(tmp_path):
    "To a process of its own, at whatever moment it comes after the third step"
    folder, log = pictures(tmp_path / "in"), tmp_path / "log"
    words = ["pretrain", str(folder), "--out", str(tmp_path / "net"), "--image-size", "8", "--steps", "12", "--quiet"]
    child = subprocess_cases.start(subprocess_cases.counted_command, log, words)
    while child.is_alive() and not (log.exists() and "finished step 3\n" in log.read_text()):
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGTERM)
    child.join(300)
    assert child.exitcode == 143
    before = log.read_text().splitlines()
    assert 3 <= sum(l.startswith("finished step") for l in before) < 12
    assert subprocess_cases.finish(subprocess_cases.counted_command, log, words, timeout=300) == 0
    assert (
        all(n == 1 for n in Counter(log.read_text().splitlines()).values()) and len(log.read_text().splitlines()) == 36
    )


@pytest.fixture(scope="module")
def clustered(tmp_path_factory):
    place = tmp_path_factory.mktemp("clustered")
    words = [
        "cluster",
        str(pictures(place / "in")),
        "--unet",
        "digits",
        "-k",
        "3",
        "--out",
        str(place / "out"),
        "--quiet",
    ]
    main(words)
    return place, words


@pytest.mark.parametrize(
    "change", ["labels.csv", "report.html", "model/config.json", "record", "another K", "another picture"]
)
def test_a_stale_result_is_not_served(clustered, capsys, change):
    place, words = clustered
    wanted = (place / "out" / "labels.csv").read_bytes()
    capsys.readouterr()
    main(words)
    assert "nothing has changed" in capsys.readouterr().out
    changed = place / "in" / "03.png" if change == "another picture" else place / "out" / change
    content = changed.read_bytes() if changed.is_file() else None
    if change == "another K":
        main([*words[:5], "2", *words[6:], "--force"])
    elif change == "record":
        (place / "out" / "work" / "result.json").write_text("[]")
    elif change == "another picture":
        changed.write_bytes((place / "in" / "04.png").read_bytes())
    else:
        changed.write_bytes(content + b" ")
    if change not in ("record", "another picture"):  # what was changed in the result may be the user's
        with pytest.raises(SystemExit):
            main(words)
    if change == "model/config.json":
        changed.write_bytes(content)
    capsys.readouterr()
    main([*words, "--force"])
    assert ("nothing has changed" in capsys.readouterr().out) == (change == "model/config.json")
    assert change == "another picture" or (place / "out" / "labels.csv").read_bytes() == wanted
    if change == "another picture":
        changed.write_bytes(content)
        main(words)


def test_files_are_sorted_though_nothing_has_changed(clustered, tmp_path, capsys):
    place, words = clustered
    main(words)
    capsys.readouterr()
    with Events() as events:
        main([*words, "--into", str(tmp_path / "sorted")])
    assert (
        "nothing has changed" in capsys.readouterr().out
        and not events.seen
        and len(list((tmp_path / "sorted").rglob("*.png"))) == 24
    )


# --- threads


def test_another_number_of_threads_is_said(tmp_path, caplog):
    pretrain(
        subprocess_cases.images(),
        subprocess_cases.RECIPE,
        subprocess_cases.small(),
        tmp_path / "c",
        stop_at=3,
        progress=False,
    )
    pretrain(
        subprocess_cases.images(),
        subprocess_cases.RECIPE,
        subprocess_cases.small(),
        tmp_path / "c",
        stop_at=4,
        progress=False,
    )
    assert not caplog.records
    torch.set_num_threads(2)
    try:
        pretrain(
            subprocess_cases.images(),
            subprocess_cases.RECIPE,
            subprocess_cases.small(),
            tmp_path / "c",
            stop_at=5,
            progress=False,
        )
    finally:
        torch.set_num_threads(1)
    assert "was written with 1 threads, now there are 2" in caplog.text


@pytest.mark.parametrize("own, wanted", [(None, "passive"), ("active", "active")])
def test_threads_wait_passively_unless_the_user_says_otherwise(monkeypatch, own, wanted):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if own:
        monkeypatch.setenv("OMP_WAIT_POLICY", own)
    main(["datasets"])
    assert os.environ["OMP_WAIT_POLICY"] == wanted
    monkeypatch.setenv("OMP_WAIT_POLICY", wanted)  # so that it is restored
