"""What the benchmarks share: timing in turns under pytest-benchmark, processes that answer, and the peak of memory.

The clock, the ratios and the limit of the machine come from `diec.app.speed`.
"""
import resource
import subprocess
import sys
import threading
from pathlib import Path

from diec.app.speed import Case, matrix_products, seconds_of, speed_rows

ROOT = Path(__file__).resolve().parent.parent


def compare(benchmark, case: Case, turns: int) -> list: # rows of the table; none if pytest-benchmark is switched off
    "Time a case: pytest-benchmark times DiEC; the references and matrix products are timed before each of its rounds"
    calls = case.calls | matrix_products()
    for name, call in calls.items():
        if name not in case.calls or not case.warm: call()
    (ours, call), *others = calls.items()
    seconds = {name: [] for name, _ in others}

    def references():
        for name, other in others: seconds[name].append(seconds_of(other))

    benchmark.pedantic(call, setup=references, rounds=turns)
    if benchmark.stats is None: return []
    rows = speed_rows(case, seconds | {ours: list(benchmark.stats.stats.data)})
    benchmark.extra_info["rows"] = rows
    return rows


def shown(row: dict) -> dict:
    "A row of `speed_rows` as the table shows it"
    cells = {"method": row["method"], "CPU seconds": f"{row['CPU seconds']:.3g}",
             "DiEC's time over its own": f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
             "images/s": f"{row['images/s']:,.0f}"}
    return cells | {name: f"{row[name]:.0f}" for name in ("GFLOP/s", "% of float32", "% of bfloat16") if name in row}


class Child:
    "A process that answers each line on its standard input with one line"
    def __init__(self, words: list, **kwargs): # kwargs: of Popen
        self.process = subprocess.Popen([sys.executable, *map(str, words)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, **kwargs)

    def answer(self) -> str:
        "The next line that it writes; an error if it has ended"
        if line := self.process.stdout.readline(): return line.strip()
        raise SystemExit(f"the process {' '.join(self.process.args[1:])} ended with status {self.process.wait()}; "
                         "its message stands above")

    def ask(self, line: str = "") -> float:
        "Write a line; the number that it answers"
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return float(self.answer())

    def stop(self):
        self.process.kill()
        self.process.communicate()


def _memory(key: str) -> float: # MB; nan where the system does not tell
    "A line of /proc/self/status"
    try: lines = Path("/proc/self/status").read_text().splitlines()
    except OSError: return float("nan")
    return next((int(line.split()[1])/1024 for line in lines if line.startswith(f"{key}:")), float("nan"))


class PeakMemory:
    """The peak of this process's memory within a block, in MB above what it held before.

    `own` leaves out files that are mapped into memory, which the system may drop at any time; it is sampled. `total`
    has them too. Where there is no /proc, `own` is nan, and `total` is the peak since the process began.
    """
    def __enter__(self):
        try: Path("/proc/self/clear_refs").write_text("5") # begin a new peak
        except OSError: pass
        self.start, self.before, self.most, self.ended = _memory("RssAnon"), _memory("VmRSS"), 0., threading.Event()
        self.thread = threading.Thread(target=self._sample)
        self.thread.start()
        return self

    def _sample(self):
        while not self.ended.wait(0.02): self.most = max(self.most, _memory("RssAnon"))

    def __exit__(self, *error):
        self.ended.set()
        self.thread.join()
        self.own = max(self.most, _memory("RssAnon")) - self.start
        if (peak := _memory("VmHWM")) == peak: self.total = peak - self.before
        else: # not Linux; macOS counts in bytes
            unit = 2**20 if sys.platform == "darwin" else 2**10
            self.total = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/unit
