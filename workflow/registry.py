"""The experiments of nbs/experiments/experiments.yaml, which also explains each field; mistakes in it are reported when it is read."""
import json
import re
from dataclasses import dataclass, field, fields
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT/"nbs"/"experiments"
KINDS = {"tables": (".md", ".csv", ".json"), "timings": (".md", ".csv", ".json"), "figures": (".svg", ".png", ".json")} # of results -> their files
SUFFIXES = {"record": ".json", "weights": ".safetensors", "folder": "", "checkpoint": ".safetensors"} # of what a single run leaves


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
        inherited = {"title": self.title, "shows": self.shows, "group": self.group}
        self.results = {name: make(Result, f"{self.name}: {name}", inherited | (given or {})) for name, given in self.results.items()}

    def parameters_used(self) -> set:
        "Parameters of the notebook that the batch sets"
        return {*self.inputs, *self.given, *self.leaves, *self.smallest, *(r.to for r in self.results.values() if r.to), *({"dataset"} & set(self.per))}


@dataclass
class Registry:
    "All experiments by name, the parts of the report, and how far measured columns may differ"
    groups: dict
    measured: dict
    experiments: dict
    others: dict # results that commands outside the batch add to a report

    def results(self) -> dict:
        "Name of each result, which may hold {dataset} -> Result, in the order of the report"
        return {n: r for e in self.experiments.values() for n, r in e.results.items()} | self.others

    def find(self, name: str) -> tuple | None:
        "The place in `results`, the Result and the data set (or None) of a result such as figures/map-digits; None if it is unknown"
        results = self.results()
        if name in results: return list(results).index(name), results[name], None
        for i, (pattern, result) in enumerate(results.items()):
            before, _, after = pattern.partition("{dataset}")
            if "{dataset}" in pattern and name.startswith(before) and name.endswith(after): return i, result, name[len(before):len(name) - len(after)]
        return None


def make(kind, name: str, given: dict):
    "A dataclass from a mapping; unknown and missing keys are reported"
    if not isinstance(given, dict): raise ValueError(f"{name}: must be a mapping, got {given!r}")
    allowed = [f.name for f in fields(kind) if f.name != "name"]
    if unknown := set(given) - set(allowed): raise ValueError(f"{name}: unknown key {', '.join(map(repr, sorted(unknown)))}; allowed are {', '.join(allowed)}")
    if missing := [k for k in ("title", "shows") if k in allowed and not given.get(k)]: raise ValueError(f"{name}: {missing[0]!r} is missing")
    return kind(**given, **({"name": name} if kind is Experiment else {}))


def notebook_parameters(path: Path) -> set:
    "Names that the cell tagged `parameters` of a notebook sets"
    cells = json.loads(path.read_text())["cells"]
    source = ["".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])]
    if not source: raise ValueError(f"{path.name}: no cell has the tag `parameters`; give it to the cell that sets them")
    return set(re.findall(r"^(\w+)\s*=", source[0], re.M))


def _check(registry: Registry):
    "Report the first mistake that concerns more than one key"
    names, writers = set(registry.experiments), {}
    for e in registry.experiments.values():
        if not (path := NOTEBOOKS/f"{e.name}.ipynb").is_file(): raise ValueError(f"{e.name}: {path} does not exist; an experiment is named like its notebook")
        if unknown := e.parameters_used() - notebook_parameters(path):
            raise ValueError(f"{e.name}: the `parameters` cell of {path.name} does not set {', '.join(sorted(unknown))}")
        if not e.leaves and not e.results: raise ValueError(f"{e.name}: must have `leaves` (files of a single run) or `results` (tables and figures)")
        if wrong := set(e.per) - {"dataset", "seed", "method", "variant"}: raise ValueError(f"{e.name}: per must be among dataset, seed, method, variant, got {wrong}")
        if wrong := set(e.leaves.values()) - set(SUFFIXES): raise ValueError(f"{e.name}: leaves must be among {', '.join(SUFFIXES)}, got {', '.join(map(repr, wrong))}")
        for source in e.inputs.values():
            for s in source if isinstance(source, list) else [source]:
                if s != "unet" and "/" not in s and s.partition(".")[0] not in names: raise ValueError(f"{e.name}: the input {s!r} is no experiment, table or `unet`")
        for name in e.results:
            if name in writers: raise ValueError(f"{e.name}: {name} is already written by {writers[name]}; two experiments cannot write the same result")
            if set(re.findall(r"{(\w+)}", name)) != set(e.per): raise ValueError(f"{e.name}: the name {name} must hold {{{'}, {'.join(e.per)}}}, as `per` says" if e.per
                                                                                else f"{e.name}: the name {name} holds a placeholder that `per` does not name")
            writers[name] = e.name
    for name, result in registry.results().items():
        if name.partition("/")[0] not in KINDS: raise ValueError(f"{writers.get(name, 'others')}: a result is called {', '.join(f'{k}/NAME' for k in KINDS)}, got {name!r}")
        if result.group not in registry.groups: raise ValueError(f"{writers.get(name, 'others')}: the group of {name} must be among {', '.join(registry.groups)}, got {result.group!r}")


def load(path: Path | None = None) -> Registry:
    "Read and check the registry; without a path, nbs/experiments/experiments.yaml"
    given = yaml.safe_load((path or NOTEBOOKS/"experiments.yaml").read_text())
    given["experiments"] = {name: make(Experiment, name, entry) for name, entry in given["experiments"].items()}
    given["others"] = {name: make(Result, name, entry) for name, entry in (given.get("others") or {}).items()}
    registry = make(Registry, "experiments.yaml", given)
    _check(registry)
    return registry
