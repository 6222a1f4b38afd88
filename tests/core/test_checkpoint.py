"State files and folders: whole or not there, whatever is done to them."

import hashlib
import itertools
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import diec.core.checkpoint as C
from diec.core.checkpoint import fingerprint, load_state, save_state, write_tensors
from diec.core.files import atomic_file, atomic_folder

STATE = {
    "a": torch.arange(6.0).reshape(2, 3),
    3: [1, -2.5, None, 'é"\n', True, (torch.tensor(7), ())],
    "deep": {"x": {"y": {}}},
    "more": {
        "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 4),
        "bf16": torch.tensor([1.5, -2], dtype=torch.bfloat16),
        "int": torch.tensor([2**62]),
        "strided": torch.arange(12).reshape(3, 4).T[::2],
        "nan": torch.tensor([np.nan, np.inf]),
    },
}


def alike(a, b):
    if isinstance(a, torch.Tensor):
        return (
            isinstance(b, torch.Tensor)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and torch.equal(a.nan_to_num(5.0), b.nan_to_num(5.0))
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(alike, a, b))
    return type(a) is type(b) and a == b


def files(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_state_comes_back_as_it_was(tmp_path):
    save_state(tmp_path / "s", STATE)
    assert alike(load_state(tmp_path / "s"), STATE)
    assert files(tmp_path) == ["s"]


def test_an_optimizer_comes_back_as_it_was(tmp_path):
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    save_state(tmp_path / "s", optimizer.state_dict())
    assert alike(load_state(tmp_path / "s"), optimizer.state_dict())


def test_tensors_that_share_memory_do_not_share_it_afterwards(tmp_path):
    t = torch.zeros(4)
    save_state(tmp_path / "s", {"all": t, "part": t[:2], "again": t})
    back = load_state(tmp_path / "s")
    back["all"][0] = 1
    assert not back["part"].any() and not back["again"].any()


@pytest.mark.parametrize("value", [object(), np.float32(1), np.zeros(3), {1, 2}, b"bytes", 1j, lambda: 0])
def test_what_cannot_be_kept_is_refused_and_the_old_state_stays(tmp_path, value):
    save_state(tmp_path / "s", {"old": 1})
    with pytest.raises(TypeError, match=type(value).__name__):
        save_state(tmp_path / "s", {"ok": 1, "deep": [value]})
    assert load_state(tmp_path / "s") == {"old": 1} and files(tmp_path) == ["s"]


@pytest.mark.parametrize("key", [(1, 2), np.int64(3)])
def test_a_key_that_cannot_be_kept_is_refused_when_saving(tmp_path, key):
    with pytest.raises(TypeError, match="key"):
        save_state(tmp_path / "s", {key: 1})


def test_of_several_keys_that_cannot_be_kept_the_first_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"a key of state must be text or a number, got \(1, 2\)$"):
        save_state(tmp_path / "s", {"good": 0, (1, 2): 1, b"x": 2})


@pytest.mark.parametrize("key", [True, 3, 2.5, "text", "dict", "list", "tuple", "tensor", None])
def test_any_key_of_text_or_number_comes_back(tmp_path, key):
    save_state(tmp_path / "s", {key: [torch.ones(2)]})
    assert alike(load_state(tmp_path / "s"), {key: [torch.ones(2)]})


# --- the checksum


def test_the_checksum_is_of_the_text_and_of_types_shapes_and_bytes():
    t = torch.arange(6, dtype=torch.int16).reshape(2, 3)
    digest = hashlib.sha256(
        b"text"
        + b"torch.int16(2, 3)"
        + t.numpy().tobytes()
        + b"torch.float32(0, 4)"
        + b"its own"
        + b"torch.float32()"
        + np.float32(7).tobytes()
    ).hexdigest()
    tensors = [t, torch.zeros(0, 4), SimpleNamespace(checksum="its own"), torch.tensor(7.0, requires_grad=True)]
    assert fingerprint(tensors, "text") == fingerprint(iter(tensors), "text") == digest
    assert fingerprint([]) == hashlib.sha256().hexdigest()


OF_ONE = {
    "text": dict(text="b"),
    "type": dict(t=torch.zeros(2, 2, dtype=torch.int32)),
    "shape": dict(t=torch.zeros(4)),
    "a bit": dict(t=torch.tensor([[0.0, 0.0], [0.0, 1e-45]])),
    "sign of zero": dict(t=-torch.zeros(2, 2)),
    "what has its own": dict(own="c"),
}


@pytest.mark.parametrize("change", OF_ONE)
def test_a_change_anywhere_changes_the_checksum(change):
    of = lambda text="a", t=torch.zeros(2, 2), own="b": fingerprint(
        [SimpleNamespace(checksum=own), t, SimpleNamespace(checksum=own), t], text
    )
    assert of() == of() != of(**OF_ONE[change])


