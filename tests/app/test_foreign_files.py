"Files that are the user's: planted at and beside every name that is written, in every verb; none may be touched."

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diec.app.cli import main
from diec.app.sort import sort_into
from diec.core.files import lock_file, read_record, work_folder
from diec.data.datasets import load_dataset

COMMANDS = {
    "cluster": ("cluster", "IN", "--unet", "digits", "-k", 2, "--out", "out", "--quiet"),
    "cluster into copies": (
        "cluster",
        "IN",
        "--unet",
        "digits",
        "-k",
        2,
        "--out",
        "out",
        "--into",
        "sorted",
        "--copy",
        "--quiet",
    ),
    "cluster with pretraining": (
        "cluster",
        "IN",
        "-k",
        2,
        "--steps",
        2,
        "--image-size",
        8,
        "--out",
        "out",
        "--into",
        "sorted",
        "--quiet",
    ),
    "pretrain": ("pretrain", "IN", "--steps", 2, "--image-size", 8, "--out", "net", "--quiet"),
    "search": ("search", "IN", "--unet", "digits", "-k", 2, "--layer", "mid_block", "--work", "scratch", "--quiet"),
    "predict": ("predict", "MODEL", "IN", "--out", "labels.csv", "--quiet"),
}


def pictures(folder, n=10):
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_dataset("digits")
    for j, i in enumerate(np.flatnonzero(digits.labels < 2)[:n]):
        Image.fromarray(np.round((digits.images[i, 0] + 1) * 127.5).astype(np.uint8)).save(folder / f"{j}.png")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return pictures(tmp_path_factory.mktemp("foreign") / "in")


@pytest.fixture
def diec(images, model, tmp_path, monkeypatch):
    "Run a command in the folder `place` of the test: (exit status, what it said)"
    (tmp_path / "place").mkdir()
    monkeypatch.chdir(tmp_path / "place")
    return lambda *words: run(words, images, model)


@pytest.fixture
def place(tmp_path):
    return tmp_path / "place"


def run(words, images, model=None):
    import contextlib
    import io

    said, status = io.StringIO(), 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            main([str({"IN": images, "MODEL": model}.get(w, w)) for w in words])
        except SystemExit as e:
            status = e.code or 0
    return status, said.getvalue()


def state(*paths) -> dict:
    "Of files, links and folders, and of all that is in them: mode, time and content"
    found = {}
    for path in (
        p for start in paths for p in (start, *(start.rglob("*") if start.is_dir() and not start.is_symlink() else ()))
    ):
        s = path.lstat()
        kind = os.readlink(path) if path.is_symlink() else path.read_bytes() if stat.S_ISREG(s.st_mode) else None
        found[path] = s.st_mode, s.st_ino, s.st_mtime_ns if kind is not None else 0, kind
    return found


def changed(before, after) -> list:
    return [str(p) for p in before if after.get(p) != before[p]]


# --- every name that is written

watched = []


def watch(event, args):
    "An audit hook, which Python calls before it opens, makes, moves or removes anything"
    if not watched or event not in (
        "open",
        "os.mkdir",
        "os.rename",
        "os.symlink",
        "os.remove",
        "os.rmdir",
        "os.truncate",
        "os.chmod",
    ):
        return
    if event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        return
    if event in ("os.remove", "os.rmdir") and args[1] >= 0:
        return  # relative to an open folder: a folder for unfinished files is taken away
    for p in args[:2] if event == "os.rename" else args[1:2] if event == "os.symlink" else args[:1]:
        if isinstance(p, (str, bytes, os.PathLike)):
            watched.append(Path(os.path.abspath(os.fsdecode(p))))


sys.addaudithook(watch)


