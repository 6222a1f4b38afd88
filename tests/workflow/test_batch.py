"""The batch: every table and figure from one command, the same bytes each time, whatever interrupts it."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64decode
from pathlib import Path

import pytest
import yaml

from diec.core import names
from diec.evaluation import results
from workflow import batch, records

ROOT = Path(__file__).resolve().parents[2]
PLAN = ROOT / "tests" / "workflow" / "plan.yaml"
pytest.importorskip("snakemake")


def reproduce(place, *more, plan=PLAN, env=None):  # a running batch in a folder of its own
    command = [
        sys.executable,
        "-m",
        "workflow.reproduce",
        "--plan",
        str(plan),
        "--runs",
        str(place / "runs"),
        "--out",
        str(place / "out"),
        *more,
    ]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=env
    )


def finish(process):
    try:
        out, err = process.communicate(timeout=1800)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # it would run beside the other tests
        raise
    return process.returncode, out, err


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "The tiny plan, made without interruption"
    place = tmp_path_factory.mktemp("made")
    status, out, err = finish(reproduce(place))
    assert status == 0, out[-3000:] + err[-5000:]
    return place, out


@pytest.mark.slow
def test_everything_that_the_plan_names_is_there(made):
    place, said = made
    plan = batch.Plan(yaml.safe_load(PLAN.read_text()))
    for name in plan.results():
        suffixes = ("svg", "png", "json") if name.startswith("figures/") else ("md", "csv", "json")
        for s in suffixes:
            assert (place / "out" / f"{name}.{s}").stat().st_size > 0, name
    assert not [p for p in (place / "out").rglob("*") if p.suffix == ".partial"]
    assert "k-means" in said and "report.html" in said


@pytest.mark.slow
def test_a_data_set_that_is_not_there_is_a_row_that_says_so(made):
    table = (made[0] / "out" / "tables" / "main.md").read_text()
    assert "not on this machine" in next(line for line in table.splitlines() if "usps" in line)


@pytest.mark.slow
def test_provenance_stands_beside_each_result(made):
    for path in (made[0] / "out").rglob("*.json"):
        facts = json.loads(path.read_text())
        assert {"caption", "experiment", "parameters", "commit", "versions", "device", "seconds"} <= set(facts), path
    records = [json.loads(p.read_text()) for p in (made[0] / "runs" / "cluster").rglob("?.json")]
    assert {r["provenance"]["parameters"]["seed"] for r in records} == {0, 1}


@pytest.mark.slow
def test_no_path_of_this_machine_in_what_may_be_committed(made):
    for path in (made[0] / "out").rglob("*"):
        if path.suffix in (".md", ".csv", ".html", ".svg"):
            assert str(ROOT) not in path.read_text(), path


@pytest.mark.slow
def test_report_shows_each_result_and_needs_nothing_else(made):
    html = (made[0] / "out" / "report.html").read_text()
    outside = re.findall(r'(?:src|href)="(?!data:|#|https://)[^"]*"', html)
    assert not outside, outside  # no file and no address is loaded
    counts = {tag: html.count(f"<{tag}") for tag in ("img", "table", "link", "script")}
    assert counts["img"] >= 10 and counts["table"] >= 8 and counts["link"] == 0, counts


@pytest.mark.slow
def test_done_is_done(made):
    times = {p: p.stat().st_mtime_ns for p in made[0].rglob("*.json")}
    status, out, err = finish(reproduce(made[0]))
    assert status == 0 and "Nothing to be done" in out + err
    assert times == {p: p.stat().st_mtime_ns for p in made[0].rglob("*.json")}


@pytest.mark.slow
def test_killed_at_random_moments_ends_with_the_same_tables_and_repeats_no_finished_job(made, tmp_path):
    tables = [f"{tmp_path}/out/tables/{n}.md" for n in ("main", "search", "ablation-terms")]
    rng, finished, kills = random.Random(os.getpid()), {}, 0
    for attempt in range(40):
        process = reproduce(tmp_path, "--", *tables)
        if kills < 4:
            try:
                process.communicate(timeout=rng.uniform(5, 15))
            except subprocess.TimeoutExpired:
                # by turns the whole group, and only the first process: its jobs must not outlive it
                (os.killpg if kills % 2 else os.kill)(process.pid, signal.SIGKILL)
                process.communicate()
                time.sleep(3)
                kills += 1
                for p in (tmp_path / "runs").rglob("[01].json"):
                    json.loads(p.read_text())  # whole
                    if p in finished:
                        assert p.stat().st_mtime_ns == finished[p], f"{p} was made twice"
                done = set(_finished_jobs(tmp_path))
                finished |= {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("[01].json") if p in done}
                continue
        else:
            finish(process)
        if process.returncode == 0:
            break
    assert process.returncode == 0 and kills >= 3
    for p, t in finished.items():
        assert p.stat().st_mtime_ns == t, f"{p} was made twice"
    for name in (f"{n}.{s}" for n in ("main", "search", "ablation-terms", "ablation-draws") for s in ("md", "csv")):
        assert (tmp_path / "out" / "tables" / name).read_bytes() == (made[0] / "out" / "tables" / name).read_bytes(), (
            name
        )


def _finished_jobs(place):
    "Records that Snakemake considers complete"
    marks = [p.name.encode() + b"==" for p in (ROOT / ".snakemake" / "incomplete").rglob("*") if p.is_file()]
    incomplete = {b64decode(mark, altchars=b"-_").decode(errors="replace") for mark in marks}
    return [p for p in (place / "runs").rglob("[01].json") if str(p) not in incomplete]


@pytest.mark.slow
def test_a_failed_cell_is_named_and_leaves_its_notebook_and_the_rest_goes_on(made, tmp_path):
    plan = yaml.safe_load(PLAN.read_text())
    plan["experiments"]["search"] = {"parameters": {"n_grid": 0}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    place = tmp_path / "made"
    shutil.copytree(made[0], place)  # other tests read the original
    shutil.rmtree(place / "runs" / "search")  # a copy has no memory of the settings that it was made with
    for name in ("search", "main"):  # of what is made again one depends on the failed cell, one does not
        for path in (place / "out" / "tables").glob(f"{name}.*"):
            path.unlink()
    status, out, err = finish(reproduce(place, plan=tmp_path / "plan.yaml"))
    assert status == 1
    named = [line for line in err.splitlines() if line.startswith("FAILED")]
    assert len(named) == 2 and all("search-digits-" in line and "Error" in line for line in named)
    book = json.loads((place / "runs" / "notebooks" / "search-digits-0.ipynb").read_text())
    assert any(o["output_type"] == "error" for c in book["cells"] for o in c.get("outputs", ()))
    assert (place / "out" / "tables" / "main.md").exists(), "what does not depend on it is made"
    assert not (place / "out" / "tables" / "search.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "said, calls, status", [("Kernel died before replying to kernel_info", 2, 0), ("an error of another kind", 1, 1)]
)
def test_a_kernel_that_did_not_start_is_tried_again_and_nothing_else(tmp_path, said, calls, status):
    fake = tmp_path / "bin" / "setpriv"  # stands before papermill in the rules
    fake.parent.mkdir()
    fake.write_text(f"""#!/bin/sh
