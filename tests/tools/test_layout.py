"The shape of the house: imports run one way, no module reaches into another's private names, and every link leads somewhere."

import ast
import json
import re
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Each part may import from itself and from what stands before it; the method's modules stand in the order in which it is read.
ORDER = [
    "diec.core",
    "diec.data",
    "diec.evaluation",
    "diec.hierarchy",
    "diec.unet",
    "diec.networks",
    "diec.features",
    "diec.embeddings",
    "diec.losses",
    "diec.search",
    "diec.model",
    "diec.trainer",
    "diec.confidence",
    "diec.estimator",
    "diec.app",
]
WITHIN = {  # the same inside a part
    "diec.core": [
        "lazy",
        "validation",
        "files",
        "compat",
        "names",
        "distributed",
        "interrupt",
        "rng",
        "checkpoint",
        "schema",
        "neighbors",
    ],
    "diec.data": ["images", "formats", "folder", "datasets", "vectors"],
    "diec.evaluation": ["metrics", "plots", "baselines", "results"],
    "diec.hierarchy": ["graph", "condensation", "selection", "estimator", "plots"],
    "diec.app": ["pretrain", "image_map", "html_report", "sort", "locks", "forecast", "cli", "speed", "explore"],
}
MODULES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts): p
    for p in sorted((ROOT / "diec").rglob("*.py"))
    if p.stem not in ("__init__", "_modidx")
}


def place(module: str) -> tuple:
    part = next(p for p in ORDER if module == p or module.startswith(f"{p}."))
    inside = module.removeprefix(part).lstrip(".")
    return ORDER.index(part), WITHIN[part].index(inside) if inside else -1


def imports(module: str):
    "(module, name) of all that a module takes from the package, at its top and inside functions"
    package = module.rpartition(".")[0]
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        source = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
        if source.split(".")[0] != "diec":
            continue
        for a in node.names:
            yield (f"{source}.{a.name}", None) if f"{source}.{a.name}" in MODULES else (source, a.name)


def test_every_module_has_its_place():
    known = [f"{part}.{m}" if m else part for part in ORDER for m in WITHIN.get(part, [""])]
    assert sorted(known) == sorted(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    against = [source for source, _ in imports(module) if source in MODULES and place(source) >= place(module)]
    assert against == []


@pytest.mark.parametrize("module", MODULES)
def test_no_private_name_of_another_module(module):
    assert [
        f"{source}.{name}"
        for source, name in imports(module)
        if name and name.startswith("_") and name != "__version__"
    ] == []


PAGES = [*sorted((ROOT / "nbs").rglob("*.ipynb")), *sorted(ROOT.glob("*.md"))]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if ".ipynb_checkpoints" not in p.parts], ids=lambda p: str(p.relative_to(ROOT))
)
def test_links_lead_to_a_file(page):
    text = (
        page.read_text()
        if page.suffix == ".md"
        else "\n".join(
            "".join(c["source"]) for c in json.loads(page.read_text())["cells"] if c["cell_type"] == "markdown"
        )
    )
    links = [m[1] for m in re.finditer(r"\]\(([^)#\s]+)[^)]*\)", text) if not re.match("https?:|mailto:", m[1])]
    assert [l for l in links if not (page.parent / l).exists()] == []


def test_every_notebook_is_in_the_contents():
    contents = "".join(
        "".join(c["source"]) for c in json.loads((ROOT / "nbs" / "guides" / "contents.ipynb").read_text())["cells"]
    )
    explained = [
        p
        for p in PAGES
        if p.suffix == ".ipynb"
        and p.parent.name not in ("nbs", "experiments", ".ipynb_checkpoints")
        and p.stem not in ("contents", "05_package")
    ]
    assert [p.name for p in explained if f"{p.name})" not in contents] == []


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 130 and len(text.split()) <= 1200


def exported_cells() -> list:
    "Lines of each exported cell, without nbdev's directives"
    notebooks = [
        json.loads(p.read_text())
        for p in sorted((ROOT / "nbs").rglob("*.ipynb"))
        if ".ipynb_checkpoints" not in p.parts
    ]
    sources = ["".join(c["source"]) for nb in notebooks for c in nb["cells"] if c["cell_type"] == "code"]
    return [
        [line for line in s.strip().splitlines() if not line.startswith("#|")]
        for s in sources
        if s.lstrip().startswith("#| export")
    ]


def test_exported_cells_are_short():
    lengths = [len(cell) for cell in exported_cells()]
    assert sum(n > 25 for n in lengths) / len(lengths) <= 0.05
    assert sum(lengths) / len(lengths) <= 11
