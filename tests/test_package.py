"""The wheel, as a user gets it: built, installed into a fresh environment, and used from outside the checkout."""
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
UNETS = ["digits", "fashion-mnist", "mnist-5k"]

USE = """
import json, sys
import diec
from diec import DiEC
from diec.data import load_dataset
from diec.metrics import scores
from diec.unet import unet_names
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
    source = out/"source" # a copy, so that no build folder of an earlier build leaks into the wheel
    files = ["settings.ini", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"]
    source.mkdir()
    for name in files: (source/name).write_bytes((ROOT/name).read_bytes())
    for path in (ROOT/"diec").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = source/path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", out, source)
    return next(out.glob("diec-*.whl"))


def test_the_wheel_holds_the_modules_and_the_unets(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for module in ("data", "unet", "hooks", "cot", "head", "losses", "trainer", "estimator", "metrics", "plots", "checkpoint"):
        assert f"diec/{module}.py" in names
    for unet in UNETS:
        for file in ("README.md", "model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"):
            assert f"diec/unets/{unet}/{file}" in names
    assert all(i.file_size <= 6e6 for i in zipfile.ZipFile(wheel).infolist()) # a wheel that a laptop downloads
    assert not [n for n in names if n.startswith(("tests/", "scripts/", "nbs/")) or n.endswith((".pkl", ".pt", ".bin"))]


def test_it_clusters_digits_from_a_fresh_environment(wheel, tmp_path):
    python = tmp_path/"env"/"bin"/"python"
    run(sys.executable, "-m", "venv", tmp_path/"env")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT/"requirements.lock", wheel)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    found = json.loads(run(python, "-c", USE, cwd=tmp_path, env=environment).splitlines()[-1])
    assert Path(found["file"]).is_relative_to(tmp_path)
    assert found["unets"] == UNETS
    assert found["acc"] > 0.9
