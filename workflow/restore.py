"""The records that a main table was made from: `python -m workflow.restore results runs/batch`, before `make reproduce PLAN=full`.

The repository keeps tables, not the records of single runs. This writes those of the main table again, from the lines of its CSV and the
provenance beside it, so that a seed, a baseline or a data set can be added without a day spent on what stands there already. Fitted models and
weights cannot be had in this way: a figure that needs them has them made anew. For an independent check, leave this out.
"""
import argparse
import json
from pathlib import Path

from diec.core.files import atomic_file
from diec.evaluation.results import read_csv
from workflow.batch import METHODS

METHOD_OF = {text: name for name, text in METHODS.items()} # as in the names of files


def place(source: dict) -> str:
    "Where the batch keeps the record of a run"
    p = source["parameters"]
    middle = [METHOD_OF.get(p["methods"], p["methods"])] if "methods" in p else []
    return "/".join([source["experiment"], p["dataset"], *middle, f"{p['seed']}.json"])


def records(results: Path) -> dict:
    "Path below the folder of runs -> record, in the order of the table"
    facts = json.loads((results/"tables"/"main.json").read_text())
    rows, clock = [r for r in read_csv(results/"tables"/"main.csv") if "ACC" in r], read_csv(results/"timings"/"main.csv")
    found = {}
    for source in facts["sources"]:
        p, experiment = source["parameters"], source["experiment"]
        def of_run(r): # the lines of this run
            if (r["dataset"], r["seed"]) != (p["dataset"], p["seed"]): return False
            if experiment == "autoencoder": return "method" not in r
            return "method" in r and (r["method"] in p["methods"].split(", ") if "methods" in p else r["method"].startswith("DiEC"))
        own = [r for r in rows if of_run(r)]
        images = own[0]["images"] if own else p["n_images"] or max(d["images"] for d in facts["data"] if d["name"] == p["dataset"])
        data = next(d for d in facts["data"] if (d["name"], d["images"]) == (p["dataset"], images))
        found[place(source)] = {"rows": [{k: v for k, v in r.items() if k != "images"} for r in own] or [{k: p[k] for k in ("dataset", "seed")}],
                                "timings": [({} if experiment == "autoencoder" else {k: r[k] for k in ("dataset", "method", "seed")}) | {"seconds": r["seconds"]} for r in clock if of_run(r)],
                                "provenance": source | {"data": data, "versions": facts["versions"], "device": facts["devices"][0]}}
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder with tables/main.* and timings/main.*")
    parser.add_argument("runs", type=Path, help="folder for the records; those that are there stay as they are")
    args = parser.parse_args(argv)
    if not (args.results/"tables"/"main.json").is_file(): parser.error(f"results must be a folder with tables/main.json, got {args.results}")
    found = records(args.results)
    new = {args.runs/name: record for name, record in found.items() if not (args.runs/name).exists()}
    for path, record in new.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as f: f.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(new)} records written to {args.runs}, {len(found) - len(new)} were there")


if __name__ == "__main__":
    main()
