"""Write THIRD-PARTY-LICENSES.md, the license of each locked package: `python -m tools.licenses`, after `make lock`.

The licenses are those in the metadata of the installed packages. With --check: report whether the file is in step with
the lock files.
"""
import argparse
import re
import sys
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
TABLE = "THIRD-PARTY-LICENSES.md"
LOCKS = ("requirements.lock", "requirements-clustpy.lock")
HEAD = """# Licenses of the packages that DiEC uses

DiEC itself is under the Apache License 2.0 and contains no third-party code. The table lists the license in each locked
package's metadata, and which part of `settings.ini` requires the package, directly or through another one. *core* is
installed by `pip install diec`. The others are extras (`pip install 'diec[data]'`). Tests and notebooks need *dev*.

**Copyleft.** {copyleft} are under the GNU General Public License. Nothing in *core* needs them, and nothing in `diec`
imports them. Only the extra {extras} installs them, for the tables that compare hierarchies with the Leiden method. If
you distribute a program that contains them, the terms of that license apply to it. *certifi* and *tqdm* are under the
Mozilla Public License, which covers changes to their own files.

PyTorch's CUDA build installs NVIDIA's libraries (`requirements-cuda.lock`). They are proprietary, under NVIDIA's own
license agreements.

Made by `python -m tools.licenses`.

| package | version | license | required by |
| --- | --- | --- | --- |
"""


def normalized(name: str) -> str: return re.sub(r"[-_.]+", "-", name).lower()


def settings() -> dict:
    parser = ConfigParser()
    parser.read(ROOT/"settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def extras() -> list: # in the order of settings.ini
    keys = [key for key in settings() if key.endswith("_requirements") and key != "slurm_requirements"]
    return [key.removesuffix("_requirements") for key in keys]


def pins() -> dict:
    "normalized name -> version of every locked package"
    found = {}
    for lock in LOCKS:
        pinned = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT/lock).read_text(), re.M)
        found |= {normalized(name): version for name, version in pinned}
    return found


def installed(name: str) -> str | None:
    "The installed version without its local part, if there is one"
    try: return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError: return None


def license_of(name: str) -> str:
    "The license in a package's metadata: the SPDX expression, else the classifiers, else the first line of the text"
    facts = metadata.metadata(name)
    if expression := facts.get("License-Expression"): return expression
    classifiers = [c.rpartition(" :: ")[2] for c in facts.get_all("Classifier") or []
                   if c.startswith("License :: ") and c != "License :: OSI Approved"]
    files = [f for f in metadata.files(name) or [] if f.name.startswith(("LICENSE", "LICENCE", "COPYING"))]
    existing = [f for f in files if f.locate().is_file()] # an old setup.py may list files that it does not install
    texts = [facts.get("License") or "", *(f.read_text() for f in existing)]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    return "; ".join(classifiers) or (lines[0][:80] if lines else "not stated")


def is_gpl(license_: str) -> bool:
    "Whether the GNU General Public License (not the Lesser one) is the only choice"
    return all(re.search(r"\bA?GPL|GNU (Affero )?General", part) for part in re.split("; | OR ", license_))


def closure(key: str) -> set:
    "Normalized names of all packages that a key of settings.ini requires, directly or through installed packages"
    todo, seen = [Requirement(r) for r in settings()[key].split()], set()
    while todo:
        requirement = todo.pop()
        visit = normalized(requirement.name), frozenset(requirement.extras)
        if visit in seen or installed(requirement.name) is None: continue
        seen.add(visit)
        for line in metadata.requires(requirement.name) or []:
            needed = Requirement(line)
            extras_asked = requirement.extras or ("",)
            applies = needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras_asked)
            if applies: todo.append(needed)
    return {name for name, _ in seen}


def expected() -> dict:
    "normalized name -> (version, license, what requires it) of each locked package"
    required = {"core": closure("requirements")} | {e: closure(f"{e}_requirements") for e in extras()}
    def required_by(name):
        if name in required["core"]: return "core"
        return ", ".join(extra for extra, names in required.items() if name in names) or "building"
    return {name: (version, license_of(name).replace("|", "/"), required_by(name))
            for name, version in sorted(pins().items()) if installed(name)}


def rows(text: str) -> dict:
    "The rows of the table, as `expected` returns them"
    cells = [[c.strip() for c in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| ")]
    return {name: (version, license_, who) for name, version, license_, who in cells[1:] if name != "---"}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with status 1 if out of step")
    if parser.parse_args(argv).check:
        listed = {name: version for name, (version, *_) in rows((ROOT/TABLE).read_text()).items()}
        if listed == pins(): return
        sys.exit(f"{TABLE} is out of step with the lock files; run python -m tools.licenses")
    found = expected()
    if missing := sorted(set(pins()) - set(found)):
        sys.exit(f"not installed here, so their licenses are not known: {', '.join(missing)}; run make env")
    gpl = {name: who for name, (_, license_, who) in found.items() if is_gpl(license_)}
    brought_by = " and ".join(sorted({f"`{w}`" for w in gpl.values()}))
    head = HEAD.format(copyleft=" and ".join(f"*{n}*" for n in gpl), extras=brought_by)
    (ROOT/TABLE).write_text(head + "".join(f"| {name} | {' | '.join(facts)} |\n" for name, facts in found.items()))


if __name__ == "__main__":
    main()
