"What `make reproduce` prints while it runs."

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("snakemake")
ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "workflow" / "plugins"))
from snakemake_logger_plugin_jobs import Progress, duration

from workflow import reproduce


def log(progress, event, **facts):
    return progress.heard(SimpleNamespace(event=event, **facts))


@pytest.fixture
def progress():
    now = [0.0]
    made = Progress(clock=lambda: now[0])
    made.now = now
    return made


def begin(progress, job, rule, **wildcards):
    return log(progress, "job_info", jobid=job, rule_name=rule, wildcards=wildcards)


def end(progress, job, done, total):
    return log(progress, "job_finished", job_id=job) | log(progress, "progress", done=done, total=total)


def test_it_says_what_runs_how_much_is_done_and_what_is_left(progress):
    log(progress, "run_info", stats={"total": 4})
    assert begin(progress, 1, "cluster", dataset="digits", seed="0")
    assert begin(progress, 2, "search", dataset="digits", seed="0")
    assert progress.line() == "[0/4] 0 s: cluster-digits-0, search-digits-0"
    progress.now[0] = 60
    assert end(progress, 1, 1, 4)
    assert progress.line() == "[1/4] 60 s, about 3 min left: search-digits-0"
    progress.now[0] = 120
    end(progress, 2, 4, 4)
    assert progress.line() == "[4/4] 2 min: nothing runs"


def test_a_failed_job_runs_no_longer_and_what_does_not_concern_it_is_passed_over(progress):
    begin(progress, 1, "map", dataset="digits")
    log(progress, "job_error", jobid=1)
    assert "map" not in progress.line()
    assert not log(progress, None) and not log(progress, "shellcmd", cmd="x")


def test_a_line_fits_80_columns(progress):
    for job in range(8):
        begin(progress, job, "hierarchy_prediction", dataset="fashion-mnist", seed=str(job))
    assert len(progress.line()) == 80 and progress.line().endswith("...")


@pytest.mark.parametrize(
    "seconds, said",
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1 h 30 min"), (90000, "25 h 0 min")],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_a_plan_is_looked_for_where_the_command_is_given(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("out: results/mine\nruns: runs/mine\n")
    asked = []
    monkeypatch.setattr(reproduce, "snakemake", lambda plan, *args: asked.append(plan) or 0)
    monkeypatch.chdir(tmp_path)
    reproduce.main(["--plan", "mine.yaml"])
    assert asked == [tmp_path / "mine.yaml"]


def test_snakemake_hands_its_jobs_to_the_plugin(tmp_path):
    (tmp_path / "Snakefile").write_text(
        "rule all:\n    input: ['0.txt', '1.txt']\nrule one:\n    output: '{n}.txt'\n    shell: 'echo x > {output}'\n"
    )
    start = "import sys; sys.path.append(sys.argv.pop(1)); from snakemake.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        start,
        str(ROOT / "workflow" / "plugins"),
        "--logger",
        "jobs",
        "--cores",
        "1",
        "--quiet",
        "rules",
        "host",
        "reason",
    ]
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env)
    lines = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert done.returncode == 0, done.stderr
    assert lines[0].startswith("[0/3]") and "one-" in lines[0] and lines[-1].startswith("[3/3]"), done.stderr
    assert any(" left: " in line for line in lines) and all(len(line) <= 80 for line in lines)
    assert "Finished jobid" not in done.stderr and "steps (" not in done.stderr  # our lines stand in their place