shift 2
if [ "$1" != papermill ]; then exec "$@"; fi
echo call >> {tmp_path}/calls
if [ $(wc -l < {tmp_path}/calls) = 1 ]; then echo "{said}" >&2; exit 1; fi
exec "$@"
""")
    fake.chmod(0o755)
    record = tmp_path / "runs" / "baselines" / "digits" / "classical" / "0.json"
    env = os.environ | {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
    found, out, err = finish(reproduce(tmp_path, "--", str(record), env=env))
    assert found == status and record.exists() == (status == 0), err[-2000:]
    assert len((tmp_path / "calls").read_text().split()) == calls


def test_two_batches_do_not_share_a_folder(tmp_path):
    import fcntl

    (tmp_path / "runs").mkdir()
    with open(tmp_path / "runs" / ".lock", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        status, _, err = finish(reproduce(tmp_path))
    assert status == 1 and "another batch" in err


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["quick", "check", "full"])
def test_plans_can_be_read(plan):
    plan = f"workflow/plans/{plan}.yaml"
    command = [sys.executable, "-m", "snakemake", "--configfile", plan, "-n", "--quiet", "--nolock"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("plan", ["quick", "check", "full"])
def test_a_plan_writes_where_nothing_is_committed(plan):  # in a fresh clone, a committed table would count as made
    out = yaml.safe_load((ROOT / "workflow" / "plans" / f"{plan}.yaml").read_text())["out"]
    git = lambda *words: subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    assert (tracked := git("ls-files", out)).returncode == 0 and tracked.stdout == ""
    assert git("check-ignore", f"{out}/tables/main.md").returncode == 0


@pytest.mark.slow
def test_records_are_kept_with_the_results_and_come_back(made, tmp_path, capsys):
    def plan(name, runs):
        (tmp_path / name).write_text(yaml.safe_dump(yaml.safe_load(PLAN.read_text()) | {"runs": str(runs)}))
        return [str(tmp_path / name), "--results", str(tmp_path / "kept")]

    records.main(["keep", *plan("made.yaml", made[0] / "runs")])
    assert "; 0 of the plan" in capsys.readouterr().out
    back = plan("back.yaml", tmp_path / "runs")
    records.main(["restore", *back])
    paths = [Path(p) for p in records.records(batch.Plan(yaml.safe_load(Path(back[0]).read_text())))]
    assert len(paths) > 10 and all(p.is_file() for p in paths)
    shutil.copytree(made[0] / "out", tmp_path / "out")
    names = [f"{name}{suffix}" for name in ("tables/main", "timings/main") for suffix in (".csv", ".md")]
    before = {name: (tmp_path / "out" / name).read_bytes() for name in names}
    for name in names:
        (tmp_path / "out" / name).unlink()
    status, out, err = finish(reproduce(tmp_path, "--", str(tmp_path / "out" / "tables" / "main.md")))
    assert status == 0, out[-2000:] + err[-2000:]
    assert {name: (tmp_path / "out" / name).read_bytes() for name in names} == before
    paths[0].write_text("{}")
    records.main(["restore", *back])  # again: what is there stays
    assert paths[0].read_text() == "{}" and "0 records copied" in capsys.readouterr().out


@pytest.mark.parametrize(
    "made, wanted, odd",
    [
        (dict(unet="digits"), dict(unet=None), []),
        (dict(unet=None), dict(unet="digits"), []),
        (dict(unet="usps"), dict(unet=None), ["unet"]),
        (dict(unet=None), dict(unet="usps"), ["unet"]),
        (dict(n_images=50), dict(n_images=None), ["n_images"]),
        (dict(n_images=70), dict(n_images=None), []),  # there are only 50
        (dict(n_images=None), dict(n_images=50), []),
        (dict(n_images=None), dict(n_images=49), ["n_images"]),
        (dict(n_images=50), dict(n_images=70), []),
        (dict(n_images=50), dict(n_images=49), ["n_images"]),
        (dict(layer=None), dict(layer="mid_block"), ["layer"]),
        (dict(layer="mid_block"), dict(layer=None), ["layer"]),
        ({}, dict(layer="up_blocks.1"), []),  # an old record, from before there was such a parameter: the notebook's
        ({}, dict(layer="mid_block"), ["layer"]),
        (dict(recipe={"n_steps": 2, "augment": 0}), dict(recipe={"n_steps": 2}), []),
    ],
)
def test_what_counts_as_another_setting(made, wanted, odd):
    record = {"provenance": {"parameters": {"dataset": "digits"} | made, "data": {"images": 50}}}
    own = {"dataset": "mnist-5k", "unet": None, "n_images": None, "layer": "up_blocks.1", "recipe": {}}
    assert records.other_settings(record, {"dataset": "digits"} | wanted, own) == odd


@pytest.mark.parametrize("of, odd", [("digits", []), ("usps", ["the weights of the U-Net"]), ("no/unet", [])])
def test_a_record_of_a_unet_that_has_been_trained_anew_is_another(of, odd):
    provenance = results.Provenance("search", {"dataset": "digits", "unet": "digits"}).facts()
    provenance["weights"] = names.weights_checksum(of)  # None in records from before they named the weights
    assert records.other_settings({"provenance": provenance}, {"dataset": "digits"}, {"unet": None}) == odd


def test_a_record_of_other_settings_is_not_kept(tmp_path, capsys):
    settings = {"name": "x", "out": str(tmp_path), "runs": str(tmp_path / "runs"), "datasets": ["digits"], "seeds": [0]}
    settings |= {"baselines": ["k-means"], "only": ["search"]}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(settings))
    record = tmp_path / "runs" / "search" / "digits" / "0.json"
    record.parent.mkdir(parents=True)
    for name, value, copied in (  # 25 is the notebook's own; the U-Net is that of the data set
        ("n_grid", 25, 1),
        ("n_grid", 4, 0),
        ("unet", "digits", 1),
        ("unet", "usps", 0),
    ):
        record.write_text(json.dumps({"provenance": {"parameters": {"dataset": "digits", name: value}}}))
        records.main(["keep", str(tmp_path / "plan.yaml"), "--results", str(tmp_path / "kept")])
        said = capsys.readouterr().out
        assert f"{copied} records copied" in said and (name in said) == (not copied)
    assert json.loads((tmp_path / "kept" / "records" / "search" / "digits" / "0.json").read_text())


def test_unknown_plan_is_refused():
    command = [sys.executable, "-m", "workflow.reproduce", "--plan", "fast"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2 and "full, other-unet, paper, quick" in found.stderr and "'fast'" in found.stderr


def plan_of(**more):
    return batch.Plan(
        {"name": "x", "out": "y", "runs": "r", "datasets": ["digits"], "seeds": [0], "baselines": ["classical"]} | more
    )


def test_parameters_come_from_the_plan_the_data_set_and_the_method():
    plan = plan_of(
        experiments={"baselines": {"parameters": {"n_images": 50, "autoencoder": None}}},
        by_dataset={"digits": {"baselines": {"n_images": 20}, "baselines/UMAP": {"n_images": None}}},
    )
    e = plan.registry.experiments
    job = lambda dataset, method: plan.parameters(e["baselines"], {"dataset": dataset, "method": method, "seed": "3"})
    general = {"n_images": 50, "autoencoder": None}
    assert job("mnist-5k", "DEC") == {"dataset": "mnist-5k", "seed": 3, "methods": "DEC"} | general
    assert job("digits", "DEC")["n_images"] == 20 and job("digits", "UMAP")["n_images"] is None
    assert job("mnist-5k", "UMAP")["n_images"] == 50
    assert plan.parameters(e["cluster"], {"dataset": "digits", "seed": "0"}) == {"dataset": "digits", "seed": 0}


def test_a_data_set_and_an_experiment_may_have_fewer_seeds():
    plan = lambda seeds: plan_of(
        datasets=["digits", "mnist-5k"],
        seeds=seeds,
        by_dataset={"mnist-5k": {"seeds": [0, 2]}},
        experiments={"search": {"datasets": ["mnist-5k"], "seeds": [0, 1]}},
    )
    files = lambda stem, *pairs: [f"r/{stem.format(d)}/{s}.json" for d, s in pairs]
    pairs = [("digits", 0), ("digits", 1), ("digits", 2), ("mnist-5k", 0), ("mnist-5k", 2)]
    assert plan([0, 1, 2]).records("cluster") == files("cluster/{}", *pairs)
    assert plan([0, 1, 2]).records("baselines") == files("baselines/{}/classical", *pairs)
    assert plan([0, 1, 2]).records("search") == files("search/{}", ("mnist-5k", 0))
    assert plan([1, 2]).records("efficiency") == files("efficiency/{}", ("digits", 1), ("mnist-5k", 1))  # the first
    assert plan([0]).records("cluster") == files("cluster/{}", ("digits", 0), ("mnist-5k", 0))
    fewer = plan_of(seeds=[0, 1, 2], by_dataset={"digits": {"seeds": [0, 2], "seeds_of": {"baselines": [1, 2]}}})
    assert fewer.records("cluster") == files("cluster/{}", ("digits", 0), ("digits", 2))
    assert fewer.records("baselines") == files("baselines/{}/classical", ("digits", 2))
    limits = {"baselines/UMAP": [1], "baselines/k-means": []}
    methods = plan_of(
        seeds=[0, 1], baselines=["spectral", "UMAP", "k-means"], by_dataset={"digits": {"seeds_of": limits}}
    )
    files = [f"r/baselines/digits/{name}.json" for name in ("spectral/0", "spectral/1", "UMAP/1")]
    assert methods.records("baselines") == files


def test_an_experiment_is_left_out_with_those_that_need_it():
    plan = plan_of()
    assert "tables/search" in plan.results() and "tables/pretraining" not in plan.results()  # no ways of pretraining
    plan = plan_of(only=["cluster", "main_table", "search_table"])
    wanted = ["tables/main", "tables/training", "tables/published", "timings/main"]
    assert plan.results() == wanted  # no searches to make a table of


def test_plan_names_what_is_wrong():
    with pytest.raises(ValueError, match="baselines must be among .*'DECK'"):
        plan_of(baselines=["DECK"])
    with pytest.raises(ValueError, match="must have 'seeds'"):
        batch.Plan({"name": "x", "out": "y", "datasets": ["digits"]})
    with pytest.raises(ValueError, match="only: .*no experiment 'serch'"):
        plan_of(only=["serch"])
    with pytest.raises(ValueError, match="search.ipynb does not set n_gird"):
        plan_of(experiments={"search": {"parameters": {"n_gird": 3}}})
    with pytest.raises(ValueError, match="by_dataset, digits: .*no experiment 'clusters'"):
        plan_of(by_dataset={"digits": {"clusters": {}}})


@pytest.fixture
def sources(tmp_path, monkeypatch):
    "A notebook and two modules to change"
    (tmp_path / "nb").mkdir()
    (tmp_path / "diec" / "evaluation").mkdir(parents=True)
    for place in ("diec", "diec/evaluation"):
        (tmp_path / place / "__init__.py").touch()
    (tmp_path / "diec" / "a.py").write_text('"doc"\nfrom .b import g\ndef f(): return g()\n')
    (tmp_path / "diec" / "b.py").write_text("def g():\n    'doc'\n    return 1\n")
    (tmp_path / "diec" / "evaluation" / "plots.py").write_text("x = 1\n")
    cells = [("parameters", "n = 1"), ("", "from diec.a import f\nfrom diec.evaluation.plots import x\nf()")]
    cells = [{"cell_type": "code", "metadata": {"tags": [tag]}, "source": source} for tag, source in cells]
    (tmp_path / "nb" / "e.ipynb").write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(batch, "ROOT", tmp_path)
    monkeypatch.setattr(batch, "NOTEBOOKS", tmp_path / "nb")

    def digest(**k):
        batch.code.cache_clear()
        return batch.code("e", **k)

    yield tmp_path, digest
    batch.code.cache_clear()


@pytest.mark.parametrize(
    "file, old, new, again",
    [
        ("diec/b.py", "return 1", "return 2", True),
        ("diec/b.py", "'doc'", "'other words'", False),
        ("diec/b.py", "return 1", "return 1  # why", False),
        ("nb/e.ipynb", "f()", "f(f())", True),
        ("nb/e.ipynb", "n = 1", "n = 2", False),
        ("diec/evaluation/plots.py", "1", "2", False),
    ],
)
def test_a_job_is_run_again_when_code_that_it_uses_has_changed(sources, file, old, new, again):
    place, digest = sources
    before = digest()
    path = place / file
    path.write_text(path.read_text().replace(old, new))
    assert (digest() != before) == again


def test_pictures_depend_on_plots(sources):
    place, digest = sources
    before = digest(pictures=True)
    (place / "diec" / "evaluation" / "plots.py").write_text("x = 2\n")
    assert digest(pictures=True) != before
