# Every table and figure as a file that one rule makes. `make reproduce` runs this with plans/quick.yaml, `make reproduce PLAN=full` with
# plans/full.yaml; by hand: snakemake --configfile plans/quick.yaml -c 2 results/quick/tables/main.md
#
# Two places: what single runs leave (records, weights, fitted models, their notebooks) goes under `runs` and is shared by all plans; tables,
# figures, the notebooks that made them and the report go under `out`. A job is run again when the code of its notebook, a module of the
# package that the notebook imports, or its parameters have changed; prose, comments, docstrings and times of files do not matter.
import sys
sys.path.insert(0, str(workflow.basedir))
from scripts.batch import Plan, code, flags
from scripts.report import KINDS
from scripts.reproduce import leash

PLAN = Plan(config)
RUNS, OUT = PLAN.runs, PLAN.out
FIRST = PLAN.seeds[0]
LEASH = leash()
# one thread a job, so that results do not depend on how many run side by side; papermill's own words go into a log
# `settings` and `code` decide whether a job is run again; Snakemake leaves `flags` out of that, because they are made from paths
PAPERMILL = (f"export OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 TQDM_DISABLE=1 PYTHONHASHSEED=0; exec {LEASH} sh scripts/again.sh {{log.text}} {LEASH} papermill {{input.notebook}} {{log.notebook}} "
             "--cwd nbs/experiments --kernel python3 --no-progress-bar {params.flags}")
wildcard_constraints: dataset=r"[A-Za-z0-9-]+", seed=r"\d+", method=r"[^/]+", variant=r"[A-Za-z0-9-]+"


def notebook(name): return ancient(f"nbs/experiments/{name}.ipynb")
def weights(w): return PLAN.weights(w.dataset) # retrained U-Nets re-make what was made with them
def record(name, *wildcards): return "/".join([RUNS, name, *(f"{{{w}}}" for w in wildcards)]) + ".json"
def log_of(name, *wildcards, under=RUNS): # the executed notebook stays when a cell fails, with the error in it: Snakemake keeps logs
    stem = "-".join([name, *(f"{{{w}}}" for w in wildcards)])
    return {"notebook": f"{under}/notebooks/{stem}.ipynb", "text": f"{RUNS}/logs/{'full' if under == RUNS else 'out'}-{stem}.txt"}
def files(result): return [f"{OUT}/{result}{suffix}" for suffix in KINDS[result.partition("/")[0]][1]]
def table(name): return files(f"tables/{name}")
def timing(name): return files(f"timings/{name}")
def figure(name): return files(f"figures/{name}")


rule all: # each file by name: one that was deleted is made again, even if the report is younger than all it needs
    input: f"{OUT}/report.html", [files(result) for result in PLAN.results()]

# ---------------------------------------------------------------------------------------- single runs: a data set, a seed

rule autoencoder:
    input: notebook=notebook("autoencoder")
    output: record=record("autoencoder", "dataset", "seed"), weights=f"{RUNS}/autoencoder/{{dataset}}/{{seed}}.safetensors"
    log: **log_of("autoencoder", "dataset", "seed")
    params: code=code("autoencoder"), settings=lambda w: PLAN.settings("autoencoder", w), flags=lambda w, output: flags(PLAN.parameters("autoencoder", w), out=output.record, weights=output.weights)
    shell: PAPERMILL

rule peers:
    input: notebook=notebook("peers"), weights=lambda w: f"{RUNS}/autoencoder/{w.dataset}/{w.seed}.safetensors" if PLAN.has_autoencoder(w.method) else []
    output: record=record("peers", "dataset", "method", "seed")
    log: **log_of("peers", "dataset", "method", "seed")
    params: code=code("peers"), settings=lambda w: PLAN.settings("peers", w), flags=lambda w, input, output: flags(PLAN.parameters("peers", w), autoencoder=input.get("weights"), out=output.record)
    shell: PAPERMILL

rule cluster:
    input: notebook=notebook("cluster"), unet=weights
    output: record=record("cluster", "dataset", "seed"), model=directory(f"{RUNS}/cluster/{{dataset}}/{{seed}}")
    log: **log_of("cluster", "dataset", "seed")
    params: code=code("cluster"), settings=lambda w: PLAN.settings("cluster", w), flags=lambda w, output: flags(PLAN.parameters("cluster", w), unet=PLAN.unet(w.dataset), out=output.record, model=output.model)
    shell: PAPERMILL

rule ablation:
    input: notebook=notebook("ablation"), unet=weights
    output: record=record("ablation", "dataset", "seed")
    log: **log_of("ablation", "dataset", "seed")
    params: code=code("ablation"), settings=lambda w: PLAN.settings("ablation", w), flags=lambda w, output: flags(PLAN.parameters("ablation", w), out=output.record)
    shell: PAPERMILL

