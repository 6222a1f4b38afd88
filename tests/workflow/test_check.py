"Tables just made against the committed ones."

from pathlib import Path

import pytest

from diec.evaluation.results import read_csv, write_csv
from workflow import check

ROWS = [
    {"dataset": d, "method": m, "seed": s, "ACC": 0.9, "t": 200}
    for d in ("digits", "usps")
    for m in ("DEC", "DiEC")
    for s in (0, 1)
]


@pytest.fixture
def outcome(tmp_path):
    "Exit code of a comparison of rows"

    def run(made, committed=ROWS):
        for name, rows in (("made", made), ("committed", committed)):
            (path := tmp_path / name / "tables" / "main.csv").parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if rows:
                write_csv(path, rows)
        with pytest.raises(SystemExit) as e:
            check.main([str(tmp_path / "made"), str(tmp_path / "committed")])
        return e.value.code

    return run


def test_fewer_data_sets_and_seeds_are_fine(outcome):
    assert outcome(ROWS) == 0
    assert outcome(ROWS[:1]) == 0


def test_a_difference_counts_beyond_its_tolerance(outcome, capsys):
    assert outcome([ROWS[0] | {"ACC": 0.885, "t": 240}]) == 0
    assert outcome([ROWS[0] | {"ACC": 0.87}]) == 1
    assert "ACC is 0.87, committed 0.9" in capsys.readouterr().out


def test_a_row_or_a_table_without_partner_fails(outcome):
    assert outcome([ROWS[0] | {"seed": 7}]) == 1
    assert outcome([ROWS[0] | {"method": "other"}]) == 1
    assert outcome(ROWS, []) == 1


def test_text_in_a_measured_column_must_be_the_same(outcome):
    absent = ROWS[0] | {"ACC": "not on this machine"}
    assert outcome([absent, *ROWS[1:]], [absent, *ROWS[1:]]) == 0
    assert outcome([absent]) == 1
    assert outcome(ROWS, [absent, *ROWS[1:]]) == 1


def test_a_value_that_is_no_longer_there_fails(outcome):
    assert outcome([{k: v for k, v in ROWS[0].items() if k != "ACC"}]) == 1


def test_rows_that_nothing_tells_apart_fail(outcome):
    assert outcome(ROWS[:1], [ROWS[0] | {"ACC": 0.1}, *ROWS]) == 1


def test_the_order_of_columns_does_not_matter(outcome):
    assert outcome([dict(reversed(ROWS[0].items()))]) == 0


def test_every_figure_with_a_fraction_has_a_tolerance():  # without one it counts as a setting, which must be equal
    settings = {("sensitivity", "value"), ("sensitivity", "factor")}
    for path in (Path(__file__).parents[2] / "results" / "tables").glob("*.csv"):
        if check.not_compared(path.stem):
            continue
        for row in read_csv(path):
            loose = {(path.stem, k) for k, v in row.items() if isinstance(v, float) and k not in check.MEASURED}
            assert loose <= settings, loose


def test_some_columns_and_methods_may_differ_more(outcome):
    loose, weak = ROWS[0] | {"method": "N2D"}, ROWS[0] | {"ACC": 0.5}
    assert outcome([loose | {"ACC": 0.84}], [loose]) == 0 and outcome([loose | {"ACC": 0.8}], [loose]) == 1
    assert outcome([weak | {"ACC": 0.45}], [weak]) == 0 and outcome([weak | {"ACC": 0.4}], [weak]) == 1
    assert outcome([ROWS[0] | {"CHI": 1040.0}], [ROWS[0] | {"CHI": 1000.0}]) == 0  # 5%
    assert outcome([ROWS[0] | {"CHI": 1060.0}], [ROWS[0] | {"CHI": 1000.0}]) == 1


def test_a_table_that_is_not_compared_says_why():
    assert check.not_compared("confused-digits") and not check.not_compared("main") and not check.not_compared("new")