@pytest.fixture(scope="module")
def model(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("fitted") / "out"
    assert run(("cluster", "IN", "--unet", "digits", "-k", 2, "--out", out, "--quiet"), images)[0] == 0
    return out / "model"


@pytest.fixture(scope="module")
def written(images, model, tmp_path_factory):
    "The names that each command writes, relative to where it runs; what stands in a folder for unfinished files counts once it is in its place"
    names, before = {}, os.getcwd()
    for command, words in COMMANDS.items():
        place = tmp_path_factory.mktemp("clean").resolve()
        os.chdir(place)
        watched[:] = [place]
        try:
            status, said = run(words, images, model)
        finally:
            os.chdir(before)
            seen = {*watched, *place.rglob("*")}
            watched.clear()
        assert status == 0, said
        inside = {p.relative_to(place) for p in seen if p != place and p.is_relative_to(place)}
        names[command] = sorted(
            p for p in inside if not any(part.startswith(".diec-") and part.endswith(".partial") for part in p.parts)
        )
    return names


def test_the_names_are_those_that_count(written):
    listed = {command: {p.as_posix() for p in names} for command, names in written.items()}
    assert {
        "out",
        "out/.diec.json",
        "out/labels.csv",
        "out/report.html",
        "out/model",
        "out/model/config.json",
        "out/work",
        "out/work/.lock",
        "out/work/folder",
    } <= listed["cluster"]
    assert {"sorted", "sorted/.diec-groups", ".diec-sorted.lock"} <= listed["cluster into copies"] and any(
        n.startswith("sorted/cluster-0/") for n in listed["cluster into copies"]
    )
    assert {"out/unet", "out/unet/model_index.json"} <= listed["cluster with pretraining"]
    assert {"net", "net.work", "net.work/.lock", "net/unet/config.json"} <= listed["pretrain"] and {
        "scratch",
        "scratch/.lock",
    } <= listed["search"]
    assert {"labels.csv", ".diec-labels.csv.json", "labels.csv.work", "labels.csv.work/.lock"} <= listed["predict"]
    for command in COMMANDS:
        assert any(n.endswith("images.u8") for n in listed[command])
    assert any(n.endswith(".f32") for n in listed["predict"])


def plant(path, kind, outside):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a file":
        path.write_text("mine")
    elif kind == "a folder":
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    else:
        path.symlink_to(outside / ("folder" if kind == "a link to a folder" else "file.txt"))
    if kind == "a file":
        path.chmod(0o640)
    return path


@pytest.fixture
def outside(tmp_path):
    (tmp_path / "outside" / "folder").mkdir(parents=True)
    for name in ("file.txt", "folder/inner.txt", "folder/.lock", "folder/labels.csv"):
        (tmp_path / "outside" / name).write_text("precious")
    return tmp_path / "outside"


LEFT_ALONE = {
    "out",
    "scratch",
    "labels.csv.work",
    "net.work",
    ".diec-sorted.lock",
}  # what may be there already: a folder for results with other files, a file to lock


@pytest.mark.parametrize("kind", ["a file", "a folder", "a link to a file", "a link to a folder"])
@pytest.mark.parametrize("command", COMMANDS)
def test_at_every_name(diec, place, written, outside, images, command, kind):
    "What is planted stays as it is: the command refuses in one line that names it, or its folder, and leaves nothing behind; or does without"
    worked = 0
    for name in written[command]:
        planted = plant(place / name, kind, outside)
        top = place / name.parts[0]
        before = state(top, outside, images)
        status, said = diec(*COMMANDS[command])
        assert status in (0, 2), (name, said)
        after = state(top, outside, images)
        if status == 2:
            assert (
                said.count("\n") == 1
                and said.startswith("diec: ")
                and any(part in said for part in (*name.parts, planted.name))
            ), (name, said)
            assert not changed(before, after) and not after.keys() - before.keys() and list(place.iterdir()) == [top], (
                name,
                changed(before, after),
                said,
            )
        else:
            worked += 1
            assert not changed(before, after) and name.as_posix() in LEFT_ALONE, (name, changed(before, after), said)
        shutil.rmtree(place)
        place.mkdir()
        os.chdir(place)
    assert worked <= 2 and len(written[command]) > 8


def neighbors(folder, name, outside):
    "Files with names that look like those of unfinished or replaced ones"
    for planted in (
        f".{name}.partial",
        f".{name}.abc.partial",
        f".diec-{name}.partial",
        f".diec-{name}.json.bak",
        f"{name}~",
        f"[{name}]",
        f"{name}*",
    ):
        (folder / planted).write_text("mine")
        (folder / planted).chmod(0o604)
    for planted in (f".{name}.2024.partial", f".{name}.old.replaced", f".diec-{name}abc.partial"):
        (folder / planted).mkdir()
        (folder / planted / "mine.txt").write_text("mine")
    (folder / f".{name}.file.partial").symlink_to(outside / "file.txt")
    (folder / f".{name}.folder.partial").symlink_to(outside / "folder")
    (folder / f".diec-{name}link.partial").symlink_to(outside / "folder")


@pytest.mark.parametrize("command", COMMANDS)
def test_beside_every_name(diec, place, written, outside, images, command):
    "In folders that are not the command's own all goes on, and what is planted stays; twice, for the second run replaces the first one's result"
    folders = [place, *([place / "out"] if command.startswith("cluster") else [])]
    for folder in folders:
        folder.mkdir(exist_ok=True)
        for name in {p.name for p in written[command] if (place / p).parent == folder}:
            neighbors(folder, name, outside)
    before = state(*(p for folder in folders for p in folder.iterdir() if p not in folders), outside, images)
    assert len(before) > 15
    for _ in range(2):
        status, said = diec(*COMMANDS[command])
        assert status == 0, said
        assert not changed(before, state(*(p for p in before if os.path.lexists(p))))
    assert not [p for folder in folders for p in folder.glob(".diec-*.partial") if p not in before]


# --- a later run


@pytest.fixture(scope="module")
def results(images, tmp_path_factory):
    place, before = tmp_path_factory.mktemp("results"), os.getcwd()
    os.chdir(place)
    try:
        assert run(COMMANDS["cluster into copies"], images)[0] == 0 and run(COMMANDS["pretrain"], images)[0] == 0
    finally:
        os.chdir(before)
    return place


@pytest.fixture
def again(results, place, diec):
    shutil.copytree(results, place, symlinks=True, dirs_exist_ok=True)
    return diec


@pytest.mark.parametrize("name", ["out/labels.csv", "out/report.html"])
@pytest.mark.parametrize("harm", ["edited", "another file", "a link"])
def test_a_file_that_was_changed_is_replaced_only_when_told_to(again, place, outside, name, harm):
    target = place / name
    if harm == "edited":
        target.write_bytes(target.read_bytes() + b"# mine\n")
    else:
        target.unlink()
        target.write_text("mine") if harm == "another file" else target.symlink_to(outside / "file.txt")
    before = state(place, outside)
    status, said = again(*COMMANDS["cluster into copies"])
    assert status == 2 and target.name in said and said.count("\n") == 1 and state(place, outside) == before
    assert ("--force" in said) == (harm != "a link")
    status, said = again(*COMMANDS["cluster into copies"], "--force")
    assert status == (2 if harm == "a link" else 0)
    assert state(outside).items() <= before.items()
    assert target.is_symlink() or not target.read_bytes().endswith((b"mine", b"# mine\n"))
    if harm == "a link":
        assert state(place) == {p: s for p, s in before.items() if p.is_relative_to(place)}


@pytest.mark.parametrize(
    "name, command",
    [
        ("out/model/notes.txt", "cluster into copies"),
        ("out/model/config.json", "cluster into copies"),
        ("out/model/unet/scheduler/mine", "cluster into copies"),
        ("sorted/cluster-0/notes.txt", "cluster into copies"),
        ("out/.diec.json", "cluster into copies"),
        ("sorted/.diec-groups", "cluster into copies"),
        ("net/README.md", "pretrain"),
        ("net/.diec.json", "pretrain"),
        ("net/unet/config.json", "pretrain"),
    ],
)
@pytest.mark.parametrize("kind", ["a file", "a folder", "a link to a file", "a link to a folder"])
def test_in_a_folder_that_we_wrote(again, place, outside, name, command, kind):
    "Not even with --force"
    if (place / name).exists():
        (place / name).unlink()
    plant(place / name, kind, outside)
    before = state(place, outside)
    for force in ((), ("--force",)):
        status, said = again(*COMMANDS[command], *force)
        assert (
            status == 2
            and said.count("\n") == 1
            and any(part in said for part in (Path(name).name, Path(name).parts[0]))
        ), said
        assert state(place, outside) == before, said


@pytest.mark.parametrize("folder", ["out/work", "net.work"])
def test_in_a_folder_that_we_work_in(again, place, outside, folder):
    command = COMMANDS["pretrain" if folder == "net.work" else "cluster into copies"]
    mine = (
        plant(place / folder / "notes.txt", "a file", outside),
        plant(next((place / folder).glob("images-*")) / ".x.partial", "a folder", outside),
    )
    before = state(*mine)
    assert again(*command)[0] == 0 and state(*mine) == before
    pixels = next((place / folder).glob("images-*/images.u8"))
    for victim in (
        pixels,
        place / folder / ".lock",
        pixels.with_name("images.part"),
        pixels.with_name("journal.jsonl"),
        place / folder / "any",
    ):
        whole = victim.read_bytes() if victim.exists() else None
        victim.unlink(missing_ok=True)
        for link in (os.symlink, os.link):
            link(outside / "file.txt", victim)
            before = state(place, outside)
            status, said = again(*command)
            assert status == 2 and victim.name in said and said.count("\n") == 1 and state(place, outside) == before, (
                said
            )
            victim.unlink()
        if whole is not None:
            victim.write_bytes(whole)
    assert again(*command)[0] == 0


@pytest.mark.parametrize(
    "command, changes",
    [
        ("cluster into copies", {"-k": 3}),
        ("cluster into copies", {"--seed": 5}),
        ("cluster into copies", {"--unet": "mnist-5k"}),
        ("pretrain", {"--steps": 3}),
    ],
    ids=str,
)
def test_a_result_of_other_settings_is_replaced_only_when_told_to(again, place, command, changes):
    words = list(COMMANDS[command])
    for option, value in changes.items():
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    before = state(place)
    status, said = again(*words)
    assert (
        status == 2
        and "other settings" in said
        and "--force" in said
        and str(next(iter(changes.values()))) in said
        and said.count("\n") == 1
    )
    assert state(place) == before
    if "-k" in changes or command == "pretrain":
        status, said = again(*words, "--force")
        assert status == 0, said
        assert again(*words)[0] == 0  # the same again
        assert again(*COMMANDS[command])[0] == 2  # now this is another


def test_another_into_of_other_settings(again, place):
    "The same folder of sorted files from a result elsewhere"
    words = [{"out": "elsewhere", 2: 3}.get(w, w) for w in COMMANDS["cluster into copies"]]
    before = state(place / "sorted")
    status, said = again(*words)
    assert status == 2 and "--into" in said and "n clusters was 2, now 3" in said and state(place / "sorted") == before


def test_the_result_is_known_when_the_folder_to_work_in_was_deleted(again, place):
    shutil.rmtree(place / "out" / "work")
    assert again(*COMMANDS["cluster into copies"])[0] == 0


def test_predictions_again(diec, place):
    assert diec(*COMMANDS["predict"])[0] == 0 and diec(*COMMANDS["predict"])[0] == 0
    assert {p.name for p in place.iterdir()} == {"labels.csv", ".diec-labels.csv.json"}
    (place / "labels.csv").write_text("mine")
    status, said = diec(*COMMANDS["predict"])
    assert status == 2 and "labels.csv" in said and "--force" in said and (place / "labels.csv").read_text() == "mine"
    assert diec(*COMMANDS["predict"], "--force")[0] == 0 and (place / "labels.csv").read_text().startswith("file,")
    record = place / ".diec-labels.csv.json"
    facts = json.loads(record.read_text())
    record.write_text(json.dumps(facts | {"settings": facts["settings"] | {"seed": 0}}))  # of an earlier version
    assert diec(*COMMANDS["predict"])[0] == 0
    status, said = diec("predict", "MODEL", "IN", "IN", "--out", "labels.csv", "--quiet")
    assert status == 2 and "folder was" in said


# --- verbs keep to their own folders


def test_predict_leaves_the_checkpoint_of_pretraining(diec, place):
    assert diec(*COMMANDS["pretrain"])[0] == 0
    before = state(place)
    assert any(p.suffix == ".safetensors" and p.is_relative_to(place / "net.work") for p in before)
    assert diec("predict", "MODEL", "IN", "--out", "net.csv", "--quiet")[0] == 0
    assert before.items() <= state(place).items()
    status, said = diec("predict", "MODEL", "IN", "--out", "other.csv", "--work", "net.work", "--quiet")
    assert (
        status == 2
        and "diec pretrain works in" in said
        and before.items() <= state(place).items()
        and not (place / "other.csv").exists()
    )


@pytest.mark.parametrize(
    "words, said",
    [
        (("predict", "IN", "IN"), "config.json"),
        (("search", "IN", "--unet", "digits", "-k", 2, "--layer", "no_such_layer"), "no_such_layer"),
        (("search", "IN", "--unet", "digits", "-k", 500), "500"),
        (("predict", "MODEL", "EMPTY"), "no image in this folder"),
        (("predict", "MODEL", "IN", "--work", "a/b/c", "--out", "x.csv"), "not finite"),
    ],
    ids=lambda v: " ".join(map(str, v)) if isinstance(v, tuple) else "",
)
def test_what_fails_leaves_nothing(diec, place, tmp_path, monkeypatch, words, said):
    (tmp_path / "empty").mkdir()
    if said == "not finite":

        def broken(*_):
            raise ValueError("the embeddings are not finite")

        monkeypatch.setattr(diec_estimator(), "embed_and_assign", broken)
    status, text = diec(*(tmp_path / "empty" if w == "EMPTY" else w for w in words), "--quiet")
    assert status == 2 and said in text and list(place.iterdir()) == []


def diec_estimator():
    from diec.estimator import DiEC

    return DiEC


def test_what_is_interrupted_keeps_what_it_has(diec, place, monkeypatch):
    "Ctrl-C and a full disk are no errors of the command's words"
    for error in (KeyboardInterrupt(), OSError(28, "No space left on device")):

        def stopped(*_):
            raise error

        with monkeypatch.context() as m:
            m.setattr(diec_estimator(), "embed_and_assign", stopped)
            assert diec(*COMMANDS["predict"])[0] in (2, 130)
        assert list(place.glob("labels.csv.work/images-*/images.u8"))
    assert diec(*COMMANDS["predict"])[0] == 0 and not (place / "labels.csv.work").exists()


# --- sorted copies


@pytest.fixture
def sorted_(tmp_path):
    folder, into = pictures(tmp_path / "in", 6), tmp_path / "sorted"
    files = sorted(p.name for p in folder.iterdir())

    def sort(labels=(0, 0, 0, 1, 1, 1), copy=True):
        return sort_into(into, folder, files, list(labels), copy)

    sort()
    return folder, into, sort


@pytest.mark.parametrize(
    "harm",
    [
        "original overwritten",
        "original gone",
        "original a link to the copy",
        "copy edited, size and time kept",
        "copy edited",
    ],
)
def test_the_last_copy_of_a_picture_stays(sorted_, harm):
    folder, into, sort = sorted_
    original, copy = folder / "0.png", into / "cluster-0" / "0.png"
    s = copy.stat()
    if harm == "original overwritten":
        original.write_bytes(bytes(s.st_size))
        os.utime(original, ns=(s.st_atime_ns, s.st_mtime_ns))
    elif harm.startswith("original"):
        original.unlink()
        if harm.endswith("copy"):
            original.symlink_to(copy)
    else:
        copy.write_bytes(bytes(s.st_size) if "kept" in harm else b"turned")
        if "kept" in harm:
            os.utime(copy, ns=(s.st_atime_ns, s.st_mtime_ns))
    before = state(into, folder)
    with pytest.raises(FileExistsError, match="0.png.* (last copy|was changed)"):
        sort((1, 1, 1, 0, 0, 0))
    assert state(into, folder) == before and [p.name for p in into.parent.iterdir() if p.name.startswith(".diec")] == []


def test_what_vanished_is_reported_and_the_rest_copied(again, place, images, tmp_path, monkeypatch):
    import diec.app.cli

    folder = tmp_path / "mine"
    shutil.copytree(images, folder)
    real = diec.app.cli.sort_into

    def later(*args):  # between reading and copying
        for i in (3, 5, 6, 7, 8):
            (folder / f"{i}.png").unlink()
        (folder / "5.png").mkdir()
        os.mkfifo(folder / "6.png")
        (folder / "7.png").symlink_to("7.png")
        (folder / "8.png").symlink_to("/dev/null")  # /dev/zero would have no end
        return real(*args)

    monkeypatch.setattr(diec.app.cli, "sort_into", later)
    status, said = again(
        "cluster", folder, "--unet", "digits", "-k", 2, "--out", "new", "--into", "new.sorted", "--copy", "--quiet"
    )
    assert (
        status == 1
        and said.count("not copied: ") == 5
        and "not copied: 3.png: No such file or directory\n" in said
        and "not copied: 5.png: Is a directory\n" in said
    )
    assert "not copied: 7.png: Too many levels of symbolic links\n" in said and all(
        f"not copied: {i}.png: not a regular file any more\n" in said for i in (6, 8)
    )
    assert "mean confidence" in said and len((place / "new" / "labels.csv").read_text().splitlines()) == 11
    assert sorted(p.name for p in (place / "new.sorted").glob("cluster-*/*")) == sorted(
        f"{i}.png" for i in (0, 1, 2, 4, 9)
    )


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions(images, model, tmp_path, monkeypatch, umask):
    "Files are as the umask says, copies as their originals, and what replaces a file is not wider than it was"
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "in"
    shutil.copytree(images, folder)
    for i, mode in enumerate((0o600, 0o400, 0o640)):
        (folder / f"{i}.png").chmod(mode)
    before = os.umask(umask)
    try:
        assert (
            run(
                (
                    "cluster",
                    folder,
                    "--unet",
                    "digits",
                    "-k",
                    2,
                    "--out",
                    "out",
                    "--into",
                    "sorted",
                    "--copy",
                    "--quiet",
                ),
                images,
            )[0]
            == 0
        )
        assert run(("predict", model, folder, "--out", "new.csv", "--quiet"), images)[0] == 0
        modes = {
            p.relative_to(tmp_path).as_posix(): stat.S_IMODE(p.lstat().st_mode)
            for top in ("out", "sorted", "new.csv")
            for p in (tmp_path / top, *(tmp_path / top).rglob("*"))
        }
        copies = {Path(n).name: m for n, m in modes.items() if n.endswith(".png")}
        assert [copies[f"{i}.png"] for i in range(3)] == [0o600, 0o400, 0o640]
        wrong = {
            n: oct(m)
            for n, m in modes.items()
            if not n.endswith(".png") and m != (0o777 if (tmp_path / n).is_dir() else 0o666) & ~umask
        }
        assert not wrong
        (tmp_path / "sorted").chmod(0o700)
        (tmp_path / "out" / "labels.csv").chmod(0o600)
        (tmp_path / "out" / "model").chmod(0o700)
        assert (
            run(
                (
                    "cluster",
                    folder,
                    "--unet",
                    "digits",
                    "-k",
                    2,
                    "--out",
                    "out",
                    "--into",
                    "sorted",
                    "--copy",
                    "--quiet",
                ),
                images,
            )[0]
            == 0
        )
        assert [stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("sorted", "out/labels.csv", "out/model")] == [
            0o700,
            0o600,
            0o700,
        ]
    finally:
        os.umask(before)


def test_two_runs_with_one_into(again, place):
    before = state(place / "sorted")
    with lock_file(place / ".diec-sorted.lock", remove=True):
        status, said = again(
            "cluster", "IN", "--unet", "digits", "-k", 2, "--out", "another", "--into", "sorted", "--copy", "--quiet"
        )
    assert (
        status == 2
        and "another run sorts into" in said
        and state(place / "sorted") == before
        and not (place / "another").exists()
        and not (place / ".diec-sorted.lock").exists()
    )


@pytest.mark.slow
def test_two_processes_with_one_into_at_once(images, tmp_path):
    "One of them ends, the other refuses or comes after it; the sorted folder is whole"
    words = [
        sys.executable,
        "-m",
        "diec.app.cli",
        "cluster",
        str(images),
        "--unet",
        "digits",
        "-k",
        "2",
        "--into",
        str(tmp_path / "sorted"),
        "--copy",
        "--quiet",
    ]
    both = [
        subprocess.Popen(
            [*words, "--out", str(tmp_path / out)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for out in ("a", "b")
    ]
    ends = [(p.communicate()[1], p.returncode) for p in both]
    assert 0 in [code for _, code in ends] and all(
        code == 0 or "another run sorts into" in said for said, code in ends
    ), ends
    record = read_record(tmp_path / "sorted" / ".diec-groups", "diec-folder-1")
    assert len(record["files"]) == 10 and len(list((tmp_path / "sorted").glob("cluster-*/*.png"))) == 10
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".diec")]


# --- a crash


def test_a_full_disk_is_not_the_fault_of_a_picture(again, place, images, monkeypatch):
    import diec.app.sort

    def full(source, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(diec.app.sort, "_copy", full)
    status, said = again(
        "cluster", images, "--unet", "digits", "-k", 2, "--out", "new", "--into", "new.sorted", "--copy", "--quiet"
    )
    assert (
        status == 2
        and "not copied" not in said
        and said.endswith("repeat the command to resume\n")
        and not (place / "new.sorted").exists()
    )


@pytest.mark.parametrize("verb", ["cluster", "predict"])
def test_what_was_killed_at_its_very_first_is_cleared(diec, place, verb):
    "A temporary folder that has no record yet; another run's may be about to get one, and other names are not ours"
    places = [place / "out"] if verb == "cluster" else [place]
    for folder in places:
        folder.mkdir(exist_ok=True)
        for name in (".diec-abcd_012.partial", ".diec-photos.partial", ".diec-abcd_013.partial"):
            (folder / name).mkdir()
        (folder / ".diec-abcd_013.partial" / "mine").touch()
        os.utime(folder / ".diec-abcd_012.partial", (1e9, 1e9))
    assert (
        diec(
            *(
                (verb, "IN", "--unet", "digits", "-k", 2, "--out", "out", "--quiet")
                if verb == "cluster"
                else (verb, "MODEL", "IN", "--out", "x.csv", "--quiet")
            )
        )[0]
        == 0
    )
    for folder in places:
        assert sorted(p.name for p in folder.glob(".diec-*.partial")) == [
            ".diec-abcd_013.partial",
            ".diec-photos.partial",
        ]


def test_a_linked_note_in_the_folder_to_work_in_is_not_read(again, place, images, outside):
    (place / "in-groups" / "work").mkdir(parents=True)
    (place / "in-groups" / "work" / "folder").symlink_to(outside / "secret")
    (outside / "secret").write_text("PASSWORD")
    status, said = again("cluster", images, "--unet", "digits", "-k", 2)
    assert status == 2 and "PASSWORD" not in said and "folder" in said and said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", ["cluster into copies", "predict"])
def test_killed_it_resumes_and_touches_nothing(images, model, tmp_path, outside, written, command):
    "SIGKILL at several moments; the same command needs no --force afterwards, and what looks like its leftovers stays"
    place = tmp_path / "place"
    folders = [place, place / "out"] if command.startswith("cluster") else [place]
    for folder in folders:
        folder.mkdir()
        for name in {p.name for p in written[command] if (place / p).parent == folder}:
            neighbors(folder, name, outside)
    planted = [p for folder in folders for p in folder.iterdir() if p not in folders]
    before = state(*planted, outside, images)
    words = [
        sys.executable,
        "-m",
        "diec.app.cli",
        *(str({"IN": images, "MODEL": model}.get(w, w)) for w in COMMANDS[command]),
    ]
    options = dict(
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    start = time.perf_counter()
    assert subprocess.run(words, **options | {"cwd": outside.parent}).returncode == 0  # how long it takes
    length = time.perf_counter() - start
    for part in (0.8, 0.95):
        child = subprocess.Popen(words, **options)
        try:
            child.wait(part * length)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        child.communicate()
    done = subprocess.run(words, **options)
    assert done.returncode == 0, done.stderr
    assert state(*planted, outside, images) == before
    assert not [p for folder in folders for p in folder.glob(".diec-*.partial") if p not in planted]


def test_the_fault_tests_notice_what_is_touched(tmp_path):
    from tools.faults import plant, plant_within, touched

    whole, place = tmp_path / "whole", tmp_path / "killed"
    for name in ("out/model/config.json", "out/labels.csv", "out.sorted/a.png"):
        (whole / name).parent.mkdir(parents=True, exist_ok=True)
        (whole / name).touch()
    planted = plant(place, whole)
    assert len(planted) > 25 and {place, place / "out"} <= {p.parent for p in planted} and touched(planted) == 0
    with work_folder(place / "out" / "work", "diec cluster"):
        (place / "out" / "work" / "images-ab").mkdir()
    plant_within(place, planted)
    assert (place / "out" / "work" / "images-ab" / ".yours.partial") in planted and touched(planted) == 0
    (place / "out" / ".labels.csv.partial").unlink()
    (place / "out" / "model~").write_text("harm")
    (tmp_path / "yours" / "folder" / ".lock").write_text("")
    (place / ".diec-out.sorted.partial").chmod(0o600)
    assert touched(planted) == 4