rule search:
    input: notebook=notebook("search"), unet=weights
    output: record=record("search", "dataset", "seed")
    log: **log_of("search", "dataset", "seed")
    params: code=code("search"), settings=lambda w: PLAN.settings("search", w), flags=lambda w, output: flags(PLAN.parameters("search", w), out=output.record)
    shell: PAPERMILL

rule sensitivity:
    input: notebook=notebook("sensitivity"), unet=weights
    output: record=record("sensitivity", "dataset", "seed")
    log: **log_of("sensitivity", "dataset", "seed")
    params: code=code("sensitivity"), settings=lambda w: PLAN.settings("sensitivity", w), flags=lambda w, output: flags(PLAN.parameters("sensitivity", w), out=output.record)
    shell: PAPERMILL

rule efficiency: # the clock is read: nothing runs beside it
    input: notebook=notebook("efficiency"), unet=weights
    output: record=record("efficiency", "dataset", "seed")
    log: **log_of("efficiency", "dataset", "seed")
    threads: workflow.cores or 1
    params: code=code("efficiency"), settings=lambda w: PLAN.settings("efficiency", w), flags=lambda w, output: flags(PLAN.parameters("efficiency", w), out=output.record)
    shell: PAPERMILL

rule unet: # by the default recipe; goes on from its checkpoint. One that is there stays, whatever happens to the code: to make it anew, delete its folder
    output: directory(f"{RUNS}/unets/{{dataset}}")
    log: f"{RUNS}/logs/unet-{{dataset}}.txt"
    params: checkpoint=lambda w: f"{RUNS}/unets/{w.dataset}.safetensors"
    shell: f"export OMP_NUM_THREADS=1; exec {LEASH} python -m diec.app.pretrain {{wildcards.dataset}} --out {{output}} --checkpoint {{params.checkpoint}} --quiet > {{log}} 2>&1"

rule pretraining: # its checkpoint is no output: a run that was cut off goes on from it
    input: notebook=notebook("pretraining")
    output: record=record("pretraining", "dataset", "variant")
    log: **log_of("pretraining", "dataset", "variant")
    params: code=code("pretraining"), settings=lambda w: PLAN.settings("pretraining", w, FIRST), flags=lambda w, output: flags(PLAN.parameters("pretraining", w, FIRST), out=output.record, checkpoint=output.record.replace(".json", ".safetensors"))
    shell: PAPERMILL

rule hierarchy: # over points that are drawn, tables, a network, or images in the embedding of a fitted model
    input: notebook=notebook("hierarchy"), model=lambda w: PLAN.model(w.dataset, w.seed) or []
    output: record=record("hierarchy", "dataset", "seed")
    log: **log_of("hierarchy", "dataset", "seed")
    params: code=code("hierarchy"), settings=lambda w: PLAN.settings("hierarchy", w), flags=lambda w, output: flags(PLAN.parameters("hierarchy", w), model=PLAN.model(w.dataset, w.seed), out=output.record)
    shell: PAPERMILL

# ---------------------------------------------------------------------------------------- tables, over data sets and seeds

rule main_table:
    input: notebook=notebook("main_table"), published="nbs/experiments/published.yaml",
        records=PLAN.records("cluster") + PLAN.peers(), autoencoders=PLAN.autoencoders()
    output: table("main"), table("published"), timing("main")
    log: **log_of("main_table", under=OUT)
    params: code=code("main_table", pictures=True), settings=str((PLAN.absent, PLAN.absent_methods)), flags=lambda w, input: flags({"absent": PLAN.absent, "absent_methods": PLAN.absent_methods}, records=[*input.records, *input.autoencoders], out=f"{OUT}/tables/main", published=f"{OUT}/tables/published", timings=f"{OUT}/timings/main")
    shell: PAPERMILL

rule ablation_table:
    input: notebook=notebook("ablation_table"), records=PLAN.study("ablation")
    output: [table(f"ablation-{g}") for g in ("terms", "denoising", "layer", "timestep", "draws")]
    log: **log_of("ablation_table", under=OUT)
    params: code=code("ablation_table", pictures=True), flags=lambda w, input: flags({}, records=input.records, out=f"{OUT}/tables")
    shell: PAPERMILL

rule search_table:
    input: notebook=notebook("search_table"), records=PLAN.study("search")
    output: table("search"), timing("search")
    log: **log_of("search_table", under=OUT)
    params: code=code("search_table", pictures=True), flags=lambda w, input: flags({}, records=input.records, out=f"{OUT}/tables/search", timings=f"{OUT}/timings/search")
    shell: PAPERMILL

rule sensitivity_figure:
    input: notebook=notebook("sensitivity_figure"), records=PLAN.study("sensitivity")
    output: figure("sensitivity"), table("sensitivity")
    log: **log_of("sensitivity_figure", under=OUT)
    params: code=code("sensitivity_figure", pictures=True), flags=lambda w, input: flags({}, records=input.records, out=f"{OUT}/figures/sensitivity", table=f"{OUT}/tables/sensitivity")
    shell: PAPERMILL

