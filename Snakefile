# Every table and figure as a file that one rule makes. `make reproduce` runs this with plans/quick.yaml, `make reproduce PLAN=full` with
# plans/full.yaml; by hand: snakemake --configfile plans/quick.yaml -c 2
#
# Two places: what single runs leave (records, weights, fitted models) goes under `runs`, and is shared by all plans; tables, figures and the
# report go under `out`. A job is run again when the code of its notebook, a module of the package that the notebook imports, or its parameters
# have changed; prose, comments, docstrings and times of files do not matter.
import sys
from pathlib import Path
sys.path.insert(0, str(workflow.basedir))
from scripts.batch import Plan, code, flags, leash

PLAN = Plan(config)
RUNS, OUT = PLAN.runs, PLAN.out
# {threads} threads, so that results do not depend on how many jobs run side by side; bars would only fill the logs
PAPERMILL = (f"export OMP_NUM_THREADS={{threads}} TQDM_DISABLE=1 MPLBACKEND=agg PYTHONHASHSEED=0; exec {leash()} papermill {{input.notebook}} {{log.notebook}} "
             "--cwd nbs/experiments --kernel python3 --no-progress-bar {params.flags}")
wildcard_constraints: dataset=r"[A-Za-z0-9-]+", seed=r"\d+", method=r"[^/]+"

rule all:
    input: PLAN.results()

# -------------------------------------------------------------------------------------------------- the peers

rule autoencoder:
    input: notebook=ancient("nbs/experiments/autoencoder.ipynb")
    output: record=f"{RUNS}/autoencoder/{{dataset}}/{{seed}}.json", weights=f"{RUNS}/autoencoder/{{dataset}}/{{seed}}.safetensors"
    log: notebook=f"{RUNS}/notebooks/autoencoder-{{dataset}}-{{seed}}.ipynb"
    params: code=code("autoencoder"), flags=lambda w, output: flags(PLAN.parameters("autoencoder", w), out=output.record, weights=output.weights)
    shell: PAPERMILL

rule peers:
    input: notebook=ancient("nbs/experiments/peers.ipynb"), weights=lambda w: f"{RUNS}/autoencoder/{w.dataset}/{w.seed}.safetensors" if PLAN.has_autoencoder(w.method) else []
    output: record=f"{RUNS}/peers/{{dataset}}/{{method}}/{{seed}}.json"
    log: notebook=f"{RUNS}/notebooks/peers-{{dataset}}-{{method}}-{{seed}}.ipynb"
    params: code=code("peers"), flags=lambda w, input, output: flags(PLAN.parameters("peers", w), autoencoder=input.get("weights"), out=output.record)
    shell: PAPERMILL
