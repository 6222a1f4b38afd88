"""What the Snakefile needs: the runs of a plan, a digest of the code of each job, and the command line of papermill."""
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
# Methods whose name is no name of a file; the classical ones run as one job, and those that are fast also alone
METHODS = {"classical": ", ".join(BASELINES), "k-means": "k-means", "mixture": "Gaussian mixture",
           "spectral": "spectral", "UMAP": "UMAP + k-means", "UMAP-mixture": "UMAP + mixture"}


def _without_docstrings(source: str) -> str:
    "The syntax tree of a source, which comments, layout and docstrings do not change"
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str): body[0] = ast.Pass()
    return ast.dump(tree)


def _imported(source: str, package: str = "diec") -> set:
    "Modules of the package that a source in `package` imports, and the packages that contain them"
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom): continue
        name = resolve_name("."*node.level + (node.module or ""), package) if node.level else node.module
        if name.split(".")[0] != "diec": continue
        names = [name, *(f"{name}.{a.name}" for a in node.names)] # an imported name may be a module
        found |= {n for n in (*names, *(n.rpartition(".")[0] for n in names)) if n != "diec" and _file(n)}
    return found


def _file(module: str) -> Path | None:
    "The file of a module of the package; None if there is no such module"
    stem = ROOT.joinpath(*module.split("."))
    return next((f for f in (stem.with_suffix(".py"), stem/"__init__.py") if f.is_file()), None)


@cache
def code(notebook: str, pictures: bool = False) -> str:
    "Digest of the code of a notebook and of every module that it needs; plots count if its results are shown"
    cells = json.loads((NOTEBOOKS/f"{notebook}.ipynb").read_text())["cells"]
    is_code = lambda c: c["cell_type"] == "code" and "parameters" not in c["metadata"].get("tags", [])
    source = "\n".join("".join(c["source"]) for c in cells if is_code(c))
    todo, seen = _imported(source), set()
    while todo:
        seen.add(module := todo.pop())
        file = _file(module)
        todo |= _imported(file.read_text(), module if file.name == "__init__.py" else module.rpartition(".")[0]) - seen
    sources = [source] + [_file(m).read_text() for m in sorted(seen) if pictures or m not in PICTURES]
    return hashlib.sha256("\n".join(map(_without_docstrings, sources)).encode()).hexdigest()[:16]


def absence(dataset: str, pretrained: bool = False) -> str | None:
    "Why a data set cannot be clustered here; None if it can. `pretrained`: the batch pretrains its U-Net"
    from diec.core.names import unet_names
    from diec.data.datasets import dataset_available
    if not dataset_available(dataset): return "not on this machine"
    if not pretrained and dataset not in unet_names(): return "no pretrained U-Net yet"
    return None


def _relative(path) -> str:
    "A path relative to the notebooks, so that no path of this machine gets into an executed notebook"
    return os.path.relpath(ROOT/path, NOTEBOOKS)


def _yaml(value) -> str:
    "JSON that YAML reads the same way: YAML takes 1e-05 for a word and 1.0e-05 for a number"
    return re.sub(r"(?<![\w.\"])(-?\d+)(e[-+]?\d+)", r"\1.0\2", json.dumps(value))


def flags(parameters: dict, **paths) -> str:
    "The flags of papermill for a job; `paths` are parameters that name files"
    handed = {k: [_relative(p) for p in v] if isinstance(v, list) else _relative(v) for k, v in paths.items() if v}
    return " ".join(f"-y {shlex.quote(_yaml({k: v}))}" for k, v in (parameters | handed).items())