def test_the_checksum_is_of_what_a_tensor_holds_not_how():
    t = torch.arange(12.0).reshape(3, 4)
    assert fingerprint([t.T]) == fingerprint([t.T.contiguous()]) != fingerprint([t]) and fingerprint(
        [t[1:, ::2]]
    ) == fingerprint([t[1:, ::2].clone()])


# --- the file


def test_tensors_are_written_with_their_header_for_whom_the_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        write_tensors({"a": torch.arange(3.0)}, tmp_path / "t", {"format": "mine"})
    finally:
        os.umask(before)
    with C.safe_open(tmp_path / "t", framework="pt") as f:
        assert f.metadata() == {"format": "mine"} and f.get_tensor("a").tolist() == [0, 1, 2]
    assert (tmp_path / "t").stat().st_mode & 0o777 == 0o640


def test_a_state_of_another_format_is_refused_by_name(tmp_path):
    save_state(tmp_path / "s", {"a": torch.zeros(2)})
    with C.safe_open(tmp_path / "s", framework="pt") as f:
        header = f.metadata()
    assert header["format"] == "diec-state-1" and set(header) == {"format", "tree", "sha256"}
    write_tensors({"0": torch.zeros(2)}, tmp_path / "s", header | {"format": "diec-state-2"})
    with pytest.raises(ValueError, match="its format is 'diec-state-2', not 'diec-state-1'"):
        load_state(tmp_path / "s")
    write_tensors({"0": torch.ones(2)}, tmp_path / "s", header)
    with pytest.raises(ValueError, match="do not match their checksum; delete it to start from the beginning"):
        load_state(tmp_path / "s")


def test_any_damaged_byte_is_noticed(tmp_path):
    path = tmp_path / "s"
    small = {"a": torch.arange(3.0), "b": [1, None]}
    save_state(path, small)
    whole = path.read_bytes()
    for i, mask in enumerate(itertools.islice(itertools.cycle((1, 32, 255, 2)), len(whole))):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ mask]) + whole[i + 1 :])
        try:
            assert alike(load_state(path), small), f"byte {i} ^ {mask} changed the state unnoticed"
        except ValueError as e:
            assert "checkpoint" in str(e) and str(path) in str(e)


@pytest.mark.parametrize("old, new", [(b'"shape":[2,3]', b'"shape":[3,2]'), (b'"F32"', b'"I32"')])
def test_a_damaged_header_is_noticed(tmp_path, old, new):
    save_state(tmp_path / "s", {"a": torch.arange(6.0).reshape(2, 3)})
    whole = (tmp_path / "s").read_bytes()
    assert old in whole
    (tmp_path / "s").write_bytes(whole.replace(old, new))
    with pytest.raises(ValueError, match="damaged"):
        load_state(tmp_path / "s")


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, -100, -1])
def test_a_file_cut_short_is_refused(tmp_path, length):
    save_state(tmp_path / "s", STATE)
    whole = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(whole[:length])
    with pytest.raises(ValueError, match="damaged"):
        load_state(tmp_path / "s")


def test_other_files_are_refused(tmp_path, marker):
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        load_state(tmp_path / "nothing-here")
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path)
    save_file({"0": torch.zeros(2)}, tmp_path / "plain")
    with pytest.raises(ValueError, match="not written by save_state"):
        load_state(tmp_path / "plain")
    data, made = marker
    (tmp_path / "pickle").write_bytes(data)
    torch.save({"a": torch.zeros(2)}, tmp_path / "torch")
    for name in ("pickle", "torch"):
        with pytest.raises(ValueError, match="damaged"):
            load_state(tmp_path / name)
    assert not made.exists()


def test_an_error_in_the_middle_leaves_the_old_file(tmp_path):
    (tmp_path / "f").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        with atomic_file(tmp_path / "f") as f:
            f.write_text("half of the ne")
            raise KeyboardInterrupt
    assert (tmp_path / "f").read_text() == "old" and files(tmp_path) == ["f"]
    with atomic_file(tmp_path / "f") as f:
        f.write_text("new")
        assert (tmp_path / "f").read_text() == "old"
    assert (tmp_path / "f").read_text() == "new" and files(tmp_path) == ["f"]


def fill(folder, text):
    for i in range(3):
        (folder / f"{i}.txt").write_text(text)
    (folder / "sub").mkdir()
    (folder / "sub" / "x").write_text(text)


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "new parent" / "model"
    with atomic_folder(target) as f:
        fill(f, "old")
        (f / "only in the old one").touch()
    with atomic_folder(target) as f:
        fill(f, "new")
        assert (target / "only in the old one").exists()
    assert files(target) == ["0.txt", "1.txt", "2.txt", "sub"] and (target / "sub" / "x").read_text() == "new"
    assert files(target.parent) == ["model"]