rule pretraining_table:
    input: notebook=notebook("pretraining_table"), records=PLAN.pretraining()
    output: table("pretraining"), figure("pretraining")
    log: **log_of("pretraining_table", under=OUT)
    params: code=code("pretraining_table", pictures=True), flags=lambda w, input: flags({}, records=input.records, out=f"{OUT}/tables/pretraining", figure=f"{OUT}/figures/pretraining")
    shell: PAPERMILL

rule efficiency_table:
    input: notebook=notebook("efficiency_table"), records=PLAN.study("efficiency", [FIRST])
    output: table("efficiency"), timing("efficiency"), timing("efficiency-layers"), figure("efficiency")
    log: **log_of("efficiency_table", under=OUT)
    params: code=code("efficiency_table", pictures=True), flags=lambda w, input: flags({}, records=input.records, out=f"{OUT}/tables/efficiency", timings=f"{OUT}/timings/efficiency", layers=f"{OUT}/timings/efficiency-layers", figure=f"{OUT}/figures/efficiency")
    shell: PAPERMILL

rule hierarchy_table:
    input: notebook=notebook("hierarchy_table"), records=PLAN.hierarchies()
    output: table("hierarchy"), table("hierarchy-counts"), table("hierarchy-update"), timing("hierarchy-update")
    log: **log_of("hierarchy_table", under=OUT)
    params: code=code("hierarchy_table", pictures=True), flags=lambda w, input: flags({}, records=input.records, out=f"{OUT}/tables/hierarchy", counts=f"{OUT}/tables/hierarchy-counts", updates=f"{OUT}/tables/hierarchy-update", timings=f"{OUT}/timings/hierarchy-update")
    shell: PAPERMILL

rule hierarchy_cost: # the clock is read: nothing runs beside it
    input: notebook=notebook("hierarchy_cost")
    output: timing("hierarchy-cost"), figure("hierarchy-cost")
    log: **log_of("hierarchy_cost", under=OUT)
    threads: workflow.cores or 1
    params: code=code("hierarchy_cost", pictures=True), settings=PLAN.settings("hierarchy_cost"), flags=lambda w: flags(PLAN.parameters("hierarchy_cost"), out=f"{OUT}/timings/hierarchy-cost", figure=f"{OUT}/figures/hierarchy-cost")
    shell: PAPERMILL

rule hierarchy_network:
    input: notebook=notebook("hierarchy_network")
    output: table("hierarchy-network"), figure("communities-karate"), figure("communities-novel")
    log: **log_of("hierarchy_network", under=OUT)
    params: code=code("hierarchy_network", pictures=True), settings=PLAN.settings("hierarchy_network"), flags=lambda w: flags(PLAN.parameters("hierarchy_network"), out=f"{OUT}/tables/hierarchy-network", figures=f"{OUT}/figures")
    shell: PAPERMILL

rule hierarchy_prediction:
    input: notebook=notebook("hierarchy_prediction")
    output: table("hierarchy-prediction"), figure("hierarchy-prediction")
    log: **log_of("hierarchy_prediction", under=OUT)
    params: code=code("hierarchy_prediction", pictures=True), settings=PLAN.settings("hierarchy_prediction"), flags=lambda w: flags(PLAN.parameters("hierarchy_prediction"), out=f"{OUT}/tables/hierarchy-prediction", figure=f"{OUT}/figures/hierarchy-prediction")
    shell: PAPERMILL

# ---------------------------------------------------------------------------------------- figures, a data set at a time, first seed

rule overview:
    input: notebook=notebook("overview")
    output: figure("overview")
    log: **log_of("overview", under=OUT)
    params: code=code("overview", pictures=True), flags=lambda w: flags({"seed": FIRST}, out=f"{OUT}/figures/overview")
    shell: PAPERMILL

rule map:
    input: notebook=notebook("map"), unet=weights
    output: [figure(f"{n}-{{dataset}}") for n in ("map", "search", "coupling")], table("map-{dataset}")
    log: **log_of("map", "dataset", under=OUT)
    params: code=code("map", pictures=True), settings=lambda w: PLAN.settings("map", w, FIRST), flags=lambda w: flags(PLAN.parameters("map", w, FIRST), unet=PLAN.unet(w.dataset), table=f"{OUT}/tables/map-{w.dataset}", out=f"{OUT}/figures")
    shell: PAPERMILL

rule criteria:
    input: notebook=notebook("criteria"), maps=[f"{OUT}/tables/map-{d}.csv" for d in PLAN.datasets + PLAN.more]
    output: table("criteria")
    log: **log_of("criteria", under=OUT)
    params: code=code("criteria", pictures=True), flags=lambda w, input: flags({}, maps=input.maps, out=f"{OUT}/tables/criteria")
    shell: PAPERMILL