class Plan:
    "A plan of workflow/plans/*.yaml: which experiments, on which data sets, with which seeds and other parameters"
    def __init__(self, config: dict):
        for key in ("name", "out", "datasets", "seeds", "baselines"):
            if key not in config:
                raise ValueError(f"the plan must have {key!r}, got {sorted(config)}; run make reproduce, "
                                 "or add --configfile workflow/plans/quick.yaml")
        self.registry = registry.load()
        self.name, self.out, self.runs_folder = config["name"], config["out"], config.get("runs", "runs/batch")
        self.seeds, self.smallest = [int(s) for s in config["seeds"]], bool(config.get("smallest"))
        self.own, self.by_dataset = config.get("experiments") or {}, config.get("by_dataset") or {}
        self.variants, only = config.get("variants") or {}, config.get("only") or list(self.registry.experiments)
        self._check(config["baselines"], only)
        missing = [] if find_spec("clustpy") else [m for m in config["baselines"] if m in DEEP]
        self.methods = [m for m in config["baselines"] if m not in missing]
        absent = {d: absence(d) for d in config["datasets"]}
        absent |= {d: absence(d, pretrained=True) for d in config.get("pretrain") or []}
        self.datasets = [d for d in config["datasets"] if not absent[d]]
        self.pretrained = [d for d in config.get("pretrain") or [] if not absent[d]] # by the batch
        self.given = {"seed": self.seeds[0], "absent": {d: why for d, why in absent.items() if why},
                      "absent_methods": dict.fromkeys(missing, "ClustPy is not installed"),
                      "tables": _relative(f"{self.out}/tables")}
        self.experiments = [e for e in self.registry.experiments.values()
                            if e.name in only and (e.requires is None or find_spec(e.requires))]

    def _check(self, baselines: list, only: list):
        "Names of baselines, experiments and parameters that do not exist"
        if unknown := set(baselines) - set(METHODS) - set(DEEP):
            raise ValueError(f"baselines must be among {sorted(METHODS) + sorted(DEEP)}, got {sorted(unknown)}")
        parameters = [(name, own.get("parameters") or {}, "experiments") for name, own in self.own.items()]
        parameters += [(key.partition("/")[0], given, f"by_dataset, {d}") for d, own in self.by_dataset.items()
                       for key, given in own.items() if key not in ("seeds", "seeds_of")]
        for name, given, where in [*parameters, *((name, {}, "only") for name in only)]:
            e = self.registry.experiments.get(name)
            if e is None: raise ValueError(f"the plan, {where}: experiments.yaml has no experiment {name!r}")
            e.check_parameters(set(given), f"the plan, {where}, {name}")

    def runs(self, e: Experiment) -> list:
        "The wildcards of each run of an experiment; none if it is left out or has an input of which nothing can be had"
        without_deep = e.name == "autoencoder" and not set(self.methods) & set(WITH_AUTOENCODER)
        if e not in self.experiments or without_deep or [] in map(self._gathered, e.inputs.values()): return []
        choices = {"dataset": lambda w: self._datasets(e), "method": lambda w: self.methods,
                   "variant": lambda w: self.variants.get(w["dataset"], {}), "seed": lambda w: self._seeds(e, w)}
        found = [{}]
        for key in e.per: found = [w | {key: value} for w in found for value in choices[key](w)]
        return found

    def _datasets(self, e: Experiment) -> list:
        "The data sets of an experiment that are here; other names are points and networks that a notebook makes"
        from diec.data.datasets import dataset_names
        here = self.datasets + self.pretrained
        named = self.own.get(e.name, {}).get("datasets", here if e.datasets == "all" else self.datasets)
        return [d for d in named if d in here or d not in dataset_names()]

    def _seeds(self, e: Experiment, w: dict) -> list:
        "The seeds of the plan that neither experiment nor data set nor method excludes; none: it is not run"
        if e.seeds == "first": return self.seeds[:1]
        own, of_dataset = self.own.get(e.name, {}), self.by_dataset.get(w.get("dataset"), {})
        seeds_of = of_dataset.get("seeds_of", {})
        limits = (own.get("seeds"), of_dataset.get("seeds"), seeds_of.get(e.name),
                  seeds_of.get(f"{e.name}/{w.get('method')}"))
        return [s for s in self.seeds if all(limit is None or s in limit for limit in limits)]

    def parameters(self, e: Experiment, w: dict) -> dict:
        "What a run sets in its notebook, without paths; what is said of a data set goes before what is said in general"
        dataset, method = w.get("dataset"), w.get("method")
        found = {"dataset": dataset, "seed": int(w.get("seed", self.seeds[0]))} if dataset else {}
        if method: found["methods"] = METHODS.get(method, method)
        found |= {name: self.given[name] for name in e.given} | (e.smallest if self.smallest else {})
        found |= self.own.get(e.name, {}).get("parameters", {})
        for key in (e.name, f"{e.name}/{method}"): found |= self.by_dataset.get(dataset, {}).get(key, {})
        return found | ({"variant": w["variant"]} | self.variants[dataset][w["variant"]] if "variant" in w else {})

    def settings(self, e: Experiment, w: dict) -> str:
        "The parameters as text, which Snakemake compares with those that a job was made with"
        return json.dumps(self.parameters(e, w), sort_keys=True)

    def file(self, e: Experiment, parameter: str, w: dict) -> str:
        "A file that a run leaves"
        return "/".join([self.runs_folder, e.name, *(str(w[k]) for k in e.per)]) + SUFFIXES[e.leaves[parameter]]

    def records(self, name: str) -> list:
        "The records of all runs of an experiment"
        e = self.registry.experiments[name]
        return [self.file(e, "out", w) for w in self.runs(e)]

    def _gathered(self, source) -> list | None:
        "The files of an input that gathers runs: records, or tables; None for an input of another kind"
        if isinstance(source, list): return [f for s in source for f in self._gathered(s)]
        if source in self.registry.experiments: return self.records(source)
        if source.partition("/")[0] not in KINDS: return None
        stem, suffix = os.path.splitext(source)
        e = next(e for e in self.registry.experiments.values() if stem in e.results)
        return [f"{self.out}/{stem.format(**w)}{suffix}" for w in self.runs(e)]

    def _of_run(self, source: str, w: dict) -> str | None:
        "EXPERIMENT.PARAMETER: the file of the run for the same data set and seed; None if there is no such run"
        name, parameter = source.split(".")
        e = self.registry.experiments[name]
        without = name == "autoencoder" and w["method"] not in WITH_AUTOENCODER # trained for these methods only
        if without or w["dataset"] not in self._datasets(e): return None
        return self.file(e, parameter, {"seed": self.seeds[0], "variant": "default"} | w)

    def unet(self, dataset: str) -> str | None:
        "Folder of the U-Net that the batch pretrains; None for a data set whose U-Net comes with the package"
        return f"{self.runs_folder}/unets/{dataset}" if dataset in self.pretrained else None

    def _handed(self, source, w: dict):
        "What the parameter of an input receives: a file, a list of files, or None"
        if source == "unet": return self.unet(w["dataset"])
        files = self._gathered(source)
        return self._of_run(source, w) if files is None else files

    def inputs(self, e: Experiment, w: dict) -> list:
        "All files that a run reads; new ones make it run again"
        handed = [self._handed(s, w) for s in e.inputs.values()]
        found = [f for files in handed if files for f in (files if isinstance(files, list) else [files])]
        if "unet" in e.inputs.values() and not self.unet(w["dataset"]):
            found += sorted(str(p.relative_to(ROOT)) for p in (ROOT/"diec"/"unets"/w["dataset"]).rglob("*.safetensors"))
        for source in e.needs:
            files = self._gathered(source)
            found += [os.path.relpath(NOTEBOOKS/source, ROOT)] if files is None else files
        return found

    def flags(self, e: Experiment, w: dict) -> str:
        "The flags of papermill for a run"
        handed = {p: self._handed(source, w) for p, source in e.inputs.items()}
        leaves = {p: self.file(e, p, w) for p in e.leaves}
        written = {}
        for name, r in e.results.items():
            if r.to: written.setdefault(r.to, []).append(f"{self.out}/{name.format(**w)}")
        results = {p: names[0] if len(names) == 1 else os.path.dirname(names[0]) for p, names in written.items()}
        return flags(self.parameters(e, w), **handed, **leaves, **results)

    def results(self) -> list:
        "Every table and figure, without suffix, in the order of the registry"
        return [name.format(**w) for e in self.experiments for name in e.results for w in self.runs(e)]
