"""How many small faults in the code do the tests find? `make mutants`, or `python -m tools.mutants --sample 50 --out results`.

cosmic-ray makes the faults (mutants): another operator, a number off by one, a condition turned round, a decorator or an exception taken away. Each is tried on a copy of the package with a selection of tests that is quick for its
module. A process that has imported the libraries forks for each mutant, so that a mutant costs the time of its tests and not that of importing torch.

What is in an annotation is no mutant (nothing reads it), nor is what keeps the module from being imported (any test would find it). Sessions are kept in runs/mutants by the module's text: a killed mutant is not tried again until
its module changes; survivors are tried again each time. Every survivor needs a reason in tools/mutants.toml; one without a reason makes the command fail.
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
SLOW_HIERARCHY = "not scikit_learn and not matched_first and not permuting_rows and not same_twice and not no_strays and not many_new_points and not constant_features and not one_at_a_time and not scale_of_features and not levels_can and not nested and not new_points_join"
TESTS = { # module -> what pytest is given; those that fail soonest first
    "losses": ["tests/method/test_defaults.py", "tests/method/test_losses.py"],
    "model": ["tests/method/test_defaults.py", "tests/method/test_losses.py"],
    "search": ["tests/method/test_defaults.py", "tests/method/test_search.py"],
    "trainer": ["tests/method/test_defaults.py", "tests/app/test_pretrain_behavior.py", "tests/method/test_trainer.py", "-k", SLOW_TRAINER],
    "core.checkpoint": ["tests/core/test_checkpoint.py"],
    **{f"hierarchy.{m}": ["tests/method/test_defaults.py", "tests/hierarchy/test_hierarchy_parts.py", "tests/hierarchy/test_hierarchy.py", "-k", SLOW_HIERARCHY]
       for m in ("graph", "condensation", "selection", "estimator", "plots")},
}
SAMPLES = {"losses": None, "model": None} # None: all of them
IMPORT_FAILED, MEMORY = 70, 16*2**30


def file_of(module: str, root: Path = ROOT) -> Path: return root.joinpath("diec", *module.split(".")).with_suffix(".py")


def copy_of_the_repository(place: Path):
    "What the tests need, without what is not in git"
    names = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "diec", "tests", "tools", "workflow", "nbs", "results/tables", "pyproject.toml", "settings.ini"], capture_output=True, check=True).stdout.split(b"\0")
    for name in map(os.fsdecode, filter(None, names)):
        if not (ROOT/name).is_file(): continue
        (place/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT/name, place/name)


def import_libraries(place: Path):
    "Import the package with all that it needs, then forget the package alone: each child imports its own mutant of it"
    os.chdir(place)
    sys.path.insert(0, str(place))
    os.environ["PYTHONPATH"] = str(place) # for processes that tests start
    for name in [n for n in sys.modules if n.split(".")[0] == "diec"]: del sys.modules[name]
    import hypothesis, pytest # noqa: F401
    import diec.app.cli, diec.estimator # noqa: F401
    for name in [n for n in sys.modules if n.split(".")[0] == "diec"]: del sys.modules[name]
    gc.collect()
    gc.freeze() # children need not look through what the libraries made


def _run_tests(module: str, words: list, cpu: float, log: Path, bytecode: bool):
    "In the child: never returns"
    code = 1
    try:
        if not bytecode: # two mutants of one second and one length would share it
            sys.dont_write_bytecode = True
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2): os.dup2(out, number)
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu) + 1, int(cpu) + 1))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        import importlib, pytest
        try: importlib.import_module(f"diec.{module}")
        except BaseException: os._exit(IMPORT_FAILED)
        code = pytest.main([*words, "-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:unraisableexception", "--tb=line", "--no-header", "-W", "ignore::pytest.PytestAssertRewriteWarning"])
    except BaseException: traceback.print_exc()
    finally:
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(int(code))


def attempt(module: str, words: list, cpu: float, log: Path, bytecode: bool = False) -> tuple: # exit code, None if it ran out of time; its seconds of CPU
    "Run tests in a fork, within a limit of CPU time and ten times that on the clock"
    before, pid = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, os.fork()
    if pid == 0: _run_tests(module, words, cpu, log, bytecode)
    end, status = time.monotonic() + 10*cpu, None
    while (done := os.waitpid(pid, os.WNOHANG))[0] == 0 and time.monotonic() < end: time.sleep(0.02)
    if done[0] == 0: os.kill(pid, signal.SIGKILL); done = os.waitpid(pid, 0)
    try: os.killpg(pid, signal.SIGKILL) # what it started
    except ProcessLookupError: pass
    status = os.waitstatus_to_exitcode(done[1])
    return None if status in (-signal.SIGKILL, -signal.SIGXCPU) else status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def in_annotations(text: str):
    "A function that says whether a position (line, column) is in an annotation, or on a line of `__all__`"
    tree, spans = ast.parse(text), []
    for node in ast.walk(tree):
        found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        spans += [((a.lineno, a.col_offset), (a.end_lineno, a.end_col_offset)) for a in found if a is not None]
    return lambda at: any(a <= tuple(at) < b for a, b in spans)


def change(before: str, after: str) -> tuple: # (what the line said, what it says), a few words of each
    "The first line that differs, cut to where it does"
    a, b = before.splitlines(), after.splitlines()
    i = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    x = a[i].strip()
    if len(a) != len(b): return x, ""
    y = b[i].strip()
    start = next((k for k, (c, d) in enumerate(zip(x, y)) if c != d), min(len(x), len(y)))
    stop = next((k for k, (c, d) in enumerate(zip(x[start:][::-1], y[start:][::-1])) if c != d), min(len(x), len(y)) - start)
    low, high = max(0, start - 30), min(stop, 18)
    return x[low:len(x) - stop + high].strip(), y[low:len(y) - stop + high].strip()


def session(module: str, text: str) -> WorkDB:
    "The mutants of a module, with what became of them so far"
    folder = ROOT/"runs"/"mutants"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder/f"{module}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.sqlite"
    whole = path.exists()
    work = WorkDB(str(path), WorkDB.Mode.create)
    if not whole or not work.num_work_items: init([file_of(module)], work, {})
    return work


def in_order(mutants: list) -> list:
    return sorted(mutants, key=lambda f: (f[1].start_pos, f[1].operator_name, f[1].occurrence))


def mutants_of(work: WorkDB, text: str) -> list: # (work item, its mutation), in an order that does not change
    inside = in_annotations(text)
    return in_order([(item, item.mutations[0]) for item in work.work_items if not inside(item.mutations[0].start_pos)])


def baseline(module: str, words: list, place: Path, log: Path) -> float: # seconds of CPU that a mutant may take
    "The tests without a mutant, which must pass; compiles them for the mutants to come"
    if not (place/"diec").exists(): # the first module of which there is something to try
        copy_of_the_repository(place)
        import_libraries(place)
    code, cpu = attempt(module, words, 3600, log, bytecode=True)
    for compiled in (file_of(module, place).parent/"__pycache__").glob(f"{module.rpartition('.')[-1]}.*"): compiled.unlink()
    if code != 0: sys.exit(f"The tests of {module} fail without a mutant (exit {code}):\n{log.read_text()[-3000:]}")
    return 3*cpu + 15


def try_module(module: str, sample, place: Path, seed: int, only: str, keep: bool) -> list: # a row for each mutant that was tried
    "Run the tests on the mutants of a module"
    path, words = file_of(module, place), TESTS[module]
    text, log = file_of(module).read_text(), place/"output.txt"
    work = session(module, text)
    mutants = mutants_of(work, text)
    known, total = dict(work.results), len(mutants)
    if sample is not None and sample < total: # a larger sample holds the smaller ones
        random.Random(seed).shuffle(mutants)
        mutants = in_order(mutants[:sample])
    again = lambda item: only or item.job_id not in known or not keep and known[item.job_id].test_outcome == TestOutcome.SURVIVED
    limit = baseline(module, words, place, log) if any(again(item) for item, *_ in mutants) else None
    rows = []
    print(f"{module}: {len(mutants)} of {total:,} mutants" + (f", each within {limit:.0f} s of CPU" if limit else ", all tried before"), flush=True)
    for i, (item, m) in enumerate(mutants):
        source = mutate_code(text, get_operator(m.operator_name)(**m.operator_args), m.occurrence)
        if source is None or source == text: continue
        was, now = change(text, source)
        if only and only not in f"{was} -> {now}": continue
        result = known.get(item.job_id)
        if again(item):
            path.write_text(source)
            code, _ = attempt(module, words, limit, log)
            outcome = TestOutcome.SURVIVED if code == 0 else TestOutcome.INCOMPETENT if code == IMPORT_FAILED else TestOutcome.KILLED
            how = "out of time" if code is None else {0: "", IMPORT_FAILED: "cannot be imported", 1: "a test failed"}.get(code, f"exit {code}")
            result = WorkResult(WorkerOutcome.NORMAL, how, outcome)
            work.set_result(item.job_id, result)
            if outcome == TestOutcome.SURVIVED or only: print(f"  {i + 1}/{len(mutants)} {outcome.value}: {m.definition_name}, line {m.start_pos[0]}: {was}  ->  {now}", flush=True)
            if only: print(log.read_text()[-1500:])
        rows.append({"module": module, "definition": m.definition_name or "", "operator": m.operator_name.removeprefix("core/"), "was": was, "is": now, "outcome": result.test_outcome.value, "how": result.output or "", "of": total})
    if limit: path.write_text(text)
    work.close()
    return rows


def reason_of(row: dict, reasons: list):
    "Why a mutant may stay: (kind, reason), or None"
    for r in reasons:
        if r["module"] == row["module"] and r["was"] == row["was"] and row["is"] in (r["is"] if isinstance(r["is"], list) else [r["is"]]): return r["kind"], r["reason"]
    return None


def shown(rows: list) -> list:
    "A row a module, and one for all"
    def line(name, rows, of):
        run = [r for r in rows if r["outcome"] != "incompetent"]
        killed = sum(r["outcome"] == "killed" for r in run)
        same = sum(r["kind"] == "equivalent" for r in run)
        percent = lambda a, b: f"{100*a/b:.1f}" if b else ""
        return {"module": name, "mutants": f"{of:,}", "tried": len(run), "killed": killed, "of these out of time": sum(r["how"] == "out of time" for r in run), "survived": len(run) - killed, "of these equivalent": same,
                "killed, % of tried": percent(killed, len(run)), "killed, % of those not equivalent": percent(killed, len(run) - same)}
    names = list(dict.fromkeys(r["module"] for r in rows))
    own = {n: [r for r in rows if r["module"] == n] for n in names}
    return [line(n, own[n], own[n][0]["of"]) for n in names] + [line("all", rows, sum(own[n][0]["of"] for n in names))]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", default="50", help="mutants of each module, drawn at random with a fixed seed, or 'all' (default: 50; of losses and model all in any case)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    parser.add_argument("--modules", nargs="+", choices=TESTS, default=list(TESTS), help="which (default: all)")
    parser.add_argument("--only", help="only mutants whose change holds this text, with what pytest said; no table is written")
    parser.add_argument("--keep", action="store_true", help="do not try survivors again: only what was never tried")
    parser.add_argument("--out", help="folder for tables/mutants and tables/mutants-survived (default: print only)")
    args = parser.parse_args(argv)
    provenance = Provenance("mutants", {"sample": args.sample, "seed": args.seed, "modules": args.modules}, packages=("cosmic-ray",))
    reasons = tomllib.loads(REASONS.read_text())["mutant"]
    out, size = args.out and Path(args.out).resolve(), None if args.sample == "all" or args.only else int(args.sample)
    with tempfile.TemporaryDirectory(prefix="diec-mutants-") as folder:
        place = Path(folder)
        try: rows = [r for m in args.modules for r in try_module(m, SAMPLES.get(m, size), place, args.seed, args.only, args.keep)]
        finally: os.chdir(ROOT)
    if args.only: return
    survivors = []
    for r in rows:
        r["kind"], r["reason"] = (reason_of(r, reasons) or ("", "")) if r["outcome"] == "survived" else ("", "")
        if r["outcome"] == "survived": survivors.append({k: r[k] for k in ("module", "definition", "was", "is", "kind", "reason")})
    table = shown(rows)
    for r in table: print(r)
    if out:
        of_all = "of losses and model all" if size else "all"
        save_table(out/"tables"/"mutants", [{k: r[k] for k in ("module", "definition", "operator", "was", "is", "outcome", "how", "kind")} for r in rows], table,
                   f"Small faults (mutants, made by cosmic-ray) that a quick selection of tests finds; *mutants* counts all that can be made, *tried* those that were ({of_all if not size else f'{of_all}, of the others {size} at random'}) and can be imported. An *equivalent* mutant computes the same as the code.", provenance)
        save_table(out/"tables"/"mutants-survived", survivors or [{"module": "none"}], [{k: f"`{v}`" if k in ("was", "is") and v else v for k, v in s.items()} for s in survivors] or [{"module": "none"}],
                   "The mutants that no test of the selection found, and why each may stay.", provenance)
    if bare := [s for s in survivors if not s["reason"]]: sys.exit(f"{len(bare)} survivors have no reason in tools/mutants.toml: write a test that kills them, or the reason")


if __name__ == "__main__":
    main()
