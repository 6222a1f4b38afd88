"""Make every table and figure of a plan, and the report.

`make reproduce` and `make reproduce PLAN=full` run it. It starts Snakemake: finished jobs are not repeated, an
interrupted run resumes when you repeat the command, and at the end it names the notebooks that failed.
"""
import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
PLANS = ROOT/"workflow"/"plans"
# Snakemake with the plugin that prints the progress
SNAKEMAKE = "import sys; sys.path.append('workflow/plugins'); from snakemake.cli import main; main()"
DRY_RUN = {"-n", "--dry-run", "--dryrun"}


def end_with_parent() -> str:
    "Prefix of a command that ends it with its parent, so that a killed batch leaves no job that writes the same files"
    command = "setpriv --pdeathsig KILL" # from util-linux; other systems do without
    works = shutil.which("setpriv") and subprocess.run([*command.split(), "true"], capture_output=True).returncode == 0
    return command if works else ""


def failures(folders, since: float) -> list:
    "(notebook, error) of each executed notebook, newer than `since`, that did not finish"
    found = []
    for path in sorted(p for folder in folders for p in Path(folder).glob("*.ipynb")):
        if path.stat().st_mtime < since: continue
        try: book = json.loads(path.read_text())
        except json.JSONDecodeError: continue # papermill was killed while it wrote the file
        errors = [o for c in book["cells"] for o in c.get("outputs", ()) if o["output_type"] == "error"]
        if errors:
            message = errors[0]["evalue"].splitlines() or [""]
            found.append((path, f"{errors[0]['ename']}: {message[0]}"))
        elif not book["metadata"].get("papermill", {}).get("end_time"):
            found.append((path, "it did not finish (killed, out of memory, or a parameter was refused); "
                                "runs/*/logs holds the messages of papermill"))
    return found


def snakemake(plan: Path, config: dict, cores: str, more: list) -> int:
    "Run the batch, as the only one in its folder; returns the exit status"
    Path(config["runs"]).mkdir(parents=True, exist_ok=True)
    with open(Path(config["runs"])/".lock", "w") as lock: # the system releases it when the process ends
        try: fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError: sys.exit(f"another batch runs in {config['runs']}; wait, or choose another folder with --runs")
        command = [*end_with_parent().split(), sys.executable, "-c", SNAKEMAKE,
                   *([] if DRY_RUN & set(more) else ["--logger", "jobs"]), "--configfile", str(plan),
                   "--config", *(f"{k}={v}" for k, v in config.items()), "--cores", cores,
                   "--quiet", "rules", "host", "reason", "--nolock", *more] # --nolock ends the list of --quiet
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": path}).returncode


def plan_file(plan: str) -> Path:
    "The file of a plan: a YAML file, or a name in workflow/plans/"
    return Path(plan) if plan.endswith((".yaml", ".yml")) else PLANS/f"{plan}.yaml"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", default="quick", help="a name in workflow/plans/ or a YAML file (default: quick)")
    parser.add_argument("--cores", default="all", help="jobs at the same time, one thread each (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds, in place of those of the plan")
    parser.add_argument("--out", help="folder for tables, figures and report, in place of that of the plan")
    parser.add_argument("--runs", help="folder for the records, shared by all plans (default: runs/batch)")
    parser.add_argument("more", nargs=argparse.REMAINDER, help="after --: files to make, or options of Snakemake")
    args = parser.parse_args(argv)
    plan = plan_file(args.plan).resolve() # where the command was given
    os.chdir(ROOT)
    if not plan.is_file():
        known = ", ".join(sorted(p.stem for p in PLANS.glob("*.yaml")))
        parser.error(f"--plan must be a YAML file or one of {known}, got {args.plan!r}")
    settings = yaml.safe_load(plan.read_text())
    out, runs = args.out or settings["out"], args.runs or settings.get("runs", "runs/batch")
    start = time.time()
    config = {"out": out, "runs": runs} | ({"seeds": json.dumps(args.seeds)} if args.seeds else {})
    if status := snakemake(plan, config, args.cores, [m for m in args.more if m != "--"]):
        failed = failures((f"{runs}/notebooks", f"{out}/notebooks"), start)
        for path, why in failed: print(f"FAILED  {path}: {why}", file=sys.stderr)
        print(f"{len(failed)} notebook(s) failed; each shows its error. Repeat the command to resume."
              if failed else f"The batch stopped (status {status}); see the messages above.", file=sys.stderr)
        sys.exit(1)
    table = Path(out)/"tables"/"main.md"
    if table.exists() and not args.more:
        print(f"\n{table.read_text()}\nReport: {out}/report.html   Tables: {out}/tables/   Figures: {out}/figures/   "
              f"({time.time() - start:.0f} s)")


if __name__ == "__main__":
    main()
