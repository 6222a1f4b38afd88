"""Keep the records of single runs with the results, and bring them back.

`python -m workflow.records keep full` copies the records that the plan has made so far from runs/ to results/records.
`python -m workflow.records restore full` copies those that are missing back, where the batch takes them for its own. So
you can add a seed, a baseline or a data set, or go on with an unfinished plan on another machine, without days of
computing. Each record names the commit of its code. Fitted models and weights are not kept: a figure that needs them
makes them again. Do not restore records for an independent reproduction.
"""
import argparse
import json
import os
import shutil
from pathlib import Path

import yaml

from diec.core.files import atomic_file
from diec.core.names import weights_checksum
from workflow.batch import Plan
from workflow.registry import NOTEBOOKS, ROOT, notebook_parameters
from workflow.reproduce import plan_file


def kept(name: str) -> Path:
    "Where the results of a plan are committed; the quick plan is a part of the full one"
    return ROOT/"results" if name in ("quick", "full") else ROOT/"results"/name


def other_settings(record: dict, wanted: dict, own: dict) -> list: # own: the values in the notebook
    "Names of the parameters that a record was not made with; one from before there was a parameter has the notebook's"
    made, data = own | record["provenance"]["parameters"], record["provenance"].get("data") or {}
    def same(name, a, b): # a: wanted
        if isinstance(a, dict) and isinstance(b, dict): # a record may have the whole recipe
            return all(b.get(key) == value for key, value in a.items())
        if name == "unet": a, b = (made.get("dataset") if u is None else u for u in (a, b)) # that of the data set
        return a == b or name == "n_images" and same_images(a, b)
    def same_images(a, b): # None: all; a record may have fewer than are wanted, where there are no more
        used = data.get("images", float("inf"))
        if not {type(a), type(b)} <= {int, type(None)}: return False # numbers of several runs
        if b is None: return used <= a
        return used < b if a is None else used == b < a
    weights = record["provenance"].get("weights") # older records do not say
    anew = weights and weights != weights_checksum(made["unet"])
    return [k for k, v in wanted.items() if not same(k, v, made[k])] + ["the weights of the U-Net"]*bool(anew)


def records(plan: Plan) -> dict:
    "The file of each record of a plan -> its parameters, and those of its notebook"
    def settings(e, w): # how many images there are may follow from an input
        own = notebook_parameters(NOTEBOOKS/f"{e.name}.ipynb")
        inputs = (k for k, source in e.inputs.items() if source != "unet" or plan.unet(w["dataset"])) # None: by name
        handed = {*inputs, *e.leaves, *(r.to for r in e.results.values())} # paths
        if own.get("n_images") is not None: handed.add("n_images")
        return {k: v for k, v in own.items() if k not in handed} | plan.parameters(e, w), own
    return {plan.file(e, name, w): settings(e, w)
            for e in plan.experiments for w in plan.runs(e) for name, kind in e.leaves.items() if kind == "record"}


def copy(plan: Plan, source: Path, target: Path, replace: bool) -> tuple: # numbers of records
    "Copy the records of a plan; those of other settings are named and left out"
    copied, missing = 0, 0
    for file, (settings, own) in records(plan).items():
        name = Path(file).relative_to(plan.runs_folder)
        if not (source/name).is_file():
            missing += 1
        elif odd := other_settings(json.loads((source/name).read_text()), settings, own):
            print(f"left out: {name} was made with other settings: {', '.join(odd)}")
            missing += 1
        elif replace or not (target/name).is_file():
            (target/name).parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(target/name) as f: shutil.copyfile(source/name, f)
            copied += 1
    return copied, missing


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["keep", "restore"])
    parser.add_argument("plan", help="a name in workflow/plans/ or a YAML file")
    parser.add_argument("--results", type=Path, help="where records/ is or will be (default: results, or results/PLAN)")
    args = parser.parse_args(argv)
    path = plan_file(args.plan)
    if not path.is_file(): parser.error(f"plan must be a YAML file or a name in workflow/plans/, got {args.plan!r}")
    plan = Plan(yaml.safe_load(path.read_text()))
    here, there = ROOT/plan.runs_folder, (args.results or kept(plan.name))/"records"
    source, target = (here, there) if args.do == "keep" else (there, here)
    copied, missing = copy(plan, source, target, replace=args.do == "keep")
    where = os.path.relpath(target), os.path.relpath(source)
    print(f"{copied} records copied to {where[0]}; {missing} of the plan are not in {where[1]}")


if __name__ == "__main__":
    main()
