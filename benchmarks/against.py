"""Compare the speed of this source tree with that of an earlier commit: `python -m benchmarks.against COMMIT PART`.

The commit is checked out into a temporary folder. Two processes, one for each tree, take turns. Prints the CPU seconds
of each turn, and the time of this tree over that of the commit: 0.50 means that it became twice as fast.
"""
import argparse
import os
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.child import PARTS
from benchmarks.measure import ROOT, Child
from diec.app.speed import Ratio, ratio

TURNS = {"extraction": 5, "fit": 3, "pretraining": 3, "hierarchy": 5, "imports": 7}


def git(*words: str) -> str:
    "The output of git in this source tree; one line that says what is wrong"
    try: done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    except FileNotFoundError: raise SystemExit("git is needed to compare with a commit; it is not installed") from None
    if done.returncode: raise SystemExit(f"git {' '.join(words)}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


def full_name(commit: str) -> str:
    "The 40 digits of a commit"
    git("rev-parse", "--git-dir")
    try: return git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    except (SystemExit, IndexError): # git says nothing with --quiet
        raise SystemExit(f"commit must be one that git finds in this repository, got {commit!r}; "
                         "try git log, or git fetch") from None


@contextmanager
def source_tree(commit: str):
    "The files of a commit, in a folder that is deleted at the end"
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place)/"tree"
        git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try: yield tree
        finally: git("worktree", "remove", "--force", str(tree))


def start(tree: Path, words: list) -> Child:
    "A process that runs a part with the package of a source tree"
    env = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    child = Child([Path(__file__).with_name("child.py"), *words], env=env, cwd=tempfile.gettempdir())
    loaded = Path(child.answer()).resolve()
    if tree.resolve() not in loaded.parents:
        child.stop()
        raise SystemExit(f"the package of {tree} must be the one that is loaded, got {loaded}")
    return child


def compare(commit: str, words: list, turns: int) -> Ratio:
    "Let the two trees take turns, after one run of each that does not count"
    seconds = {"this tree": [], commit[:10]: []}
    with source_tree(commit) as tree, ExitStack() as stack:
        children = dict(zip(seconds, (start(ROOT, words), start(tree, words))))
        for child in children.values(): stack.callback(child.stop)
        for child in children.values(): child.ask()
        for turn in range(turns):
            for name, child in children.items(): seconds[name].append(child.ask())
            print(f"turn {turn + 1}: " + ", ".join(f"{name} {s[-1]:.3f} s" for name, s in seconds.items()), flush=True)
    return ratio(*seconds.values())


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="what to compare with: a hash, a tag or a branch")
    parser.add_argument("part", choices=TURNS)
    parser.add_argument("--dataset", default="mnist-5k", help="a data set with a U-Net in the package")
    parser.add_argument("--images", type=int, default=500, help="images, at most (default: 500)")
    parser.add_argument("--turns", type=int, help="turns of each tree (default: 3 to 7, by part)")
    args = parser.parse_args(argv)
    assert set(TURNS) == {*PARTS, "imports"}
    commit = full_name(args.commit)
    found = compare(commit, [args.part, args.dataset, args.images], args.turns or TURNS[args.part])
    print(f"{args.part}: CPU seconds of this tree over those of {commit[:10]}: {found}")


if __name__ == "__main__": main()
