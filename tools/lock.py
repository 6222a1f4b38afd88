"""Write the lock files: exact versions, with the hash of every file that a release has, for any platform. `make lock`.

requirements.lock          everything, as it is resolved where PyTorch is a CPU build
requirements-cpu.lock      PyTorch's CPU build for Linux: with the first, for machines where pip is told of that build
requirements-cuda.lock     what the package index's PyTorch needs on Linux: with the first, for all others
requirements-clustpy.lock  ClustPy, which is built from source: where that fails all else shall stand

Runs in an environment with pip-tools (tools/lock.sh). PyTorch's version is pinned first, so that the lock does not depend on which builds a
machine is offered; the hashes are those of all builds that pip finds: the package index's and, if pip is told of one, a CPU build's.
"""
import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path

from pip._vendor.packaging.version import Version
from piptools.repositories import PyPIRepository

TORCH = ["torch==2.13.0", "torchvision==0.28.0"]
CUDA = re.compile(r"(nvidia|cuda|triton)\b")
NOT_LOCKED = {"slurm_requirements"} # for clusters only
NOTE = "made by 'make lock'. Tested with Python 3.11"


def wanted() -> list:
    "The requirements of settings.ini, all extras included"
    settings = ConfigParser()
    settings.read("settings.ini", encoding="utf-8")
    cfg = settings["DEFAULT"]
    return [*TORCH, "setuptools>=69", "wheel", *(r for key in cfg if key.endswith("requirements") and key not in NOT_LOCKED for r in cfg[key].split())]


def resolve(requirements: list, index_only: bool = False, constraints: dict | None = None) -> dict:
    "name -> version of all that pip would install, where `constraints` gives versions to keep. `index_only`: from the package index alone, whatever pip's settings say"
    env = os.environ | ({"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""} if index_only else {})
    with tempfile.TemporaryDirectory() as folder:
        report, kept = Path(folder)/"report.json", Path(folder)/"constraints.txt"
        kept.write_text("".join(f"{name}=={version}\n" for name, version in (constraints or {}).items()))
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", str(report), "-c", str(kept), *requirements], env=env, check=True)
        return {d["metadata"]["name"]: Version(d["metadata"]["version"]).public for d in json.loads(report.read_text())["install"]}


def pinned(path: str) -> dict:
    "name -> version of a lock file"
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", Path(path).read_text(), re.M)) if Path(path).exists() else {}


def sha256(link) -> str:
    "The hash of a file, as the index states it; of one on this machine, as it is"
    if link.is_file: return hashlib.sha256(Path(link.file_path).read_bytes()).hexdigest()
    if link.hash_name != "sha256": sys.exit(f"the package index states no SHA-256 of {link.filename}")
    return link.hash


def lock(pins: dict, repository, marker: str = "", local: bool = False) -> str:
    "The lines of a lock file: each package with the hashes of all files of its release, or of a local version of it (1.0+cpu) alone"
    lines = []
    for name, version in sorted(pins.items(), key=lambda pin: pin[0].lower()):
        with repository.allow_all_wheels(): links = [c.link for c in repository.find_all_candidates(name) if (str(c.version) if local else c.version.public) == version]
        hashes = sorted({sha256(link) for link in links})
        if not hashes: sys.exit(f"no file of {name} {version} was found" + "; tell pip of PyTorch's CPU build (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS)"*local)
        lines.append(" \\\n    ".join([f"{name}=={version}{marker}", *(f"--hash=sha256:{h}" for h in hashes)]))
    return "\n".join(lines) + "\n"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="keep the versions of the lock files, add what settings.ini newly asks for, and renew the hashes")
    files = ("requirements.lock", "requirements-clustpy.lock", "requirements-cuda.lock")
    kept = {name: version for f in files for name, version in pinned(f).items()} if parser.parse_args(argv).keep else {}
    found = resolve(wanted(), constraints=kept)
    everything = {k: v for k, v in found.items() if k.lower() != "clustpy" and not CUDA.match(k)}
    clustpy = {k: v for k, v in found.items() if k.lower() == "clustpy"}
    cuda = {k: v for k, v in resolve(TORCH, index_only=True, constraints=kept).items() if CUDA.match(k)}
    repository = PyPIRepository([], tempfile.gettempdir())
    texts = {"requirements.lock": f"# Exact versions of everything, {NOTE}.\n" + lock(everything, repository),
             "requirements-cpu.lock": f"# PyTorch's CPU build, {NOTE}.\n" + lock({"torch": f"{TORCH[0].partition('==')[2]}+cpu"}, repository, local=True),
             "requirements-cuda.lock": f"# What PyTorch's CUDA build needs besides requirements.lock, {NOTE}.\n" + lock(cuda, repository, ' ; sys_platform == "linux"'),
             "requirements-clustpy.lock": f"# ClustPy, whose requirements are in requirements.lock; {NOTE}.\n" + lock(clustpy, repository)}
    for name, text in texts.items(): Path(name).write_text(text) # when all are there


if __name__ == "__main__":
    main()
