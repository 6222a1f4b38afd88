"""Write the records that a main table was made from: `python -m workflow.restore results runs/batch`.

The repository keeps tables, not the records of single runs. This command rebuilds the records of the main table from
its CSV and its provenance, so that you can add a seed, a baseline or a data set with `make reproduce PLAN=full` without
a day of computing. Fitted models and weights cannot be rebuilt: a figure that needs them makes them again. Do not use
this command for an independent reproduction.
"""
import argparse
import json
from pathlib import Path

from diec.core.files import atomic_file
from diec.evaluation.results import read_csv
from workflow.batch import METHODS

METHOD_OF = {text: name for name, text in METHODS.items()} # as in the names of files


def place(source: dict) -> str:
    "The path of the record of a run, below the folder of runs"
    p = source["parameters"]
    method = [METHOD_OF.get(p["methods"], p["methods"])] if "methods" in p else []
    return "/".join([source["experiment"], p["dataset"], *method, f"{p['seed']}.json"])


def rows_of(source: dict, rows: list) -> list:
    "The rows of a table that a run wrote"
    p, experiment = source["parameters"], source["experiment"]
    same = [r for r in rows if (r["dataset"], r["seed"]) == (p["dataset"], p["seed"])]
    if experiment == "autoencoder": return [r for r in same if "method" not in r]
    if "methods" in p: return [r for r in same if r.get("method") in p["methods"].split(", ")]
    return [r for r in same if r.get("method", "").startswith("DiEC")]


def record(source: dict, rows: list, clock: list, facts: dict) -> dict:
    "The record of a run, from its rows of the main table and of the table of seconds"
    p = source["parameters"]
    own, keys = rows_of(source, rows), () if source["experiment"] == "autoencoder" else ("dataset", "method", "seed")
    all_images = max(d["images"] for d in facts["data"] if d["name"] == p["dataset"])
    images = own[0]["images"] if own else p["n_images"] or all_images
    data = next(d for d in facts["data"] if (d["name"], d["images"]) == (p["dataset"], images))
    scores = [{k: v for k, v in r.items() if k != "images"} for r in own]
    return {"rows": scores or [{k: p[k] for k in ("dataset", "seed")}],
            "timings": [{k: r[k] for k in (*keys, "seconds")} for r in rows_of(source, clock)],
            "provenance": source | {"data": data, "versions": facts["versions"], "device": facts["devices"][0]}}


def records(results: Path) -> dict:
    "Path below the folder of runs -> record, in the order of the table"
    facts = json.loads((results/"tables"/"main.json").read_text())
    rows = [r for r in read_csv(results/"tables"/"main.csv") if "ACC" in r]
    clock = read_csv(results/"timings"/"main.csv")
    return {place(source): record(source, rows, clock, facts) for source in facts["sources"]}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder with tables/main.* and timings/main.*")
    parser.add_argument("runs", type=Path, help="folder for the records; existing records stay as they are")
    args = parser.parse_args(argv)
    if not (args.results/"tables"/"main.json").is_file():
        parser.error(f"results must be a folder with tables/main.json, got {args.results}")
    found = records(args.results)
    new = {args.runs/name: record for name, record in found.items() if not (args.runs/name).exists()}
    for path, content in new.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as f: f.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(new)} records written to {args.runs}; {len(found) - len(new)} existed already")


if __name__ == "__main__":
    main()
