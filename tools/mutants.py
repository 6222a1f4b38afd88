"""Mutation testing: how many small faults in the code do the tests find?

`make mutants`, or `python -m tools.mutants --sample 50 --out results`. cosmic-ray makes the faults (mutants): another
operator, a number off by one, an inverted condition, a missing decorator or exception. Each mutant runs on a copy of
the package with a fast selection of tests for its module. The process that has imported the libraries forks for each
mutant, so a mutant costs the time of its tests and not that of importing torch.

Mutants of annotations do not count, because nothing reads annotations, nor do mutants that cannot be imported, because
any test would find them. Sessions are saved in runs/mutants by the module's text: a killed mutant is not tried again
until its module changes; survivors are tried again each time. Each survivor needs a reason in tools/mutants.toml, or
the command fails.
"""
import argparse
import ast
import gc
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

from diec.evaluation.results import Provenance, save_table

ROOT = Path(__file__).resolve().parents[1]
REASONS = ROOT/"tools"/"mutants.toml"
SLOW_TRAINER = "not killed and not stopped_and_continued and not pretraining and not counted"
SLOW_HIERARCHY = " and ".join(f"not {name}" for name in (
    "scikit_learn", "matched_first", "permuting_rows", "same_twice", "no_strays", "many_new_points",
    "constant_features", "one_at_a_time", "scale_of_features", "levels_can", "nested", "new_points_join"))
HIERARCHY_TESTS = ["tests/method/test_defaults.py", "tests/hierarchy/test_hierarchy_parts.py",
                   "tests/hierarchy/test_hierarchy.py", "-k", SLOW_HIERARCHY]
TESTS = { # module -> arguments of pytest; the tests that fail soonest first
    "losses": ["tests/method/test_defaults.py", "tests/method/test_losses.py"],
    "model": ["tests/method/test_defaults.py", "tests/method/test_losses.py"],
    "search": ["tests/method/test_defaults.py", "tests/method/test_search.py"],
    "trainer": ["tests/method/test_defaults.py", "tests/app/test_pretrain_behavior.py", "tests/method/test_trainer.py",
                "-k", SLOW_TRAINER],
    "core.checkpoint": ["tests/core/test_checkpoint.py"],
    **{f"hierarchy.{m}": HIERARCHY_TESTS for m in ("graph", "condensation", "selection", "estimator", "plots")},
}
SAMPLES = {"losses": None, "model": None} # None: all of them
IMPORT_FAILED, MEMORY = 70, 16*2**30


def file_of(module: str, root: Path = ROOT) -> Path: return root.joinpath("diec", *module.split(".")).with_suffix(".py")


def copy_of_the_repository(place: Path):
    "Copy what the tests need, except files that git ignores"
    folders = "diec", "tests", "tools", "workflow", "nbs", "results/tables", "pyproject.toml", "settings.ini"
    listing = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders]
    names = subprocess.run(listing, capture_output=True, check=True).stdout.split(b"\0")
    for name in map(os.fsdecode, filter(None, names)):
        if not (ROOT/name).is_file(): continue
        (place/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT/name, place/name)


def import_libraries(place: Path):
    "Import the package and all its libraries, then forget the package: each child imports its own mutant of it"
    os.chdir(place)
    sys.path.insert(0, str(place))
    os.environ["PYTHONPATH"] = str(place) # for the processes that tests start
    for name in [n for n in sys.modules if n.split(".")[0] == "diec"]: del sys.modules[name]
    import hypothesis  # noqa: F401
    import pytest  # noqa: F401

    import diec.app.cli
    import diec.estimator  # noqa: F401
    for name in [n for n in sys.modules if n.split(".")[0] == "diec"]: del sys.modules[name]
    gc.collect()
    gc.freeze() # children need not collect the objects of the libraries


def _run_tests(module: str, words: list, cpu: float, log: Path, bytecode: bool):
    "In the child: import the module and run its tests; never returns"
    code = 1
    try:
        if not bytecode: # mutants of the same second and length would share it
            sys.dont_write_bytecode = True
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2): os.dup2(out, number)
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu) + 1, int(cpu) + 1))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        import importlib

        import pytest
        try: importlib.import_module(f"diec.{module}")
        except BaseException: os._exit(IMPORT_FAILED)
        plugins = [w for p in ("randomly", "cacheprovider", "unraisableexception") for w in ("-p", f"no:{p}")]
        warning = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = pytest.main([*words, "-x", "-q", *plugins, "--tb=line", "--no-header", *warning])
    except BaseException: traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(code))


