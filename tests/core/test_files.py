"A run that is killed at any operation on files leaves a working folder that the next run recognizes, and clears."

import os
import re
import sys

import pytest

from diec.core.files import atomic_file, remove_own, work_folder

OWN = re.compile(r"[.]lock|[.]diec[.]json|images/images[.](u8|json)")
KILLED = 9
HARMFUL = {"open", "os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.chmod"}


def run(folder):
    "What every command does: it works in a folder of its own, writes whole files, and removes the folder"
    with work_folder(folder, "diec predict"):
        for name in ("images.u8", "images.json"):
            with atomic_file(folder / "images" / name) as f:
                f.write_text("whole")
        remove_own(folder, OWN)


class Sorted:
    "`os.scandir` with the names in order: file systems list them in any"

    def __init__(self, entries, last_first):
        with entries:
            self.entries = iter(sorted(entries, key=lambda e: e.name, reverse=last_first))

    def __iter__(self):
        return self.entries

    def __next__(self):
        return next(self.entries)

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def run_until(n, folder, last_first=False):
    "Run in a child that is gone before its operation number `n`; whether it was"
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED
    left = iter(range(n))

    def kill(event, args):
        if event in HARMFUL and next(left, None) is None:
            os._exit(KILLED)

    try:
        scandir = os.scandir
        os.scandir = lambda path=".": Sorted(scandir(path), last_first)
        sys.addaudithook(kill)
        run(folder)
    finally:
        os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("last_first", [False, True])
def test_killed_at_any_operation_the_next_run_goes_on(tmp_path, last_first):
    n, folder = 0, tmp_path / "work"
    while run_until(n, folder, last_first):
        run(folder)
        assert not os.path.lexists(folder), f"left after a kill at operation {n}: {sorted(folder.rglob('*'))}"
        n += 1
    assert n > 30
    assert not os.path.lexists(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("last_first", [False, True])
def test_killed_twice(tmp_path, last_first):
    "What the first run left is being cleared when the second one is killed"
    for first in range(10, 40, 4):
        for second in range(0, 40, 2):
            folder = tmp_path / "work"
            run_until(first, folder, last_first)
            run_until(second, folder, last_first)
            run(folder)
            assert not os.path.lexists(folder), (first, second)
