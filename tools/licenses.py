"""THIRD-PARTY-LICENSES.md: the license of every locked package, from what the installed packages say of themselves. `python -m tools.licenses`, after `make lock`.

With --check: say whether it is in step with the lock files.
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
HEAD = """# Licenses of the packages that DiEC stands on

DiEC itself is under the Apache License 2.0 and contains no code of others. This is what each locked package says of its own license, and which part of
`settings.ini` asks for it, directly or by way of another: *core* is what `pip install diec` brings; the rest are extras (`pip install 'diec[data]'`), and *dev* what the tests and notebooks need.

**Copyleft.** {copyleft} are under the GNU General Public License. Nothing in *core* needs them, and nothing in `diec` imports them: only the extra {extras} brings them, for the tables that compare
hierarchies with the Leiden method. If you pass on a program that contains them, the terms of that license apply to it. *certifi* and *tqdm* are under the Mozilla Public License, which covers changes to their own files.

PyTorch's CUDA build brings NVIDIA's libraries (`requirements-cuda.lock`), which are proprietary: NVIDIA's own license agreements hold for them.

Made by `python -m tools.licenses`.

| package | version | license | asked for by |
| --- | --- | --- | --- |
"""


def normalized(name: str) -> str: return re.sub(r"[-_.]+", "-", name).lower()


def settings() -> dict:
    parser = ConfigParser()
    parser.read(ROOT/"settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def extras() -> list: # in the order of settings.ini
    return [key.removesuffix("_requirements") for key in settings() if key.endswith("_requirements") and key != "slurm_requirements"]


def pins() -> dict:
    "normalized name -> version of every locked package"
    found = {}
    for lock in LOCKS: found |= {normalized(n): v for n, v in re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT/lock).read_text(), re.M)}
    return found


def installed(name: str) -> str | None:
    "The installed version without its local part, if there is one"
    try: return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError: return None


def license_of(name: str) -> str:
    "What an installed package says of its license: the SPDX expression, else the classifiers, else the first line of the free text"
    facts = metadata.metadata(name)
    if expression := facts.get("License-Expression"): return expression
    classifiers = [c.rpartition(" :: ")[2] for c in facts.get_all("Classifier") or [] if c.startswith("License :: ") and c != "License :: OSI Approved"]
    texts = [facts.get("License") or "", *(file.read_text() for file in metadata.files(name) or [] if file.name.startswith(("LICENSE", "LICENCE", "COPYING")) and file.locate().is_file())] # an old setup.py lists what it leaves out
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    return "; ".join(classifiers) or (lines[0][:80] if lines else "not stated")


def is_gpl(license_: str) -> bool:
    "Whether nothing but the GNU General Public License is offered (the Lesser one does not count)"
    return all(re.search(r"\bA?GPL|GNU (Affero )?General", part) for part in re.split("; | OR ", license_))


def closure(key: str) -> set:
    "Normalized names of all that a line of requirements in settings.ini brings, by what the installed packages require"
    todo, seen = [Requirement(r) for r in settings()[key].split()], set()
    while todo:
        requirement = todo.pop()
        if (visit := (normalized(requirement.name), frozenset(requirement.extras))) in seen or installed(requirement.name) is None: continue
        seen.add(visit)
        for line in metadata.requires(requirement.name) or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in requirement.extras or ("",)): todo.append(needed)
    return {name for name, _ in seen}


def expected() -> dict:
    "normalized name -> (version, license, who asks for it) of every locked package"
    asked = {"core": closure("requirements")} | {e: closure(f"{e}_requirements") for e in extras()}
    who = lambda name: "core" if name in asked["core"] else ", ".join(e for e, names in asked.items() if name in names) or "building"
    return {name: (version, license_of(name).replace("|", "/"), who(name)) for name, version in sorted(pins().items()) if installed(name)}


def rows(text: str) -> dict:
    "What `expected` gives, read from the table"
    cells = [[c.strip() for c in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| ")]
    return {name: (version, license_, who) for name, version, license_, who in cells[1:] if name != "---"}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the table is out of step")
    if parser.parse_args(argv).check: sys.exit(None if {n: v for n, (v, *_) in rows((ROOT/TABLE).read_text()).items()} == pins() else f"{TABLE} is out of step with the lock files; say python -m tools.licenses")
    found = expected()
    if missing := sorted(set(pins()) - set(found)): sys.exit(f"not installed here, so their licenses are not known: {', '.join(missing)}; say make env")
    gpl = {name: who for name, (_, license_, who) in found.items() if is_gpl(license_)}
    head = HEAD.format(copyleft=" and ".join(f"*{n}*" for n in gpl), extras=" and ".join(sorted({f"`{w}`" for w in gpl.values()})))
    (ROOT/TABLE).write_text(head + "".join(f"| {name} | {version} | {license_} | {who} |\n" for name, (version, license_, who) in found.items()))


if __name__ == "__main__":
    main()
