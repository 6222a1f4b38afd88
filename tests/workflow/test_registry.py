"The registry: one notebook and one entry make an experiment, and mistakes are named."

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from workflow import registry

ROOT = Path(__file__).resolve().parents[2]
PLAN = ROOT / "tests" / "workflow" / "plan.yaml"
ENTRY = """
  cluster_sizes:
    title: Cluster sizes
    shows: The number of clusters that each method finds.
    group: quality
    inputs: {records: cluster}
    results:
      tables/cluster-sizes: {to: out}
"""
PARAMETERS = "records = []\nout = None\n"
CODE = """from diec.evaluation.results import Provenance, load_records, save_table
found = load_records(records)
rows = [{k: r[k] for k in ("dataset", "method", "seed", "clusters")} for record in found for r in record["rows"]]
if out: save_table(out, rows, rows, "Clusters by method and seed.", Provenance("cluster_sizes", {}), found)
"""


def write_notebook(path, **sources):  # tag -> source
    cells = [
        {
            "cell_type": "code",
            "id": tag,
            "metadata": {"tags": [tag]},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for tag, source in sources.items()
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


def add_entry(path, entry=ENTRY):
    text = path.read_text()
    path.write_text(text.replace("\nothers:", f"{entry}\nothers:"))


@pytest.fixture
def copy(tmp_path):
    "A copy of the repository, as far as the batch needs it, with one notebook and one entry more"
    place = tmp_path / "copy"
    for folder in ("workflow", "nbs/experiments"):
        shutil.copytree(ROOT / folder, place / folder)
    (place / "diec").symlink_to(ROOT / "diec")
    write_notebook(place / "nbs" / "experiments" / "cluster_sizes.ipynb", parameters=PARAMETERS, code=CODE)
    add_entry(place / "nbs" / "experiments" / "experiments.yaml")
    plan = {
        k: v for k, v in yaml.safe_load(PLAN.read_text()).items() if k != "only"
    }  # a new experiment is in every plan
    (place / "plan.yaml").write_text(yaml.safe_dump(plan))
    return place


def snakemake(copy, *more):
    command = [sys.executable, "-m", "snakemake", "--configfile", "plan.yaml", "--cores", "1", "--nolock", *more]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_one_notebook_and_one_entry_add_a_job(copy):
    said = snakemake(copy, "-n", "-p", "results/tiny/report.html")
    job = said[said.index("rule cluster_sizes:") :]
    assert "results/tiny/tables/cluster-sizes.csv" in job
    assert "tables/cluster-sizes" in said[said.index("rule report:") :]
    assert '["../../runs/batch/cluster/digits/0.json", "../../runs/batch/cluster/digits/1.json"]' in job


@pytest.mark.slow
def test_one_notebook_and_one_entry_make_a_table(copy):
    plan = yaml.safe_load((copy / "plan.yaml").read_text())
    (copy / "plan.yaml").write_text(yaml.safe_dump(plan | {"seeds": [0]}))
    snakemake(copy, "results/tiny/tables/cluster-sizes.md")
    table = (copy / "results" / "tiny" / "tables" / "cluster-sizes.csv").read_text().splitlines()
    assert table[0] == "dataset,method,seed,clusters" and len(table) > 4
    report = [sys.executable, "-m", "workflow.report", "results/tiny"]
    assert subprocess.run(report, cwd=copy, capture_output=True).returncode == 0
    page = (copy / "results" / "tiny" / "report.html").read_text()
    assert "Cluster sizes" in page and "The number of clusters that each method finds." in page


def test_the_guide_shows_the_example_that_is_tested():
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    for text in (ENTRY.strip("\n"), PARAMETERS.strip(), CODE.strip()):
        for line in text.splitlines():
            assert line.strip() in guide, line


def test_every_notebook_has_an_entry_and_titles_do_not_repeat():
    found = registry.load()
    assert {p.stem for p in registry.NOTEBOOKS.glob("*.ipynb")} == set(found.experiments)
    titles = [r.title for r in found.results().values()] + list(found.groups.values())
    assert len(titles) == len(set(titles))
    for shown in [*found.experiments.values(), *found.results().values()]:
        assert shown.shows.endswith("."), shown


def test_find_prefers_the_exact_name():
    found = registry.load()
    assert found.find("tables/hierarchy-counts")[1].title == "The number of clusters"
    assert found.find("tables/hierarchy-mnist-5k")[2] == "mnist-5k"
    assert found.find("tables/unknown") is None


@pytest.fixture
def load(tmp_path, monkeypatch):
    "Load the registry with an entry more, beside a notebook with the parameters of the example"

    def loaded(entry):
        place = tmp_path / "experiments"
        shutil.copytree(registry.NOTEBOOKS, place)
        write_notebook(place / "cluster_sizes.ipynb", parameters=PARAMETERS, code=CODE)
        monkeypatch.setattr(registry, "NOTEBOOKS", place)
        add_entry(place / "experiments.yaml", entry)
        return registry.load()

    return loaded


def test_the_example_is_read_with_its_defaults(load):
    result = load(ENTRY).experiments["cluster_sizes"].results["tables/cluster-sizes"]
    assert (result.title, result.group, result.to) == ("Cluster sizes", "quality", "out")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("inputs:", "input:", "cluster_sizes: unknown key 'input'; allowed are title, shows"),
        ("{to: out}", "{too: out}", "cluster_sizes, tables/cluster-sizes: unknown key 'too'"),
        ("  cluster_sizes:", "  cluster_size:", "cluster_size: .*cluster_size.ipynb does not exist"),
        ("tables/cluster-sizes", "tables/main", "cluster_sizes and main_table both write tables/main"),
        ("tables/cluster-sizes", "tabels/main", "a result is called tables/NAME"),
        ("tables/cluster-sizes", "tables/sizes-{dataset}", "must hold what `per` names in braces .nothing."),
        ("{to: out}", "{to: path}", "`parameters` cell of cluster_sizes.ipynb does not set path"),
        ("records: cluster", "records: clusters", "the input 'clusters' is not `unet`, an experiment or a table"),
        ("records: cluster", "records: tables/mian.csv", "no experiment writes tables/mian.csv"),
        ("group: quality", "group: other", "group must be among quality, search.*, got 'other'"),
        ("    title: Cluster sizes\n", "", "cluster_sizes: 'title' is missing"),
        ("group: quality\n", "group: quality\n    per: [image]\n", "per must be among dataset, seed, method, variant"),
    ],
)
def test_mistakes_are_named(load, old, new, message):
    assert old in ENTRY
    with pytest.raises(ValueError, match=message):
        load(ENTRY.replace(old, new))


def test_the_tests_of_the_batch_use_the_smallest_settings():
    assert yaml.safe_load(PLAN.read_text())["smallest"] is True
