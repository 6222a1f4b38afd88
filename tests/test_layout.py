"The shape of the package: imports run one way, and no module reaches into another's private names."
import ast
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Each part may import from itself and from what stands before it; the method's modules stand in the order in which it is read.
ORDER = ["diec.core", "diec.data", "diec.evaluation", "diec.hierarchy", "diec.unet", "diec.features", "diec.search", "diec.model", "diec.losses", "diec.trainer", "diec.estimator", "diec.app"]
WITHIN = {  # the same inside a part
    "diec.core": ["validation", "files", "compat", "names", "distributed", "interrupt", "rng", "checkpoint", "schema"],
    "diec.data": ["images", "formats", "folder", "datasets"],
    "diec.evaluation": ["metrics", "plots", "baselines", "results"],
    "diec.hierarchy": ["graph", "condensation", "selection", "estimator", "plots"],
    "diec.app": ["pretrain", "html_report", "cli"],
}
MODULES = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in sorted((ROOT/"diec").rglob("*.py")) if p.stem not in ("__init__", "_modidx")}


def place(module: str) -> tuple:
    part = next(p for p in ORDER if module == p or module.startswith(f"{p}."))
    inside = module.removeprefix(part).lstrip(".")
    return ORDER.index(part), WITHIN[part].index(inside) if inside else -1


def imports(module: str):
    "(module, name) of all that a module takes from the package, at its top and inside functions"
    package = module.rpartition(".")[0]
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if not isinstance(node, ast.ImportFrom): continue
        source = resolve_name("."*node.level + (node.module or ""), package) if node.level else node.module
        if source.split(".")[0] != "diec": continue
        for a in node.names: yield (f"{source}.{a.name}", None) if f"{source}.{a.name}" in MODULES else (source, a.name)


def test_every_module_has_its_place():
    known = [f"{part}.{m}" if m else part for part in ORDER for m in WITHIN.get(part, [""])]
    assert sorted(known) == sorted(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    against = [source for source, _ in imports(module) if source in MODULES and place(source) >= place(module)]
    assert against == []


@pytest.mark.parametrize("module", MODULES)
def test_no_private_name_of_another_module(module):
    assert [f"{source}.{name}" for source, name in imports(module) if name and name.startswith("_") and name != "__version__"] == []
