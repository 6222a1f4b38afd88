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

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT/"nbs"/"experiments"
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
    "A plan of workflow/plans/*.yaml: which data sets, seeds and baselines, and what each experiment is to do otherwise than by default"
    def __init__(self, config: dict):
        for key in ("name", "out", "datasets", "seeds", "baselines"):
            if key not in config: raise ValueError(f"the plan must have {key!r}, got {sorted(config)}; say --configfile workflow/plans/quick.yaml, or make reproduce")
        self.name, self.out, self.runs = config["name"], config["out"], config.get("runs", "runs/batch")
        self.seeds, self.methods, self._parameters = [int(s) for s in config["seeds"]], list(config["baselines"]), config.get("parameters") or {}
        self._by_dataset = config.get("by_dataset") or {} # data set -> experiment, or baselines/METHOD -> parameters
        self._transfer = config.get("transfer") or {} # data set -> parameters of experiments/transfer
        self._variants = config.get("variants") or {} # data set -> name of a way of pretraining -> parameters of experiments/pretraining
        if unknown := set(self.methods) - set(METHODS) - set(DEEP): raise ValueError(f"baselines must be among {sorted(METHODS) + sorted(DEEP)}, got {sorted(unknown)}")
        self.absent_methods = {} if find_spec("clustpy") else {m: "ClustPy is not installed" for m in self.methods if m in DEEP}
        self.methods = [m for m in self.methods if m not in self.absent_methods]
        self.absent = {d: why for d in config["datasets"] if (why := absence(d))}
        self.datasets = [d for d in config["datasets"] if d not in self.absent]
        pretrain = config.get("pretrain") or [] # sets whose U-Net does not come with the package: they take part in the main table and the maps
        self.absent |= {d: why for d in pretrain if (why := absence(d, pretrained=True))}
        self.more = [d for d in pretrain if d not in self.absent]
        studies = config.get("studies") or {} # the data sets and seeds of ablation, search, sensitivity and efficiency
        self.studied = [d for d in studies.get("datasets", self.datasets) if d in self.datasets]
        self._study_seeds = self._some(studies)
        self._shortfall = [d for d in config.get("shortfall") or [] if d in self.datasets + self.more] # where what a clustering gets wrong is looked into
        self._hierarchy = config.get("hierarchy") or {} # on what the hierarchies are compared, with which seeds; none: no hierarchies at all

    def _some(self, settings: dict) -> list:
        "The plan's seeds, or those of them that the settings of a data set or of the studies name"
        return [s for s in self.seeds if s in settings.get("seeds", self.seeds)]

    def parameters(self, experiment: str, wildcards=None, seed: int | None = None) -> dict:
        "A job's parameters: data set and seed, if it has them, and what the plan says of this experiment"
        if wildcards is None: return self._parameters.get(experiment, {})
        found = {"dataset": wildcards.dataset, "seed": int(wildcards.seed) if seed is None else seed}
        if hasattr(wildcards, "method"): found["methods"] = METHODS.get(wildcards.method, wildcards.method)
        variant = {"variant": wildcards.variant} | self._variants[wildcards.dataset][wildcards.variant] if hasattr(wildcards, "variant") else {}
        if experiment == "transfer": variant = self._transfer[wildcards.dataset]
        own = self._by_dataset.get(wildcards.dataset, {})
        of_method = own.get(f"{experiment}/{wildcards.method}", {}) if hasattr(wildcards, "method") else {}
        return found | self._parameters.get(experiment, {}) | own.get(experiment, {}) | of_method | variant

    def settings(self, experiment: str, wildcards=None, seed: int | None = None) -> str:
        "The same as text, for Snakemake to compare with what a job was made with"
        return json.dumps(self.parameters(experiment, wildcards, seed), sort_keys=True)

    def has_autoencoder(self, method: str) -> bool:
        "Whether a baseline begins with the shared autoencoder"
        return method in WITH_AUTOENCODER

    def unet(self, dataset: str) -> str | None:
        "Folder of the U-Net that the batch pretrains; None: the one that comes with the package is taken"
        return f"{self.runs}/unets/{dataset}" if dataset in self.more else None

    def weights(self, dataset: str) -> list:
        "What the U-Net of a data set is made of: a folder of the batch, or the files that come with the package"
        if dataset in self.more: return [self.unet(dataset)]
        return sorted(str(p.relative_to(ROOT)) for p in (ROOT/"diec"/"unets"/dataset).rglob("*.safetensors"))

    def seeds_of(self, dataset: str, experiment: str = "cluster") -> list:
        "The seeds with which a data set takes part in the main table; its baselines and their autoencoders may have fewer"
        own = self._by_dataset.get(dataset, {})
        seeds = self._some(own)
        return seeds if experiment == "cluster" else [s for s in seeds if s in own.get("seeds_of_baselines", seeds)]

    def records(self, experiment: str) -> list:
        "The records of the main table (cluster, autoencoder): each data set with its seeds"
        return [f"{self.runs}/{experiment}/{d}/{s}.json" for d in self.datasets + self.more for s in self.seeds_of(d, experiment)]

    def study(self, experiment: str, seeds: list | None = None) -> list:
        "The records of an experiment that looks into the method"
        return [f"{self.runs}/{experiment}/{d}/{s}.json" for d in self.studied for s in seeds or self._study_seeds]

    def baselines(self) -> list:
        return [f"{self.runs}/baselines/{d}/{m}/{s}.json" for d in self.datasets + self.more for m in self.methods for s in self.seeds_of(d, "baselines")]

    def pretraining(self) -> list:
        return [f"{self.runs}/pretraining/{d}/{v}.json" for d, variants in self._variants.items() for v in variants]

    def transfers(self) -> list:
        return [f"{self.runs}/transfer/{d}.json" for d in self._transfer]

    def encoders(self) -> list:
        return [f"{self.runs}/encoder/{d}.json" for d, variants in self._variants.items() if "default" in variants and not self.absent_methods]

    def autoencoders(self) -> list:
        return self.records("autoencoder") if any(map(self.has_autoencoder, self.methods)) else []

    def model(self, dataset: str, seed) -> str | None:
        "Folder of the fitted model of a set of images; None for other data"
        return f"{self.runs}/cluster/{dataset}/{seed}" if dataset in self.datasets + self.more else None

    def _hierarchies(self) -> list:
        "What hierarchies are compared on: of sets of images those that are here"
        from diec.data.datasets import dataset_names
        return [d for d in self._hierarchy.get("datasets", []) if d not in dataset_names() or d in self.datasets + self.more]

    def hierarchies(self) -> list:
        return [f"{self.runs}/hierarchy/{d}/{s}.json" for d in self._hierarchies() for s in self._some(self._hierarchy)]

    def results(self) -> list:
        "Every table and figure, in the order in which the report shows them"
        everywhere = self.datasets + self.more
        by_set = lambda *names, datasets=self.datasets: [f"figures/{n}-{d}" for d in datasets for n in names]
        images = [d for d in self._hierarchies() if d in self.datasets]
        hierarchy = [] if not self._hierarchy else ["tables/hierarchy", "tables/hierarchy-counts", "tables/hierarchy-update", "timings/hierarchy-update", "timings/hierarchy-cost", "figures/hierarchy-cost",
                    *by_set("hierarchy", "persistence", "condensation", "kinds", datasets=images), *(f"tables/hierarchy-{d}" for d in images),
                    "figures/communities-karate", "figures/communities-novel", "tables/hierarchy-network", "tables/hierarchy-prediction", "figures/hierarchy-prediction"]
        short = [f"{kind}-{d}" for d in self._shortfall for kind in ("tables/shortfall", "tables/confused", "figures/confused")]
        return ["figures/overview", "tables/main", "tables/published", "timings/main", *short, *(["tables/claims", "tables/encoder"] if self.encoders() else []),
                *by_set("map", "search", "coupling", datasets=everywhere), *(f"tables/map-{d}" for d in everywhere), "tables/criteria", "tables/search", "timings/search",
                *(f"tables/ablation-{g}" for g in ("terms", "denoising", "layer", "timestep", "draws")), "figures/sensitivity", "tables/sensitivity",
                *(["tables/pretraining", "figures/pretraining"] if self._variants else []), *(["tables/transfer"] if self._transfer else []), *by_set("training", "embedding", "confusion", "surest", "least-sure", "denoising"), "figures/efficiency", "tables/efficiency", "timings/efficiency-layers", "timings/efficiency", *hierarchy]
