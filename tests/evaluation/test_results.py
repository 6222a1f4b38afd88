"""Records, tables and figures: the same bytes each time, whole or not there, readable back."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from diec.data.datasets import load_dataset
from diec.evaluation.results import (
    Provenance,
    beside_best_other,
    gain,
    keep_figure,
    load_records,
    mean_std,
    read_csv,
    save_record,
    save_table,
    write_csv,
)

ROWS = [
    {"dataset": "digits", "method": "a", "seed": 0, "ACC": 0.1 + 0.2},
    {"dataset": "digits", "method": 'b, "c"\nd', "seed": 1, "ACC": 1e-17, "note": "ä | ±"},
]


@pytest.fixture
def provenance():
    return Provenance("test", {"seed": 3}, load_dataset("digits"))


def test_csv_gives_back_what_was_written(tmp_path):
    write_csv(tmp_path / "t.csv", ROWS)
    assert read_csv(tmp_path / "t.csv") == ROWS


def test_csv_keeps_numbers_of_numpy(tmp_path):
    write_csv(tmp_path / "t.csv", [{"x": np.float64(0.1), "n": np.int64(3)}])
    assert read_csv(tmp_path / "t.csv") == [{"x": 0.1, "n": 3}]


def test_record_gives_back_rows_and_timings(tmp_path, provenance):
    save_record(tmp_path / "a" / "r.json", ROWS, provenance, [{"seconds": np.float32(1.5)}])
    (record,) = load_records([tmp_path / "a" / "r.json"])
    assert record["rows"] == ROWS and record["timings"] == [{"seconds": 1.5}]
    facts = record["provenance"]
    assert facts["parameters"] == {"seed": 3} and facts["data"]["images"] == 1797 and len(facts["data"]["sha256"]) == 64
    assert (
        facts["seconds"] >= 0
        and {"python", "torch", "diec"} <= set(facts["versions"])
        and "thread" in facts["device"]
        or "CPU" not in facts["device"]
    )


def test_tables_are_the_same_bytes_whenever_they_are_made(tmp_path, provenance):
    for d in "ab":
        save_table(tmp_path / d / "t", ROWS, ROWS, "What *a* reaches.", provenance)
    for suffix in ("md", "csv"):
        assert (tmp_path / "a" / f"t.{suffix}").read_bytes() == (tmp_path / "b" / f"t.{suffix}").read_bytes()
    assert json.loads((tmp_path / "a" / "t.json").read_text())["caption"] == "What *a* reaches."


def test_table_names_its_sources(tmp_path, provenance):
    save_record(tmp_path / "r.json", ROWS, provenance)
    save_table(tmp_path / "t", ROWS, ROWS, "c", provenance, load_records([tmp_path / "r.json"]))
    facts = json.loads((tmp_path / "t.json").read_text())
    assert [s["experiment"] for s in facts["sources"]] == ["test"] and facts["seconds_of_sources"] >= 0


def test_figure_comes_as_svg_png_and_json_and_leaves_nothing_else(tmp_path, provenance):
    fig, ax = plt.subplots()
    ax.plot([1, 2])
    keep_figure(fig, tmp_path / "f" / "x", "A line.", provenance)
    assert sorted(p.name for p in (tmp_path / "f").iterdir()) == ["x.json", "x.png", "x.svg"]
    plt.close(fig)


def test_no_path_of_the_machine_in_the_provenance(provenance, tmp_path):
    text = json.dumps(provenance.facts())
    import os
    import socket

    assert os.getcwd() not in text and socket.gethostname() not in text


@pytest.mark.parametrize(
    "values, text", [([0.95], "95.0"), ([0.5, 0.7], "60.0 ± 14.1"), ((v for v in (1, 1)), "100.0 ± 0.0")]
)
def test_mean_std(values, text):
    assert mean_std(values) == text


RUNS = pd.DataFrame(
    [
        ("b", "k-means", 0.5),
        ("b", "k-means", 0.7),
        ("b", "DEC", 0.55),
        ("b", "DiEC", 0.9),
        ("b", "DiEC as published", 0.99),
        ("a", "DEC", 0.4),
        ("a", "k-means", 0.4),
        ("a", "DDC", None),
        ("a", "DiEC", 0.3),
        ("a", "DiEC", 0.5),
        ("alone", "DiEC", 1.0),
        ("others", "DEC", 0.2),
    ],
    columns=["dataset", "method", "ACC"],
)


def test_best_other_method_of_each_data_set():
    found = beside_best_other(RUNS)
    assert found.index.tolist() == ["b", "a", "alone", "others"]
    assert found["other"].fillna("none").tolist() == [
        "k-means",
        "DEC",
        "none",
        "DEC",
    ]  # DEC comes before k-means, as good on "a"
    assert found.loc["b"].drop("other").astype(float).to_dict() == pytest.approx(
        {"mean": 0.9, "std": np.nan, "other_mean": 0.6, "other_std": np.std([0.5, 0.7], ddof=1)}, nan_ok=True
    )
    assert found["mean"].tolist() == pytest.approx([0.9, 0.4, 1, np.nan], nan_ok=True)


def test_best_other_method_agrees_with_the_committed_table():
    table = pd.read_csv(Path(__file__).parents[2] / "results" / "tables" / "main.csv")
    found = beside_best_other(table)
    for name, runs in table.dropna(subset="ACC").groupby("dataset"):
        means = {m: r["ACC"].mean() for m, r in runs.groupby("method")}
        others = {m: v for m, v in means.items() if not m.startswith("DiEC") and v == v}
        assert found.loc[name, "other_mean"] == pytest.approx(max(others.values()))
        assert others[found.loc[name, "other"]] == pytest.approx(max(others.values()))
        assert found.loc[name, "mean"] == pytest.approx(means["DiEC"])


def test_gain_is_a_difference_of_means():
    table = RUNS.rename(columns={"method": "variant"}).query("dataset in ('a', 'b')")
    assert gain(table, "DiEC", "k-means").to_dict() == pytest.approx({"a": 0.0, "b": 0.3})