def test_an_error_in_the_middle_leaves_the_old_folder(tmp_path):
    with atomic_folder(tmp_path / "m") as f:
        fill(f, "old")
    with pytest.raises(ZeroDivisionError):
        with atomic_folder(tmp_path / "m") as f:
            (f / "0.txt").write_text("new")
            1 / 0
    assert files(tmp_path) == ["m"] and files(tmp_path / "m") == ["0.txt", "1.txt", "2.txt", "sub"]
    assert (tmp_path / "m" / "0.txt").read_text() == "old"


@pytest.mark.parametrize("failing", [1, 2])
def test_an_error_in_the_exchange_leaves_the_old_folder(tmp_path, monkeypatch, failing):
    with atomic_folder(tmp_path / "m") as f:
        fill(f, "old")
    real, count = os.rename, itertools.count(1)

    def rename(a, b):
        if next(count) == failing:
            raise OSError("the disk is gone")
        return real(a, b)

    monkeypatch.setattr(C.os, "rename", rename)
    with pytest.raises(OSError, match="the disk is gone"):
        with atomic_folder(tmp_path / "m") as f:
            fill(f, "new")
    assert files(tmp_path) == ["m"] and (tmp_path / "m" / "0.txt").read_text() == "old"


def test_a_file_in_the_way_of_a_folder_is_refused(tmp_path):
    (tmp_path / "m").write_text("precious")
    with pytest.raises(NotADirectoryError, match="path"):
        with atomic_folder(tmp_path / "m"):
            pass
    assert (tmp_path / "m").read_text() == "precious"


def test_data_are_on_disk_before_the_name_is(tmp_path, monkeypatch):
    "A power cut keeps what was synced: the whole file must be, before the rename that shows it"
    trace, fsync = [], os.fsync

    def synced(fd):
        trace.append(("fsync", os.fstat(fd).st_ino, os.fstat(fd).st_size))
        fsync(fd)

    def moved(real):
        def move(a, b, **kwargs):
            trace.append(("move", os.stat(a).st_ino, os.stat(a).st_size))
            return real(a, b, **kwargs)

        return move

    for name in ("replace", "rename", "link"):
        monkeypatch.setattr(os, name, moved(getattr(os, name)))
    monkeypatch.setattr(os, "fsync", synced)
    for write in (
        lambda: save_state(tmp_path / "s", {"a": torch.arange(1000.0)}),
        lambda: save_state(tmp_path / "s", {"a": torch.arange(2000.0)}),
    ):  # new, and in the place of an old one
        trace.clear()
        write()
        file = "fsync", (tmp_path / "s").stat().st_ino, (tmp_path / "s").stat().st_size
        assert file in trace and ("move", *file[1:]) in trace and trace.index(file) < trace.index(("move", *file[1:]))
        assert trace[-1][:2] == ("fsync", tmp_path.stat().st_ino)  # the new name, too


def test_a_folders_files_are_on_disk_before_its_name_is(tmp_path, monkeypatch):
    trace, fsync, rename = [], os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: trace.append(os.fstat(fd).st_ino) or fsync(fd))
    monkeypatch.setattr(os, "rename", lambda a, b: trace.append("move") or rename(a, b))
    with atomic_folder(tmp_path / "m") as f:
        fill(f, "text")
    written = {p.stat().st_ino for p in (tmp_path / "m").rglob("*")}
    assert written <= set(trace[: trace.index("move")]) and trace[-1] == tmp_path.stat().st_ino


def test_a_folder_without_the_marker_is_somebodys_own(tmp_path):
    (tmp_path / "m").mkdir()
    with atomic_folder(tmp_path / "m", marker="list") as f:
        fill(f, "old")  # empty: nobody's
    with atomic_folder(tmp_path / "m", marker="list") as f:
        fill(f, "new")
    assert (tmp_path / "m" / "0.txt").read_text() == "new"
    (tmp_path / "m" / "list").unlink()
    for marker in ("list", "0.txt", "sub"):  # neither is a file of another content, or a folder, a marker
        with pytest.raises(FileExistsError, match="was not put there by diec"):
            with atomic_folder(tmp_path / "m", marker=marker) as f:
                fill(f, "third")
    assert (tmp_path / "m" / "1.txt").read_text() == "new" and files(tmp_path) == ["m"]


def test_what_the_system_refuses_keeps_its_number(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise C.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(C, "save_file", full)
    with pytest.raises(OSError) as e:
        save_state(tmp_path / "s", {"a": torch.zeros(2)})
    assert (
        e.value.errno == 28
        and e.value.strerror == os.strerror(28)
        and str(tmp_path) in str(e.value.filename)
        and files(tmp_path) == []
    )

    def other(*args, **kwargs):
        raise C.SafetensorError("something else")

    monkeypatch.setattr(C, "save_file", other)
    with pytest.raises(C.SafetensorError, match="something else"):
        save_state(tmp_path / "s", {"a": torch.zeros(2)})