rule transfer: # goes on from its checkpoint, like pretraining
    input: notebook=notebook("transfer")
    output: record("transfer", "dataset")
    log: **log_of("transfer", "dataset")
    params: code=code("transfer"), settings=lambda w: PLAN.settings("transfer", w, FIRST), flags=lambda w, output: flags(PLAN.parameters("transfer", w, FIRST), out=output[0], checkpoint=output[0].replace(".json", ".safetensors"))
    shell: PAPERMILL

rule transfer_table:
    input: notebook=notebook("transfer_table"), records=PLAN.transfers()
    output: table("transfer")
    log: **log_of("transfer_table", under=OUT)
    params: code=code("transfer_table", pictures=True), flags=lambda w, input: flags({}, records=input.records, out=f"{OUT}/tables/transfer")
    shell: PAPERMILL

rule encoder: # the clock decides how long it trains: nothing runs beside it
    input: notebook=notebook("encoder"), unet=f"{RUNS}/pretraining/{{dataset}}/default.json"
    output: record(*"encoder dataset".split())
    log: **log_of("encoder", "dataset")
    threads: workflow.cores or 1
    params: code=code("encoder"), settings=lambda w: PLAN.settings("encoder", w, FIRST), flags=lambda w, input, output: flags(PLAN.parameters("encoder", w, FIRST), unet_record=input.unet, out=output[0])
    shell: PAPERMILL

rule claims:
    input: notebook=notebook("claims"), encoders=PLAN.encoders(),
        tables=[f"{OUT}/tables/{t}.csv" for t in (*(f"map-{d}" for d in PLAN.datasets + PLAN.more), "search", "ablation-terms", "ablation-layer", "ablation-denoising")]
    output: table("claims"), table("encoder")
    log: **log_of("claims", under=OUT)
    params: code=code("claims", pictures=True), flags=lambda w, input: flags({}, tables=f"{OUT}/tables", encoders=input.encoders, out=f"{OUT}/tables/claims")
    shell: PAPERMILL

rule portrait:
    input: notebook=notebook("portrait"), model=f"{RUNS}/cluster/{{dataset}}/{FIRST}", record=f"{RUNS}/cluster/{{dataset}}/{FIRST}.json"
    output: [figure(f"{n}-{{dataset}}") for n in ("training", "embedding", "surest", "least-sure", "confusion", "denoising")]
    log: **log_of("portrait", "dataset", under=OUT)
    params: code=code("portrait", pictures=True), settings=lambda w: PLAN.settings("portrait", w, FIRST), flags=lambda w, input: flags(PLAN.parameters("portrait", w, FIRST), model=input.model, record=input.record, out=f"{OUT}/figures")
    shell: PAPERMILL

rule shortfall:
    input: notebook=notebook("shortfall"), model=f"{RUNS}/cluster/{{dataset}}/{FIRST}", record=f"{RUNS}/cluster/{{dataset}}/{FIRST}.json"
    output: table("shortfall-{dataset}"), table("confused-{dataset}"), figure("confused-{dataset}")
    log: **log_of("shortfall", "dataset", under=OUT)
    params: code=code("shortfall", pictures=True), settings=lambda w: PLAN.settings("shortfall", w, FIRST), flags=lambda w, input: flags(PLAN.parameters("shortfall", w, FIRST), model=input.model, record=input.record, table=f"{OUT}/tables/shortfall-{w.dataset}", pairs=f"{OUT}/tables/confused-{w.dataset}", figure=f"{OUT}/figures/confused-{w.dataset}")
    shell: PAPERMILL

rule hierarchy_images:
    input: notebook=notebook("hierarchy_images"), model=f"{RUNS}/cluster/{{dataset}}/{FIRST}"
    output: [figure(f"{n}-{{dataset}}") for n in ("persistence", "hierarchy", "condensation", "kinds")], table("hierarchy-{dataset}")
    log: **log_of("hierarchy_images", "dataset", under=OUT)
    params: code=code("hierarchy_images", pictures=True), settings=lambda w: PLAN.settings("hierarchy_images", w, FIRST), flags=lambda w, input: flags(PLAN.parameters("hierarchy_images", w, FIRST), model=input.model, table=f"{OUT}/tables/hierarchy-{w.dataset}", out=f"{OUT}/figures")
    shell: PAPERMILL

# ---------------------------------------------------------------------------------------- all on one page

rule report:
    input: [f"{OUT}/{name}.json" for name in PLAN.results()]
    output: f"{OUT}/report.html"
    params: names=" ".join(PLAN.results()), plan=PLAN.name
    shell: "python -m scripts.report --plan {params.plan} {OUT} {params.names}"
