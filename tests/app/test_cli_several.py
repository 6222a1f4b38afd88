"Several numbers of clusters in one run, and the log."

import csv
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from diec.app.cli import main


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    "Three groups of vectors, and a small picture for each"
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (folder / "photos").mkdir()
    group = rng.integers(0, 3, 90)
    e = rng.normal(size=(90, 8)) + 8 * np.eye(8)[group]
    for i in range(90):
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / f"photos/{i:02}.png")
    np.save(folder / "e.npy", e.astype(np.float32))
    return folder


def run(photos, out, *words):
    main(
        ["cluster", str(photos / "photos"), "--embeddings", str(photos / "e.npy"), "--quiet", "--out", str(out), *words]
    )


def status(*words):
    with pytest.raises(SystemExit) as e:
        main([str(w) for w in words])
    return e.value.code


def test_several_numbers_are_compared(photos, tmp_path, capsys):
    run(photos, tmp_path / "out", "-k", "5,2,3")
    said = capsys.readouterr().out
    with open(tmp_path / "out/comparison.csv", newline="") as f:
        rows = {int(r["clusters"]): r for r in csv.DictReader(f)}
    assert list(rows) == [5, 2, 3] and max(rows, key=lambda k: float(rows[k]["stability"])) == 3
    assert f"most stable: 3 clusters, {tmp_path / 'out/k-3/report.html'}\n" in said  # none is close
    for k, row in rows.items():
        folder = tmp_path / "out" / row["folder"]
        with open(folder / "labels.csv", newline="") as f:
            table = list(csv.DictReader(f))
        sizes = np.bincount([int(r["cluster"]) for r in table])
        assert len(sizes) == k and (sizes.min(), sizes.max()) == (int(row["smallest"]), int(row["largest"]))
        assert np.mean([float(r["confidence"]) for r in table]) == pytest.approx(float(row["confidence"]), abs=1e-3)
        assert (folder / "report.html").is_file() and (folder / "model/config.json").is_file()
    assert len(list(tmp_path.glob("out/**/images-*"))) == 1  # the pictures were read once
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("out/k-*/*.*")}
    run(photos, tmp_path / "out", "-k", "5,2,3")
    again = capsys.readouterr().out
    assert again.count("nothing has changed") == 3 and again.endswith(said[said.index("  clusters") :])
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_each_is_the_result_of_that_number_alone(photos, tmp_path):
    run(photos, tmp_path / "both", "-k", "2,3")
    run(photos, tmp_path / "one", "-k", "3")
    assert (tmp_path / "both/k-3/labels.csv").read_bytes() == (tmp_path / "one/labels.csv").read_bytes()
    assert not (tmp_path / "one/comparison.csv").exists()


@pytest.mark.parametrize(
    "words, says",
    [
        (["-k", "2,x"], "must be an integer, or several with commas between, got '2,x'"),
        (["-k", "2,1"], "--n-clusters must be 2 or more, got 1"),
        (["-k", "2,3", "--into", "sorted"], "--into must come with one number of clusters, got 2, 3"),
        (["-k", "2,89"], "FOLDER must hold 91 images that can be read, or more"),
    ],
)
def test_numbers_that_are_refused(photos, tmp_path, capsys, words, says):
    with pytest.raises(SystemExit) as e:
        run(photos, tmp_path / "out", *words)
    assert e.value.code == 2 and says in capsys.readouterr().err


def test_none_is_fitted_if_one_cannot_be(photos, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(photos, tmp_path / "out", "-k", "2,89")
    assert not list(tmp_path.glob("out/**/labels.csv"))


def test_a_number_given_twice_is_one(photos, tmp_path):
    run(photos, tmp_path / "out", "-k", "3,3")
    assert (tmp_path / "out/labels.csv").exists() and not list(tmp_path.glob("out/k-*"))


def test_a_comparison_that_is_not_ours_stays(photos, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/comparison.csv").write_text("mine")
    with pytest.raises(SystemExit):
        run(photos, tmp_path / "out", "-k", "2,3")
    assert "comparison.csv" in capsys.readouterr().err and (tmp_path / "out/comparison.csv").read_text() == "mine"
    assert not list(tmp_path.glob("out/k-*"))


def test_search_takes_one_number(capsys):
    assert status("search", "digits", "-k", "5,6") == 2
    assert "--n-clusters must be one number, got 5, 6" in capsys.readouterr().err


# --- the log


def test_the_log_holds_what_was_said(photos, tmp_path, capsys):
    log = tmp_path / "run.log"
    run(photos, tmp_path / "out", "-k", "3", "--log", str(log))
    said, lines = capsys.readouterr().out.splitlines(), log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
    texts = [line[20:].strip() for line in lines]
    assert re.match(r"diec [\d.]+: cluster .*--log", texts[0]) and texts[-1] == "done"
    assert texts[1:-1] == [s.strip() for s in said]
    assert status("cluster", tmp_path / "nosuch", "--log", log) == 2
    added = log.read_text().splitlines()[len(lines) :]
    assert any("Traceback" in line for line in added) and added[-1].endswith("exit status 2")
    assert capsys.readouterr().err.count("\n") == 1  # the console has its one line


def test_progress_bars_leave_one_line(tmp_path):
    log = tmp_path / "log"
    code = (
        "import sys; from diec.app.cli import _logged_to\n"
        f"with _logged_to({str(log)!r}, ['x']):\n"
        "    sys.stderr.write('\\r 0%\\r50%'); sys.stderr.write('\\r100%\\n\\r   \\rnote\\n'); print('end', end='')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert [line[20:] for line in log.read_text().splitlines()][1:] == ["100%", "note", "done"]


def test_a_log_that_cannot_be_written(tmp_path, capsys):
    assert status("unets", "--log", tmp_path / "nosuch/log") == 2
    assert "--log must be a file that can be written" in capsys.readouterr().err
