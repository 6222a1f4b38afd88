"""Records, tables and figures: the same bytes each time, whole or not there, readable back."""
import json

import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from diec.data.datasets import load_dataset
from diec.evaluation.results import Provenance, keep_figure, load_records, mean_std, read_csv, save_record, save_table, write_csv

ROWS = [{"dataset": "digits", "method": "a", "seed": 0, "ACC": 0.1 + 0.2}, {"dataset": "digits", "method": "b, \"c\"\nd", "seed": 1, "ACC": 1e-17, "note": "ä | ±"}]


@pytest.fixture
def provenance(): return Provenance("test", {"seed": 3}, load_dataset("digits"))


def test_csv_gives_back_what_was_written(tmp_path):
    write_csv(tmp_path/"t.csv", ROWS)
    assert read_csv(tmp_path/"t.csv") == ROWS


def test_csv_keeps_numbers_of_numpy(tmp_path):
    write_csv(tmp_path/"t.csv", [{"x": np.float64(0.1), "n": np.int64(3)}])
    assert read_csv(tmp_path/"t.csv") == [{"x": 0.1, "n": 3}]


def test_record_gives_back_rows_and_timings(tmp_path, provenance):
    save_record(tmp_path/"a"/"r.json", ROWS, provenance, [{"seconds": np.float32(1.5)}])
    record, = load_records([tmp_path/"a"/"r.json"])
    assert record["rows"] == ROWS and record["timings"] == [{"seconds": 1.5}]
    facts = record["provenance"]
    assert facts["parameters"] == {"seed": 3} and facts["data"]["images"] == 1797 and len(facts["data"]["sha256"]) == 64
    assert facts["seconds"] >= 0 and {"python", "torch", "diec"} <= set(facts["versions"]) and "thread" in facts["device"] or "CPU" not in facts["device"]


def test_tables_are_the_same_bytes_whenever_they_are_made(tmp_path, provenance):
    for d in "ab": save_table(tmp_path/d/"t", ROWS, ROWS, "What *a* reaches.", provenance)
    for suffix in ("md", "csv"): assert (tmp_path/"a"/f"t.{suffix}").read_bytes() == (tmp_path/"b"/f"t.{suffix}").read_bytes()
    assert json.loads((tmp_path/"a"/"t.json").read_text())["caption"] == "What *a* reaches."


def test_table_names_its_sources(tmp_path, provenance):
    save_record(tmp_path/"r.json", ROWS, provenance)
    save_table(tmp_path/"t", ROWS, ROWS, "c", provenance, load_records([tmp_path/"r.json"]))
    facts = json.loads((tmp_path/"t.json").read_text())
    assert [s["experiment"] for s in facts["sources"]] == ["test"] and facts["seconds_of_sources"] >= 0


def test_figure_comes_as_svg_png_and_json_and_leaves_nothing_else(tmp_path, provenance):
    fig, ax = plt.subplots(); ax.plot([1, 2])
    keep_figure(fig, tmp_path/"f"/"x", "A line.", provenance)
    assert sorted(p.name for p in (tmp_path/"f").iterdir()) == ["x.json", "x.png", "x.svg"]
    plt.close(fig)


def test_no_path_of_the_machine_in_the_provenance(provenance, tmp_path):
    text = json.dumps(provenance.facts())
    import os, socket
    assert os.getcwd() not in text and socket.gethostname() not in text


@pytest.mark.parametrize("values, text", [([0.95], "95.0"), ([0.5, 0.7], "60.0 ± 14.1"), ((v for v in (1, 1)), "100.0 ± 0.0")])
def test_mean_std(values, text): assert mean_std(values) == text
