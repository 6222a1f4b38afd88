"What is installed and run comes from where we say: hashes in the lock files, actions by commit, licenses known."

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from tools import licenses

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted(p.name for p in ROOT.glob("requirements*.lock"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
name_of = lambda requirement: re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def entries(lock):  # the lines of each package of a lock file
    text = "\n".join(line for line in (ROOT / lock).read_text().splitlines() if not line.startswith("#"))
    return re.split(r"\n(?! )", text.strip())


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_is_pinned_and_has_hashes(lock):
    found = entries(lock)
    assert found
    for entry in found:
        assert re.fullmatch(
            r'[\w.-]+==[\w.+]+( ; sys_platform == "linux")?( \\\n    --hash=sha256:[0-9a-f]{64})+', entry
        ), entry[:200]


def test_the_locks_agree_on_pytorch_and_name_no_place():
    hashes = {
        lock: {h for e in entries(lock) if name_of(e) == "torch" for h in re.findall("sha256:(.*?)(?: |$)", e, re.M)}
        for lock in LOCKS
    }
    assert (
        len(hashes["requirements.lock"]) > 1 and hashes["requirements-cpu.lock"] < hashes["requirements.lock"]
    )  # pip takes a file that all locks allow
    for lock in LOCKS:
        assert not re.search(r"https?://|file:|/opt/|--(index|extra-index|find-links)", (ROOT / lock).read_text())


def test_everything_is_installed_with_hashes_checked():
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^PIP .*pip install.*--require-hashes", makefile, re.M)
    for line in makefile.splitlines():
        if "-r requirements" in line and "echo" not in line:
            assert "$(PIP)" in line, line
    for word in re.findall(r"- -r (\S+)", (ROOT / "environment.yml").read_text()):
        assert word in LOCKS


def test_what_the_package_requires_is_locked():
    settings = ConfigParser()
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    cfg = settings["DEFAULT"]
    locked = {name_of(e) for lock in LOCKS for e in entries(lock)}
    wanted = {
        name_of(r)
        for key in cfg
        if key.endswith("requirements") and key != "slurm_requirements"
        for r in cfg[key].split()
    }
    assert wanted - locked == set()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_actions_are_pinned_by_commit_and_may_only_read(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    may_write = {path.stem: job["permissions"] for job in workflow["jobs"].values() if "permissions" in job}
    assert may_write in ({}, {"docs": {"contents": "write"}})  # the site is pushed to a branch
    if may_write:
        assert (
            "pull_request" not in workflow[True] and "persist-credentials: false" in path.read_text()
        )  # YAML reads `on` as True
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    for use in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use


def test_the_table_of_licenses_is_in_step_with_the_locks():
    table = licenses.rows((ROOT / licenses.TABLE).read_text())
    assert {name: version for name, (version, *_) in table.items()} == licenses.pins()


def test_the_table_says_what_the_installed_packages_say():
    table, found = licenses.rows((ROOT / licenses.TABLE).read_text()), licenses.expected()
    same_version = [name for name, (version, *_) in found.items() if licenses.installed(name) == version]
    assert len(same_version) > 100
    assert [name for name in same_version if table[name][1] != found[name][1]] == []
    assert "not stated" not in {license_ for _, license_, _ in table.values()}


@pytest.mark.parametrize(
    "said, gpl",
    [
        ("GPL-3.0-or-later", True),
        ("GNU General Public License (GPL)", True),
        ("AGPL-3.0", True),
        ("GNU Lesser General Public License v3", False),
        ("LGPL-2.1", False),
        ("MIT", False),
        ("Public Domain; GNU General Public License (GPL)", False),
        ("MIT OR GPL-2.0", False),
    ],
)
def test_what_counts_as_gpl(said, gpl):
    assert licenses.is_gpl(said) == gpl


def test_what_is_under_the_gpl_is_in_an_extra_only():
    table = licenses.rows((ROOT / licenses.TABLE).read_text())
    copyleft = {name for name, (_, license_, _) in table.items() if licenses.is_gpl(license_)}
    assert {"igraph", "leidenalg"} <= copyleft
    core = licenses.closure("requirements")
    assert {"torch", "diffusers", "numpy"} <= core and not core & copyleft
    assert [key for key in licenses.extras() if licenses.closure(f"{key}_requirements") & copyleft] == ["hierarchy"]
    said = (ROOT / licenses.TABLE).read_text().split("\n| ")[0]
    assert all(name in said for name in copyleft)
