"""Reads and checks the registry of experiments, nbs/experiments/experiments.yaml, which explains each field."""
import ast
import json
import re
from dataclasses import dataclass, field, fields
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT/"nbs"/"experiments"
TABLE = (".md", ".csv", ".json")
KINDS = {"tables": TABLE, "timings": TABLE, "figures": (".svg", ".png", ".json")} # kinds of results -> their files
SUFFIXES = {"record": ".json", "weights": ".safetensors", "folder": "", "checkpoint": ".safetensors"} # of a run's files


@dataclass
class Result:
    "A table or figure of the report; its name may hold {dataset}"
    title: str
    shows: str
    group: str | None = None
    to: str | None = None
    blank: str | None = None
    not_compared: str | None = None


@dataclass
class Experiment:
    "An entry of the registry"
    name: str
    title: str
    shows: str
    group: str | None = None
    per: list = field(default_factory=list)
    datasets: str | None = None
    seeds: str | None = None
    alone: bool = False
    requires: str | None = None
    inputs: dict = field(default_factory=dict)
    needs: list = field(default_factory=list)
    given: list = field(default_factory=list)
    leaves: dict = field(default_factory=dict)
    results: dict = field(default_factory=dict)
    measured: dict = field(default_factory=dict)
    smallest: dict = field(default_factory=dict)

    def __post_init__(self):
        own = {"title": self.title, "shows": self.shows, "group": self.group}
        self.results = {name: make(Result, f"{self.name}, {name}", own | (given or {}))
                        for name, given in self.results.items()}

    def sources(self) -> list:
        "All inputs in one list"
        return [s for source in self.inputs.values() for s in (source if isinstance(source, list) else [source])]

    def check_parameters(self, names: set, where: str):
        "The `parameters` cell of the notebook must set these; papermill itself would only warn"
        path = NOTEBOOKS/f"{self.name}.ipynb"
        if not path.is_file():
            raise ValueError(f"{where}: {path} does not exist; an experiment is named like its notebook")
        if unknown := names - set(notebook_parameters(path)):
            raise ValueError(f"{where}: the `parameters` cell of {path.name} does not set {', '.join(sorted(unknown))}")


@dataclass
class Registry:
    "All experiments, the parts of the report, and how far measured columns may differ"
    groups: dict # name -> heading
    measured: dict # column -> tolerance
    experiments: dict # name -> Experiment
    others: dict # name -> Result that a command outside the batch makes

    def results(self) -> dict:
        "Name -> Result, in the order of the report"
        return {n: r for e in self.experiments.values() for n, r in e.results.items()} | self.others

    def find(self, name: str) -> tuple | None:
        "Place, Result and data set (or None) of a result such as figures/map-digits; None if the registry lacks it"
        results = self.results()
        if name in results: return list(results).index(name), results[name], None
        for place, (pattern, result) in enumerate(results.items()):
            match = re.fullmatch(re.escape(pattern).replace(r"\{dataset\}", "(?P<dataset>.+)"), name)
            if match: return place, result, match["dataset"]
        return None


def make(kind, where: str, given: dict):
    "A dataclass from a mapping; unknown and missing keys are errors"
    if not isinstance(given, dict): raise ValueError(f"{where}: must be a mapping, got {given!r}")
    allowed = [f.name for f in fields(kind) if f.name != "name"]
    if unknown := [k for k in given if k not in allowed]:
        raise ValueError(f"{where}: unknown key {', '.join(map(repr, unknown))}; allowed are {', '.join(allowed)}")
    for key in ("title", "shows"):
        if key in allowed and not given.get(key): raise ValueError(f"{where}: {key!r} is missing")
    return kind(**given, **({"name": where} if kind is Experiment else {}))


def notebook_parameters(path: Path) -> dict:
    "What the cell tagged `parameters` of a notebook sets: names -> values"
    cells = json.loads(path.read_text())["cells"]
    tagged = ["".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])]
    if not tagged: raise ValueError(f"{path.name}: tag the cell that sets the parameters `parameters`")
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(tagged[0]).body}


def _check_experiment(e: Experiment, names: set):
    "What can be wrong within one entry"
    used = {*e.inputs, *e.given, *e.leaves, *e.smallest, *(r.to for r in e.results.values() if r.to)}
    e.check_parameters(used | ({"dataset", "seed"} if "dataset" in e.per else set()), e.name)
    if not e.leaves and not e.results:
        raise ValueError(f"{e.name}: needs `results` (tables and figures) or `leaves` (the files of a run)")
    for key, found, allowed in (("per", e.per, ["dataset", "seed", "method", "variant"]),
                                ("given", e.given, ["seed", "absent", "absent_methods", "tables"]),
                                ("leaves", e.leaves.values(), SUFFIXES), ("datasets", [e.datasets or "all"], ["all"]),
                                ("seeds", [e.seeds or "first"], ["first"])):
        if wrong := [x for x in found if x not in allowed]:
            raise ValueError(f"{e.name}: {key} must be among {', '.join(allowed)}, got {wrong[0]!r}")
    for source in e.sources():
        if source != "unet" and "/" not in source and source.partition(".")[0] not in names:
            raise ValueError(f"{e.name}: the input {source!r} is not `unet`, an experiment or a table")
    for name in e.results:
        if set(re.findall(r"{(\w+)}", name)) != set(e.per):
            raise ValueError(f"{e.name}: {name} must hold what `per` names in braces ({', '.join(e.per) or 'nothing'})")


def _check_results(registry: Registry):
    "What can be wrong between entries"
    writers = {}
    for e in registry.experiments.values():
        for name in e.results:
            if name in writers: raise ValueError(f"{e.name} and {writers[name]} both write {name}")
            writers[name] = e.name
    tables = {source for e in registry.experiments.values() for source in (*e.sources(), *e.needs)}
    for source in sorted(s for s in tables if s.partition("/")[0] in KINDS):
        if source.rpartition(".")[0] not in writers:
            raise ValueError(f"no experiment writes {source}, which is an input")
    for name, result in registry.results().items():
        where = f"{writers.get(name, 'others')}, {name}"
        if name.partition("/")[0] not in KINDS:
            raise ValueError(f"{where}: a result is called {', '.join(f'{k}/NAME' for k in KINDS)}")
        if result.group not in registry.groups:
            raise ValueError(f"{where}: group must be among {', '.join(registry.groups)}, got {result.group!r}")


def load(path: Path | None = None) -> Registry:
    "Read and check the registry (default: nbs/experiments/experiments.yaml)"
    given = yaml.safe_load((path or NOTEBOOKS/"experiments.yaml").read_text())
    given["experiments"] = {name: make(Experiment, name, entry) for name, entry in given["experiments"].items()}
    given["others"] = {name: make(Result, name, entry) for name, entry in (given.get("others") or {}).items()}
    registry = make(Registry, "experiments.yaml", given)
    for e in registry.experiments.values(): _check_experiment(e, set(registry.experiments))
    _check_results(registry)
    return registry
