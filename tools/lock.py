"""Write the lock files: exact versions, with the hashes of all files of each release, for any platform. `make lock`.

requirements.lock          all packages, as resolved with a CPU build of PyTorch
requirements-cpu.lock      PyTorch's CPU build for Linux: with the first, if pip knows an index that has that build
requirements-cuda.lock     what PyTorch from the package index needs on Linux: with the first, for all other machines
requirements-clustpy.lock  ClustPy, which is built from source; everything else works without it

Runs in an environment with pip-tools (tools/lock.sh). PyTorch's version is pinned first, so that the lock files do not
depend on the builds that a machine offers. The hashes cover all builds that pip finds: those of the package index and,
if pip knows an index that has one, the CPU build.
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
    keys = [key for key in cfg if key.endswith("requirements") and key not in NOT_LOCKED]
    return [*TORCH, "setuptools>=69", "wheel", *(r for key in keys for r in cfg[key].split())]


def resolve(requirements: list, index_only: bool = False, constraints: dict | None = None) -> dict:
    """name -> version of all packages that pip would install.

    `constraints` are versions to keep. With `index_only`, pip uses the package index alone, whatever its settings are.
    """
    no_settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}
    env = os.environ | (no_settings if index_only else {})
    with tempfile.TemporaryDirectory() as folder:
        report, kept = Path(folder)/"report.json", Path(folder)/"constraints.txt"
        kept.write_text("".join(f"{name}=={version}\n" for name, version in (constraints or {}).items()))
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
                        "--report", str(report), "-c", str(kept), *requirements], env=env, check=True)
        found = [d["metadata"] for d in json.loads(report.read_text())["install"]]
    return {d["name"]: Version(d["version"]).public for d in found}


def pinned(path: str) -> dict:
    "name -> version of a lock file"
    if not Path(path).exists(): return {}
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", Path(path).read_text(), re.M))


def sha256(link) -> str:
    "The hash of a file: computed for a local one, else as the package index states it"
    if link.is_file: return hashlib.sha256(Path(link.file_path).read_bytes()).hexdigest()
    if link.hash_name != "sha256": sys.exit(f"the package index has no SHA-256 for {link.filename}")
    return link.hash


def lock(pins: dict, repository, marker: str = "", local: bool = False) -> str:
    "A lock file: each package with the hashes of all files of its release, or only of a local version (1.0+cpu)"
    lines = []
    for name, version in sorted(pins.items(), key=lambda pin: pin[0].lower()):
        with repository.allow_all_wheels(): candidates = list(repository.find_all_candidates(name))
        same = [c for c in candidates if (str(c.version) if local else c.version.public) == version]
        hashes = sorted({sha256(c.link) for c in same})
        if not hashes:
            hint = "; set PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS to where PyTorch's CPU build is" if local else ""
            sys.exit(f"no file of {name} {version} was found{hint}")
        lines.append(" \\\n    ".join([f"{name}=={version}{marker}", *(f"--hash=sha256:{h}" for h in hashes)]))
    return "\n".join(lines) + "\n"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true",
                        help="keep the locked versions, add new requirements of settings.ini, and update the hashes")
    files = ("requirements.lock", "requirements-clustpy.lock", "requirements-cuda.lock")
    kept = {name: version for f in files for name, version in pinned(f).items()} if parser.parse_args(argv).keep else {}
    found = resolve(wanted(), constraints=kept)
    everything = {k: v for k, v in found.items() if k.lower() != "clustpy" and not CUDA.match(k)}
    clustpy = {k: v for k, v in found.items() if k.lower() == "clustpy"}
    cuda = {k: v for k, v in resolve(TORCH, index_only=True, constraints=kept).items() if CUDA.match(k)}
    repository = PyPIRepository([], tempfile.gettempdir())
    cpu = {"torch": f"{TORCH[0].partition('==')[2]}+cpu"}
    texts = {
        "requirements.lock": f"# Exact versions of everything, {NOTE}.\n" + lock(everything, repository),
        "requirements-cpu.lock": f"# PyTorch's CPU build, {NOTE}.\n" + lock(cpu, repository, local=True),
        "requirements-cuda.lock": f"# What PyTorch's CUDA build needs besides requirements.lock, {NOTE}.\n"
                                  + lock(cuda, repository, ' ; sys_platform == "linux"'),
        "requirements-clustpy.lock": f"# ClustPy, whose requirements are in requirements.lock; {NOTE}.\n"
                                     + lock(clustpy, repository)}
    for name, text in texts.items(): Path(name).write_text(text) # only after all have succeeded


if __name__ == "__main__":
    main()