def attempt(module: str, words: list, cpu: float, log: Path, bytecode: bool = False) -> tuple: # exit code, CPU seconds
    "Run tests in a fork, limited in CPU time and to ten times that by the clock; exit code None if it ran out of time"
    before, pid = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, os.fork()
    if pid == 0: _run_tests(module, words, cpu, log, bytecode)
    end, status = time.monotonic() + 10*cpu, None
    while (done := os.waitpid(pid, os.WNOHANG))[0] == 0 and time.monotonic() < end: time.sleep(0.02)
    if done[0] == 0:
        os.kill(pid, signal.SIGKILL)
        done = os.waitpid(pid, 0)
    try: os.killpg(pid, signal.SIGKILL) # processes that it started
    except ProcessLookupError: pass
    status = os.waitstatus_to_exitcode(done[1])
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    return None if status in (-signal.SIGKILL, -signal.SIGXCPU) else status, seconds


def in_annotations(text: str):
    "A function that tells whether a position (line, column) is in an annotation"
    tree, spans = ast.parse(text), []
    for node in ast.walk(tree):
        found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        spans += [((a.lineno, a.col_offset), (a.end_lineno, a.end_col_offset)) for a in found if a is not None]
    return lambda at: any(a <= tuple(at) < b for a, b in spans)


def change(before: str, after: str) -> tuple: # the old text, the new text
    "The first line that differs, with a few characters around the difference"
    a, b = before.splitlines(), after.splitlines()
    i = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    x = a[i].strip()
    if len(a) != len(b): return x, ""
    y = b[i].strip()
    start = next((k for k, (c, d) in enumerate(zip(x, y)) if c != d), min(len(x), len(y)))
    backwards, shorter = zip(x[start:][::-1], y[start:][::-1]), min(len(x), len(y))
    stop = next((k for k, (c, d) in enumerate(backwards) if c != d), shorter - start)
    low, high = max(0, start - 30), min(stop, 18)
    return x[low:len(x) - stop + high].strip(), y[low:len(y) - stop + high].strip()


def session(module: str, text: str) -> WorkDB:
    "The mutants of a module, with their results so far"
    folder = ROOT/"runs"/"mutants"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder/f"{module}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.sqlite"
    whole = path.exists()
    work = WorkDB(str(path), WorkDB.Mode.create)
    if not whole or not work.num_work_items: init([file_of(module)], work, {})
    return work


def in_order(mutants: list) -> list:
    return sorted(mutants, key=lambda f: (f[1].start_pos, f[1].operator_name, f[1].occurrence))


def mutants_of(work: WorkDB, text: str) -> list: # (work item, its mutation), always in the same order
    inside = in_annotations(text)
    return in_order([(item, item.mutations[0]) for item in work.work_items if not inside(item.mutations[0].start_pos)])


def baseline(module: str, words: list, place: Path, log: Path) -> float: # seconds of CPU that a mutant may take
    "Run the tests without a mutant, which must pass; this also compiles them"
    if not (place/"diec").exists(): # this is the first module with something to try
        copy_of_the_repository(place)
        import_libraries(place)
    code, cpu = attempt(module, words, 3600, log, bytecode=True)
    cache = file_of(module, place).parent/"__pycache__"
    for compiled in cache.glob(f"{module.rpartition('.')[-1]}.*"): compiled.unlink()
    if code != 0: sys.exit(f"the tests of {module} fail without a mutant (exit {code}):\n{log.read_text()[-3000:]}")
    return 3*cpu + 15


def judged(code: int | None) -> WorkResult:
    "The result of a mutant from the exit code of its tests"
    outcome = {0: TestOutcome.SURVIVED, IMPORT_FAILED: TestOutcome.INCOMPETENT}.get(code, TestOutcome.KILLED)
    known = {None: "out of time", 0: "", IMPORT_FAILED: "cannot be imported", 1: "a test failed"}
    return WorkResult(WorkerOutcome.NORMAL, known.get(code, f"exit {code}"), outcome)


def try_module(module: str, sample, place: Path, seed: int, only: str, keep: bool) -> list:
    "Run the tests on the mutants of a module; a row for each"
    path, words = file_of(module, place), TESTS[module]
    text, log = file_of(module).read_text(), place/"output.txt"
    work = session(module, text)
    mutants = mutants_of(work, text)
    known, total = dict(work.results), len(mutants)
    if sample is not None and sample < total: # a larger sample contains the smaller ones
        random.Random(seed).shuffle(mutants)
        mutants = in_order(mutants[:sample])
    def is_due(item):
        if only or item.job_id not in known: return True
        return not keep and known[item.job_id].test_outcome == TestOutcome.SURVIVED
    limit = baseline(module, words, place, log) if any(is_due(item) for item, *_ in mutants) else None
    rows, state = [], f"at most {limit:.0f} s of CPU time each" if limit else "all tried before"
    print(f"{module}: {len(mutants)} of {total:,} mutants, {state}", flush=True)
    for i, (item, m) in enumerate(mutants):
        source = mutate_code(text, get_operator(m.operator_name)(**m.operator_args), m.occurrence)
        if source is None or source == text: continue
        was, now = change(text, source)
        if only and only not in f"{was} -> {now}": continue
        result = known.get(item.job_id)
        if is_due(item):
            path.write_text(source)
            result = judged(attempt(module, words, limit, log)[0])
            work.set_result(item.job_id, result)
            if result.test_outcome == TestOutcome.SURVIVED or only:
                print(f"  {i + 1}/{len(mutants)} {result.test_outcome.value}: {m.definition_name}, "
                      f"line {m.start_pos[0]}: {was}  ->  {now}", flush=True)
            if only: print(log.read_text()[-1500:])
        rows.append({"module": module, "definition": m.definition_name or "",
                     "operator": m.operator_name.removeprefix("core/"), "was": was, "is": now,
                     "outcome": result.test_outcome.value, "how": result.output or "", "of": total})
    if limit: path.write_text(text)
    work.close()
    return rows


