"The public signatures as a type checker sees them, in the package and from outside."

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
USE = ROOT / "tests" / "samples" / "typed_use.py"


def mypy(*paths) -> list:
    "What mypy complains about"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", *map(str, paths)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if ": error:" in line]


def test_the_package_and_its_use():
    "One run for both: mypy reads torch and numpy only once"
    complaints = mypy("diec", USE)
    here = {int(re.search(r":(\d+): error", c)[1]) for c in complaints if c.startswith(str(USE.relative_to(ROOT)))}
    mistakes = USE.read_text().partition("def wrong")
    first = mistakes[0].count("\n") + 2
    assert here == {first, first + 1}, complaints
    assert [c for c in complaints if c.startswith("diec")] == []


def test_the_stubs_are_in_step():
    done = subprocess.run([sys.executable, "-m", "tools.stubs", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
