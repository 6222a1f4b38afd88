"Nothing that is run here needs a network, a home folder, a variable of the user's or a data package."

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diec.data.formats import read_idx
from tools import bare, sample

ROOT = Path(__file__).resolve().parents[2]
NOT_SAVED = "192.0.2.1"  # reserved for documentation (RFC 5737)

PROBE = """
import json, os, socket, sys
def error(call):
    try: call()
    except OSError as e: return type(e).__name__
with socket.socket() as server:
    server.bind(("127.0.0.1", 0)); server.listen()
    here = error(lambda: socket.create_connection(server.getsockname(), 5).close())
print(json.dumps({"home": os.listdir(os.path.expanduser("~")), "variables": sorted(os.environ), "hidden": os.listdir(sys.argv[1]), "here": here,
                  "elsewhere": error(lambda: socket.create_connection(("192.0.2.1", 80), 5)), "name": error(lambda: socket.getaddrinfo("example.org", 80))}))
"""


def run(*words, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "tools.bare", *map(str, words)], cwd=ROOT, capture_output=True, text=True, **kwargs
    )


namespaces = pytest.mark.skipif(
    not bare.namespace_prefix(), reason="this system allows no namespaces (unshare --mount --net)"
)


def modes():
    return [pytest.param([], marks=namespaces), ["--no-namespaces"]]


@pytest.mark.parametrize("mode", modes(), ids=["namespaces", "guard"])
def test_no_network_but_this_machine_an_empty_home_and_no_variables(mode, tmp_path, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "x")
    done = run(*mode, sys.executable, "-c", PROBE, tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["home"] == [] and found["here"] is None and found["elsewhere"] and found["name"]
    assert set(found["variables"]) <= {
        *bare.KEPT_VARIABLES,
        "HOME",
        "LC_CTYPE",
        "PYTHONPATH",
    }  # LC_CTYPE is Python's own doing


@namespaces
def test_data_packages_are_hidden_and_stay_as_they_are(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "images").write_text("x")
    done = run("--hide", tmp_path / "set", sys.executable, "-c", PROBE, tmp_path / "set")
    assert done.returncode == 0 and json.loads(done.stdout)["hidden"] == [], done.stderr
    assert (tmp_path / "set" / "images").read_text() == "x"


def test_what_cannot_be_hidden_is_said(tmp_path):
    done = run("--no-namespaces", "--hide", tmp_path, "true")
    assert done.returncode == 1 and str(tmp_path) in done.stderr and "cannot be hidden" in done.stderr


@pytest.mark.parametrize("mode", modes(), ids=["namespaces", "guard"])
def test_the_status_of_the_command_comes_back(mode):
    assert run(*mode, "sh", "-c", "exit 3").returncode == 3 and run(*mode, "true").returncode == 0


def test_ci_runs_the_two_commands_and_the_slow_tests_bare():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line.partition("tools.bare ")[2] for line in lines if "tools.bare" in line] == [
        "make reproduce",
        "make test",
        "make test-slow",
    ]


def test_tests_reach_no_other_machine():
    for call in (
        lambda: socket.create_connection((NOT_SAVED, 80), 5),
        lambda: socket.getaddrinfo("example.org", 80),
        lambda: socket.gethostbyname("example.org"),
    ):
        with pytest.raises(ConnectionRefusedError, match="no network here"):
            call()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, pytest.raises(ConnectionRefusedError):
        s.sendto(b"x", (NOT_SAVED, 53))
    assert os.listdir(os.environ["SCIKIT_LEARN_DATA"]) == []


@pytest.mark.slow
@namespaces
def test_what_asked_for_the_whole_of_fashion_mnist_passes_bare():
    done = run(
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "tests/method/test_unet.py",
        "-k",
        "shipped and fashion",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "1 skipped" in done.stdout and "passed" in done.stdout  # skipped: the checksum of the whole set


# --- the sample of Fashion-MNIST


def test_the_sample_is_what_its_readme_says():
    import hashlib

    text = (sample.OUT / "README.md").read_text()
    for file in sorted(sample.OUT.glob("*.gz")):
        assert f"| `{hashlib.sha256(file.read_bytes()).hexdigest()}` |" in next(
            line for line in text.splitlines() if f"`{file.name}`" in line
        )
    images, labels = (read_idx(sample.OUT / f"{kind}.gz") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    assert images.shape == (300, 28, 28) and images.dtype == np.uint8 and np.bincount(labels).tolist() == [30] * 10
    assert len(np.unique(images, axis=0)) == 300 and images.max() == 255
    assert "Zalando SE" in text and "MIT License" in text and "tools.sample" in text


def test_the_sample_is_drawn_by_its_script(tmp_path):
    rng = np.random.default_rng(0)
    for part, n in (("train", 600), ("t10k", 200)):
        images, labels = rng.integers(0, 256, (n, 28, 28), np.uint8), rng.permutation(np.arange(n, dtype=np.uint8) % 10)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(sample.to_idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(sample.to_idx(labels))
        if part == "t10k":
            last = images[np.flatnonzero(labels == 3)[5]]
    sample.main([str(tmp_path), "--out", str(tmp_path / "out")])
    drawn, classes = (read_idx(tmp_path / "out" / f"{kind}.gz") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    assert np.bincount(classes).tolist() == [30] * 10 and (drawn[240:][classes[240:] == 3][-1] == last).all()


WHOLE = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not WHOLE.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_the_sample_is_drawn_again_byte_for_byte(tmp_path):
    sample.main([str(WHOLE), "--out", str(tmp_path)])
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (sample.OUT / file.name).read_bytes()