def reason_of(row: dict, reasons: list):
    "Why a mutant may survive: (kind, reason), or None"
    for r in reasons:
        variants = r["is"] if isinstance(r["is"], list) else [r["is"]]
        same = (r["module"], r["was"]) == (row["module"], row["was"])
        if same and row["is"] in variants: return r["kind"], r["reason"]
    return None


def shown(rows: list) -> list:
    "A row a module, and one for all"
    def line(name, rows, of):
        run = [r for r in rows if r["outcome"] != "incompetent"]
        killed = sum(r["outcome"] == "killed" for r in run)
        same = sum(r["kind"] == "equivalent" for r in run)
        percent = lambda a, b: f"{100*a/b:.1f}" if b else ""
        return {"module": name, "mutants": f"{of:,}", "tried": len(run), "killed": killed,
                "of these out of time": sum(r["how"] == "out of time" for r in run),
                "survived": len(run) - killed, "of these equivalent": same,
                "killed, % of tried": percent(killed, len(run)),
                "killed, % of those not equivalent": percent(killed, len(run) - same)}
    names = list(dict.fromkeys(r["module"] for r in rows))
    own = {n: [r for r in rows if r["module"] == n] for n in names}
    return [line(n, own[n], own[n][0]["of"]) for n in names] + [line("all", rows, sum(own[n][0]["of"] for n in names))]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", default="50", help="mutants of each module, drawn at random with a fixed seed, or "
                        "'all' (default: 50; losses and model always have all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (default: 0)")
    parser.add_argument("--modules", nargs="+", choices=TESTS, default=list(TESTS), help="(default: all)")
    parser.add_argument("--only", help="try only mutants whose change contains this text, print the output of pytest, "
                        "and write no table")
    parser.add_argument("--keep", action="store_true", help="do not try survivors again, only mutants never tried")
    parser.add_argument("--out", help="folder for tables/mutants and tables/mutants-survived (default: print only)")
    args = parser.parse_args(argv)
    settings = {"sample": args.sample, "seed": args.seed, "modules": args.modules}
    provenance = Provenance("mutants", settings, packages=("cosmic-ray",))
    reasons = tomllib.loads(REASONS.read_text())["mutant"]
    out, size = args.out and Path(args.out).resolve(), None if args.sample == "all" or args.only else int(args.sample)
    with tempfile.TemporaryDirectory(prefix="diec-mutants-") as folder:
        place = Path(folder)
        options = place, args.seed, args.only, args.keep
        try: rows = [r for m in args.modules for r in try_module(m, SAMPLES.get(m, size), *options)]
        finally: os.chdir(ROOT)
    if args.only: return
    survived = [r for r in rows if r["outcome"] == "survived"]
    for r in rows: r["kind"], r["reason"] = "", ""
    for r in survived: r["kind"], r["reason"] = reason_of(r, reasons) or ("", "")
    survivors = [{k: r[k] for k in ("module", "definition", "was", "is", "kind", "reason")} for r in survived]
    table = shown(rows)
    for r in table: print(r)
    if out: save_tables(out/"tables", rows, table, survivors, size, provenance)
    if bare := [s for s in survivors if not s["reason"]]:
        sys.exit(f"{len(bare)} survivors have no reason in tools/mutants.toml: add a test that kills them, or a reason")


def save_tables(folder: Path, rows: list, table: list, survivors: list, size: int | None, provenance: Provenance):
    "Write the tables `mutants` and `mutants-survived`"
    columns = "module", "definition", "operator", "was", "is", "outcome", "how", "kind"
    tried = f"all of losses and model, a random {size} of each other module" if size else "all"
    caption = ("Small faults in the code (mutants, made by cosmic-ray) that a fast selection of tests finds. *Mutants* "
               f"counts all that can be made, *tried* those that we tried ({tried}) and that can be imported. An "
               "*equivalent* mutant computes the same as the code.")
    save_table(folder/"mutants", [{k: r[k] for k in columns} for r in rows], table, caption, provenance)
    none = [{"module": "none"}]
    quoted = [{k: f"`{v}`" if k in ("was", "is") and v else v for k, v in s.items()} for s in survivors]
    save_table(folder/"mutants-survived", survivors or none, quoted or none,
               "The mutants that no test of the selection finds, and why each may stay.", provenance)


if __name__ == "__main__":
    main()
