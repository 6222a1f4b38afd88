"""Make every table and figure of a plan, and the report: `make reproduce`, `make reproduce PLAN=full`. `python -m workflow.reproduce --help`.

A thin face of Snakemake: what is done is not done again, an interrupted run goes on where it stopped, and at the end the command names what failed.
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
SNAKEMAKE = "import sys; sys.path.append('workflow/plugins'); from snakemake.cli import main; main()" # with our lines on what it is doing


def end_with_parent() -> str:
    "A job dies with the batch that started it (where the system can do that): a killed batch leaves nobody behind who writes the same files"
    command = "setpriv --pdeathsig KILL" # util-linux; a system without it does without
    return command if shutil.which("setpriv") and subprocess.run([*command.split(), "true"], capture_output=True).returncode == 0 else ""


def failures(folders, since: float) -> list:
    "(notebook, what the failed cell said) of each executed notebook, younger than `since`, that a cell stopped"
    found = []
    for path in sorted(p for folder in folders for p in Path(folder).glob("*.ipynb")):
        if path.stat().st_mtime < since: continue
        try: book = json.loads(path.read_text())
        except json.JSONDecodeError: continue # cut off while it was written
        errors = [o for c in book["cells"] for o in c.get("outputs", ()) if o["output_type"] == "error"]
        if errors: found.append((path, f"{errors[0]['ename']}: {errors[0]['evalue'].splitlines()[0] if errors[0]['evalue'] else ''}"))
        elif not book["metadata"].get("papermill", {}).get("end_time"): found.append((path, "it did not come to its end (killed, out of memory, or its parameters were refused); runs/*/logs has papermill's words"))
    return found


def snakemake(plan: Path, config: dict, cores: str, more: list) -> int:
    "Run the batch, alone in its folder; the exit status"
    runs = config["runs"]
    Path(runs).mkdir(parents=True, exist_ok=True)
    with open(Path(runs)/".lock", "w") as lock: # given back by the system when the process ends, however it ends
        try: fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError: sys.exit(f"another batch is at work in {runs}; wait for it, or choose another folder with --runs")
        progress = [] if {"-n", "--dry-run", "--dryrun"} & set(more) else ["--logger", "jobs"]
        command = [*end_with_parent().split(), sys.executable, "-c", SNAKEMAKE, *progress, "--configfile", str(plan), "--config", *(f"{k}={v}" for k, v in config.items()), "--cores", cores, "--quiet", "rules", "host", "reason", "--nolock", *more] # --nolock last: it takes no arguments, as the two before it do
        return subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}).returncode


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", default="quick", help="a name in workflow/plans/ or a YAML file (default: quick)")
    parser.add_argument("--cores", default="all", help="how many jobs side by side, one thread each (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds, in place of the plan's")
    parser.add_argument("--out", help="folder for tables, figures and report, in place of the plan's")
    parser.add_argument("--runs", help="folder for the records of single runs, shared by all plans (default: runs/batch)")
    parser.add_argument("more", nargs=argparse.REMAINDER, help="after --: files to make in place of all, or Snakemake's own options")
    args = parser.parse_args(argv)
    os.chdir(ROOT)
    plan = Path(args.plan) if args.plan.endswith((".yaml", ".yml")) else ROOT/"workflow"/"plans"/f"{args.plan}.yaml"
    if not plan.is_file(): parser.error(f"--plan must be a YAML file or one of {', '.join(sorted(p.stem for p in (ROOT/'workflow'/'plans').glob('*.yaml')))}, got {args.plan!r}")
    settings = yaml.safe_load(plan.read_text())
    out, runs = args.out or settings["out"], args.runs or settings.get("runs", "runs/batch")
    start = time.time()
    config = {"out": out, "runs": runs} | ({"seeds": json.dumps(args.seeds)} if args.seeds else {})
    status = snakemake(plan, config, args.cores, [m for m in args.more if m != "--"])
    if status:
        failed = failures((f"{runs}/notebooks", f"{out}/notebooks"), start)
        for path, why in failed: print(f"FAILED  {path}: {why}", file=sys.stderr)
        print(f"{len(failed)} notebook(s) failed; each holds the error in its place. Run the same command again to go on: what is done stays done."
              if failed else f"The batch stopped (status {status}); see the messages above.", file=sys.stderr)
        sys.exit(1)
    table = Path(out)/"tables"/"main.md"
    if table.exists() and not args.more: print(f"\n{table.read_text()}\nReport: {out}/report.html   Tables: {out}/tables/   Figures: {out}/figures/   ({time.time() - start:.0f} s)")


if __name__ == "__main__":
    main()
