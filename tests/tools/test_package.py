"""The wheel, as a user gets it: built, installed into a fresh environment, and used from outside the checkout."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
BARE = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")} | {
    "OMP_NUM_THREADS": "1"
}  # the checkout is not to be found; two threads wait for each other on a busy machine
UNETS = ["cifar10", "digits", "fashion-mnist", "mnist", "mnist-5k", "usps"]

USE = """
import json, sys
import diec
from diec import DiEC
from diec.data.datasets import load_dataset
from diec.evaluation.metrics import scores
from diec.core.names import unet_names
digits = load_dataset("digits")
model = DiEC(10, unet="digits", random_state=0)
labels = model.fit_predict(digits.images)
print(json.dumps({"file": diec.__file__, "unets": unet_names(), "acc": scores(digits.labels, labels)["ACC"]}))
"""


def run(*command, **kwargs):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"  # a copy, so that no build folder of an earlier build leaks into the wheel
    files = ["settings.ini", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"]
    source.mkdir()
    for name in files:
        (source / name).write_bytes((ROOT / name).read_bytes())
    for path in (ROOT / "diec").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", out, source)
    return next(out.glob("diec-*.whl"))


def test_the_wheel_holds_the_modules_and_the_unets(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for module in (
        "unet",
        "features",
        "search",
        "model",
        "losses",
        "trainer",
        "estimator",
        "data/datasets",
        "hierarchy/estimator",
        "evaluation/metrics",
        "core/checkpoint",
        "app/cli",
    ):
        assert f"diec/{module}.py" in names
    templates = {"map.css", "map.js"} | {
        f"{page}.{kind}" for page in ("report", "explore") for kind in ("html", "css", "js")
    }
    assert {f"diec/app/templates/{file}" for file in templates} <= set(names)
    for unet in UNETS:
        for file in (
            "README.md",
            "model_index.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "scheduler/scheduler_config.json",
        ):
            assert f"diec/unets/{unet}/{file}" in names
    assert all(i.file_size <= 6e6 for i in zipfile.ZipFile(wheel).infolist())  # a wheel that a laptop downloads
    assert not [
        n
        for n in names
        if n.startswith(("tests/", "tools/", "workflow/", "nbs/")) or n.endswith((".pkl", ".pt", ".bin"))
    ]


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory):
    "An environment's Python with the wheel in it; all else is what is installed here already, which pip need not fetch"
    place = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", place / "env")
    python, site = place / "env" / "bin" / "python", next((place / "env").glob("lib/python3*/site-packages"))
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
        wheel,
    )
    (site / "standing.pth").write_text(
        "\n".join(sysconfig.get_paths()[k] for k in ("purelib", "platlib")) + "\n"
    )  # a path in a .pth comes last, and its own .pth files (an editable diec) do not count
    return python


def test_what_the_wheel_requires_is_what_the_lock_gives(wheel):
    with zipfile.ZipFile(wheel) as z:
        metadata = Parser().parsestr(z.read(next(n for n in z.namelist() if n.endswith("/METADATA"))).decode())
    locked = {
        canonicalize_name(name): version
        for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(), re.M)
    }
    needed = [r for r in map(Requirement, metadata.get_all("Requires-Dist")) if r.marker is None]
    assert {"torch", "diffusers", "numpy"} <= {r.name for r in needed}
    for r in needed:
        assert r.specifier.contains(locked[canonicalize_name(r.name)]), (
            f"{r}, locked is {locked[canonicalize_name(r.name)]}"
        )


def test_pip_finds_the_requirements_of_the_wheel_met(fresh):
    missing = "import sys; from importlib.metadata import requires, version; from packaging.requirements import Requirement; print([str(r) for r in map(Requirement, requires('diec')) if r.marker is None and not r.specifier.contains(version(r.name).partition('+')[0])])"
    assert run(fresh, "-c", missing, cwd=fresh.parent, env=BARE).strip() == "[]"
    assert run(fresh, "-m", "pip", "check", cwd=fresh.parent, env=BARE).strip() == "No broken requirements found."


@pytest.mark.slow
def test_it_clusters_digits_from_a_fresh_environment(fresh, tmp_path):
    found = json.loads(run(fresh, "-c", USE, cwd=tmp_path, env=BARE).splitlines()[-1])
    assert Path(found["file"]).is_relative_to(fresh.parent.parent)
    assert found["unets"] == UNETS
    assert found["acc"] > 0.9
