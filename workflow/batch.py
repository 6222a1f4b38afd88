"""What the Snakefile needs to know: what a plan asks for, when a job's code has changed, and papermill's command line."""
import ast
import hashlib
import json
import os
import re
import shlex
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path

from diec.evaluation.baselines import BASELINES, DEEP, WITH_AUTOENCODER
from workflow import registry
from workflow.registry import KINDS, NOTEBOOKS, ROOT, SUFFIXES, Experiment

PICTURES = "diec.evaluation.plots", "diec.evaluation.results", "diec.hierarchy.plots" # a record does not depend on them
METHODS = {"classical": ", ".join(BASELINES), "UMAP": "UMAP + k-means"} # the classical ones are quick and run as one job


def _without_docstrings(source: str) -> str:
    "Source as a syntax tree, so that comments, layout and docstrings make no difference"
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(getattr(body[0].value, "value", None), str): body[0] = ast.Pass()
    return ast.dump(tree)


def _imported(source: str, package: str = "diec") -> set:
    "Modules of the package that a source in `package` imports, with the packages that they are in"
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom): continue
        name = resolve_name("."*node.level + (node.module or ""), package) if node.level else node.module
        if name.split(".")[0] != "diec": continue
        names = [name, *(f"{name}.{a.name}" for a in node.names)] # what is imported may be a module itself
        found |= {n for n in (*names, *(n.rpartition(".")[0] for n in names)) if n != "diec" and _file(n)}
    return found


def _file(module: str) -> Path | None:
    "Where a module of the package is; None if there is none of that name"
    stem = ROOT.joinpath(*module.split("."))
    return next((f for f in (stem.with_suffix(".py"), stem/"__init__.py") if f.is_file()), None)


@cache
def code(notebook: str, pictures: bool = False) -> str:
    "Digest of a notebook's code and of every module that it needs; plots count where pictures are the result"
    cells = json.loads((NOTEBOOKS/f"{notebook}.ipynb").read_text())["cells"]
    source = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code" and "parameters" not in c["metadata"].get("tags", []))
    todo, seen = _imported(source), set()
    while todo:
        seen.add(module := todo.pop())
        file = _file(module)
        todo |= _imported(file.read_text(), module if file.name == "__init__.py" else module.rpartition(".")[0]) - seen
    parts = [_without_docstrings(source)] + [_without_docstrings(_file(m).read_text()) for m in sorted(seen) if pictures or m not in PICTURES]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def absence(dataset: str, pretrained: bool = False) -> str | None:
    "Why a data set can have no figures here; None if it can. `pretrained`: its U-Net need not be there"
    from diec.data.datasets import dataset_available
    from diec.core.names import unet_names
    if not dataset_available(dataset): return "not on this machine"
    if not pretrained and dataset not in unet_names(): return "no pretrained U-Net yet"
    return None


def _relative(path) -> str:
    "A path as the notebooks see it: no path of this machine gets into an executed notebook"
    return os.path.relpath(ROOT/path, NOTEBOOKS)


def _yaml(value) -> str:
    "JSON that YAML reads the same way: to it 1e-05 is a word, 1.0e-05 a number"
    return re.sub(r"(?<![\w.\"])(-?\d+)(e[-+]?\d+)", r"\1.0\2", json.dumps(value))


def flags(parameters: dict, **paths) -> str:
    "papermill's flags for a job; `paths` are parameters that name files"
    parameters = parameters | {k: [_relative(p) for p in v] if isinstance(v, (list, tuple)) else _relative(v) for k, v in paths.items() if v}
    return " ".join(f"-y {shlex.quote(_yaml({k: v}))}" for k, v in parameters.items())


class Plan:
    "A plan of workflow/plans/*.yaml: which experiments, on which data sets, with which seeds and other parameters"
    def __init__(self, config: dict):
        for key in ("name", "out", "datasets", "seeds", "baselines"):
            if key not in config: raise ValueError(f"the plan must have {key!r}, got {sorted(config)}; add --configfile workflow/plans/quick.yaml, or run make reproduce")
        self.registry = registry.load()
        self.name, self.out, self.runs_folder, self.seeds = config["name"], config["out"], config.get("runs", "runs/batch"), [int(s) for s in config["seeds"]]
        self.own, self.by_dataset, self.variants, left_out, pretrain = (config.get(k) or {} for k in ("experiments", "by_dataset", "variants", "leave_out", "pretrain"))
        if unknown := {*self.own, *left_out} - set(self.registry.experiments): raise ValueError(f"the plan names experiments without an entry in experiments.yaml: {sorted(unknown)}")
        if unknown := set(config["baselines"]) - set(METHODS) - set(DEEP): raise ValueError(f"baselines must be among {sorted(METHODS) + sorted(DEEP)}, got {sorted(unknown)}")
        self.smallest = bool(config.get("smallest"))
        missing = {} if find_spec("clustpy") else {m: "ClustPy is not installed" for m in config["baselines"] if m in DEEP}
        self.methods = [m for m in config["baselines"] if m not in missing]
        absent = {d: why for d in config["datasets"] if (why := absence(d))} | {d: why for d in pretrain if (why := absence(d, pretrained=True))}
        self.datasets, self.pretrained = [d for d in config["datasets"] if d not in absent], [d for d in pretrain if d not in absent]
        self.given = {"seed": self.seeds[0], "absent": absent, "absent_methods": missing, "tables": _relative(f"{self.out}/tables")}
        self.experiments = [e for e in self.registry.experiments.values() if e.name not in left_out and (e.requires is None or find_spec(e.requires))]

    def runs(self, e: Experiment) -> list:
        "The wildcards of every run of an experiment; none if it is left out or an input of it cannot be had"
        without_deep = e.name == "autoencoder" and not set(self.methods) & set(WITH_AUTOENCODER)
        if e not in self.experiments or without_deep or any(self._gathered(s) == [] for s in e.inputs.values()): return []
        found = [{"dataset": d} for d in self._datasets(e)] if "dataset" in e.per else [{}]
        choices = {"method": lambda d: self.methods, "variant": lambda d: self.variants.get(d, {}), "seed": lambda d: self._seeds(e, d)}
        for key in (k for k in e.per if k != "dataset"): found = [w | {key: v} for w in found for v in choices[key](w.get("dataset"))]
        return found

    def _datasets(self, e: Experiment) -> list:
        from diec.data.datasets import dataset_names
        here = self.datasets + self.pretrained
        named = self.own.get(e.name, {}).get("datasets", here if e.datasets == "all" else self.datasets)
        return [d for d in named if d in here or d not in dataset_names()] # other names are points and networks that an experiment makes

    def _seeds(self, e: Experiment, dataset: str) -> list:
        "The seeds of the plan that the experiment and the data set do not exclude"
        if e.seeds == "first": return self.seeds[:1]
        of_dataset = self.by_dataset.get(dataset, {})
        limits = [self.own.get(e.name, {}).get("seeds"), of_dataset.get("seeds"), of_dataset.get("seeds_of", {}).get(e.name)]
        return [s for s in self.seeds if all(s in limit for limit in limits if limit is not None)]

    def parameters(self, e: Experiment, w: dict) -> dict:
        "What a run sets in its notebook, paths aside: the narrower setting wins"
        found = {"dataset": w["dataset"], "seed": int(w.get("seed", self.seeds[0]))} if "dataset" in w else {}
        if "method" in w: found["methods"] = METHODS.get(w["method"], w["method"])
        found |= {k: self.given[k] for k in e.given} | (e.smallest if self.smallest else {}) | self.own.get(e.name, {}).get("parameters", {})
        of_dataset = self.by_dataset.get(w.get("dataset"), {})
        found |= of_dataset.get(e.name, {}) | (of_dataset.get(f"{e.name}/{w['method']}", {}) if "method" in w else {})
        return found | ({"variant": w["variant"]} | self.variants[w["dataset"]][w["variant"]] if "variant" in w else {})

    def settings(self, e: Experiment, w: dict) -> str:
        "The parameters as text, which Snakemake compares with what a job was made with"
        return json.dumps(self.parameters(e, w), sort_keys=True)

    def file(self, e: Experiment, parameter: str, w: dict) -> str:
        "The file that a run of an experiment leaves"
        return "/".join([self.runs_folder, e.name, *(str(w[k]) for k in e.per)]) + SUFFIXES[e.leaves[parameter]]

    def results_of(self, e: Experiment, w: dict) -> dict:
        "Parameter -> the results that it is for, without suffix (a result without parameter: its own name)"
        found = {}
        for name, r in e.results.items(): found.setdefault(r.to or name, []).append(f"{self.out}/{name.format(**w)}")
        return found

    def _gathered(self, source) -> list | None:
        "The records of all runs of an experiment, or a table of all data sets; None if a source is something else"
        if isinstance(source, list): return [f for s in source for f in self._gathered(s)]
        if e := self.registry.experiments.get(source): return [self.file(e, "out", w) for w in self.runs(e)]
        stem, suffix = os.path.splitext(source)
        writers = [e for e in self.registry.experiments.values() if stem in e.results]
        return [f"{self.out}/{stem.format(**w)}{suffix}" for e in writers for w in self.runs(e)] if "/" in source else None

    def _of_run(self, source: str, w: dict) -> str | None:
        "The file EXPERIMENT.PARAMETER of the run for the same data set and seed; None if there is no such run"
        name, parameter = source.split(".")
        e = self.registry.experiments[name]
        if w["dataset"] not in self._datasets(e) or name == "autoencoder" and w["method"] not in WITH_AUTOENCODER: return None
        return self.file(e, parameter, {"seed": self.seeds[0], "variant": "default"} | w)

    def unet(self, dataset: str) -> str | None:
        "Folder of the U-Net that the batch pretrains; None for a data set whose U-Net comes with the package"
        return f"{self.runs_folder}/unets/{dataset}" if dataset in self.pretrained else None

    def unet_files(self, dataset: str) -> list:
        "Files of the U-Net of a data set: what was made with it is made again when they change"
        if own := self.unet(dataset): return [own]
        return sorted(str(p.relative_to(ROOT)) for p in (ROOT/"diec"/"unets"/dataset).rglob("*.safetensors"))

    def inputs(self, e: Experiment, w: dict) -> dict:
        "Parameter -> the file or files that it receives"
        found = {p: self.unet(w["dataset"]) if s == "unet" else self._of_run(s, w) if (g := self._gathered(s)) is None else g for p, s in e.inputs.items()}
        return {p: f for p, f in found.items() if f}

    def needs(self, e: Experiment, w: dict) -> list:
        "All files that a run reads"
        handed = [f for p, f in self.inputs(e, w).items() if e.inputs[p] != "unet"]
        unet = self.unet_files(w["dataset"]) if "unet" in e.inputs.values() else []
        others = [f for s in e.needs for f in (self._gathered(s) if s.partition("/")[0] in KINDS else [f"nbs/experiments/{s}"])]
        return unet + others + [f for given in handed for f in (given if isinstance(given, list) else [given])]

    def flags(self, e: Experiment, w: dict) -> str:
        "papermill's flags for a run"
        leaves = {p: self.file(e, p, w) for p in e.leaves}
        results = {p: names[0] if len(names) == 1 else os.path.dirname(names[0]) for p, names in self.results_of(e, w).items() if "/" not in p}
        return flags(self.parameters(e, w), **self.inputs(e, w), **leaves, **results)

    def results(self) -> list:
        "Every table and figure, without suffix, in the order of the registry"
        return [name.format(**w) for e in self.experiments for name in e.results for w in self.runs(e)]
