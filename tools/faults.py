"""Kill, fill and feed rubbish, and see what is left: `make faults`, or `python -m tools.faults --kills 20 --seconds 60 --out results`.

Three parts. *Kills*: the command `diec` is killed (SIGKILL) or asked to stop (SIGINT, SIGTERM, SIGHUP) at random moments of each of its stages and started again, each time with another seed of Python's hashes. What it ends with is compared,
byte by byte, with what an undisturbed run leaves; and the work of all runs together, which the command logs piece by piece, with the work of that one: after a signal nothing is done twice, after a kill no more than lies between two checkpoints. *Disk*: the same with a
disk too small for it (a file system in memory, where the machine lets us mount one; else a limit on the size of files). In both, files of the user's and links to such stand beside every name that is written, and must stay as they are. *Rubbish*: each reader gets files made by hypothesis, whole ones with bytes changed among them; it may refuse them
with an error of its kind, and nothing else: no crash, no hang, no great memory, no code run from a file.
"""
import argparse
import gzip
import hashlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from diec.core.files import MANIFEST
from diec.data.datasets import load_dataset
from diec.evaluation.results import Provenance, save_table

ENV = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}


# --- kills

def pictures(folder: Path, n: int = 90):
    "Digits as files of several sizes, some broken"
    digits = load_dataset("digits")
    for i in range(n):
        p = folder/f"{i % 3}"/f"{i:03d}.png"
        p.parent.mkdir(parents=True, exist_ok=True)
        side = 8*(1 + i % 4)
        Image.fromarray(np.round((digits.images[i, 0] + 1)*127.5).astype(np.uint8)).resize((side, side)).save(p)
    (folder/"broken.png").write_bytes(b"no picture")


CLUSTER = ["cluster", "IN", "--unet", "digits", "-k", "4", "--out", "OUT", "--into", "OUT.sorted", "--fine-tune", "--quiet"], ["labels.csv", "report.html", "model"]
STAGES = { # the command, the files that its end is judged by, and the part of its time in which it is killed
    "pretraining": (["pretrain", "IN", "--out", "OUT/unet", "--image-size", "8", "--steps", "60", "--quiet"], ["unet"], (0.3, 1.)),
    "searching": (["search", "IN", "--unet", "digits", "-k", "4", "--quiet", "--work", "OUT/work"], [], (0.3, 1.)),
    "fitting": (*CLUSTER, (0.3, 0.85)),
    "writing the result": (*CLUSTER, (0.85, 1.05)),
}


COUNTING = """
import logging, sys
log = logging.getLogger("diec")
log.addHandler(logging.FileHandler(sys.argv.pop(1))); log.setLevel(logging.DEBUG)
from diec.app.cli import main
main()
"""
LOST = {"image": 256, "step": 500, "evaluation": 1, "batch": 1, "update": 1} # pieces of work that one kill may cost: what lies between two checkpoints (in less than half a minute; one batch holds all images, one update is an epoch)


def command(words, place, log=None):
    "The command for a place; what it finishes is added to the file `log`"
    program = ["-m", "diec.app.cli"] if log is None else ["-c", COUNTING, str(log)]
    return [sys.executable, *program, *(w.replace("IN", str(place.parent/"in")).replace("OUT", str(place/"out")) for w in words)]


def hashed(rng) -> dict:
    "The environment, with a random order of sets"
    return ENV | {"PYTHONHASHSEED": str(rng.randrange(2**32))}


def work(log: Path) -> Counter:
    "Pieces of work in a log, and how often each was done"
    return Counter(tuple(line.split()[1:]) for line in log.read_text().splitlines() if line.startswith("finished ")) if log.exists() else Counter()


def repeated(done: Counter, whole: Counter) -> Counter:
    "How many pieces of each unit were done more often than in an undisturbed run (which extracts again after the U-Net has changed)"
    again = Counter()
    for (unit, *_), n in (done - whole).items(): again[unit] += n
    return again


def counted(n: int, unit: str) -> str:
    return f"{n} {unit}" if n == 1 else f"{n} {unit}{'es' if unit.endswith('ch') else 's'}"


def plant(place: Path, whole: Path) -> dict:
    "Files of the user's and links to such, beside each name that an undisturbed run left in a folder that may hold other files, too; what they are, to be compared"
    yours = place.parent/"yours"
    (yours/"folder").mkdir(parents=True, exist_ok=True)
    for name in ("file", "folder/inner", "folder/.lock"): (yours/name).write_text("yours")
    folders = [f for f in (whole, whole/"out") if f.is_dir()]
    planted = [yours]
    for folder in folders:
        here = place/folder.relative_to(whole)
        here.mkdir(parents=True, exist_ok=True)
        for name in [p.name for p in folder.iterdir() if p not in folders]:
            for one in (f".{name}.partial", f".diec-{name}.partial", f"{name}~"): (here/one).touch(mode=0o640)
            for one in (f".{name}.x.partial", f".{name}.old.replaced", f".diec-{name}.old.partial"): (here/one).mkdir()
            for one, target in ((f".{name}.file.partial", yours/"file"), (f".diec-{name}.folder.partial", yours/"folder")): (here/one).symlink_to(target)
        planted += [p for p in here.iterdir() if p != here/"out"]
    return {p: looks(p) for top in planted for p in (top, *(top.rglob("*") if top.is_dir() and not top.is_symlink() else ()))}


def plant_within(place: Path, planted: dict):
    "Files of the user's in the folders that the killed command works in"
    for work in (w for w in place.rglob("*work") if w.is_dir() and (w/MANIFEST).is_file()):
        for folder in (work, *(p for p in work.iterdir() if p.is_dir() and not p.name.startswith(".diec-"))):
            if (file := folder/".yours.partial") in planted: continue
            file.touch(mode=0o640)
            planted[file] = looks(file)


def looks(path: Path):
    "Mode, time and content of a file, target of a link; of a folder the mode"
    s = path.lstat()
    return s.st_mode, os.readlink(path) if path.is_symlink() else (s.st_mtime_ns, path.read_bytes()) if path.is_file() else None


def touched(planted: dict) -> int:
    "How many of the files that were planted are not as they were"
    return sum(not os.path.lexists(p) or looks(p) != was for p, was in planted.items())


def digest(place: Path, said: str, names) -> str:
    "Of the files that count, or of what was said where there are none"
    sha = hashlib.sha256()
    for path in sorted(p for n in names for p in ([place/"out"/n] if (place/"out"/n).is_file() else (place/"out"/n).rglob("*"))):
        if path.is_file() and path.name not in ("history.json", MANIFEST): sha.update(f"{path.relative_to(place)}".encode()); sha.update(path.read_bytes())
    if not names: sha.update(said.encode())
    return sha.hexdigest()


def half_written(place: Path) -> list:
    "Files that can be read as whole and are not"
    from safetensors import safe_open
    bad = []
    for p in place.rglob("*"):
        if p.name.endswith(".partial") or ".partial" in str(p.relative_to(place)) or not p.is_file(): continue
        try:
            if p.suffix == ".json": json.loads(p.read_text())
            elif p.suffix == ".safetensors":
                with safe_open(p, "pt") as f: [f.get_tensor(k) for k in f.keys()]
        except Exception as e: bad.append(f"{p}: {e}")
    return bad


def strike(words, place, log, signum, after: float, rng) -> tuple:
    "Start the command and send it a signal; whether it was still at work, and whether it ended as it should"
    child = subprocess.Popen(command(words, place, log), env=hashed(rng), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try: child.wait(after)
    except subprocess.TimeoutExpired: child.send_signal(signum)
    said = child.communicate()[1]
    if child.returncode == 0: return False, True # done before its time
    if signum == signal.SIGKILL: return True, child.returncode == -signum
    clear = child.returncode == 128 + signum and said.startswith("diec: interrupted") and said.count("\n") == 1
    if not clear: print(f"{signal.Signals(signum).name} after {after:.1f} s: status {child.returncode}: {said[-500:]}", flush=True)
    return True, clear


SIGNALS = {"killed": [signal.SIGKILL], "asked to stop": [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]}


def kills(n: int, rng) -> list:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        pictures(folder/"in")
        for stage, (words, names, span) in STAGES.items():
            place, log = folder/"whole", folder/"whole.log"
            shutil.rmtree(place, ignore_errors=True) # of the stage before, which would be resumed
            log.unlink(missing_ok=True)
            start = time.perf_counter()
            done = subprocess.run(command(words, place, log), env=hashed(rng), capture_output=True, text=True, check=True)
            length, wanted, whole = time.perf_counter() - start, digest(place, done.stdout, names), work(log)
            for how, signums in SIGNALS.items():
                failures, struck, turn, again, place, log = 0, 0, 0, Counter(), folder/"struck", folder/"struck.log"
                foreign = harmed = 0
                while struck < n: # a run that was done before its time counts for nothing
                    strikes, planted = 0, plant(place, folder/"whole")
                    for attempt in range(rng.randint(1, 2)): # once or twice
                        new, start = attempt == 0, time.perf_counter()
                        hit, clear = strike(words, place, log, signums[turn % len(signums)], rng.uniform(*span)*length, rng)
                        if not hit and new: length = time.perf_counter() - start # machines are now slower, now faster
                        strikes, turn, failures = strikes + hit, turn + hit, failures + (not clear)
                        failures += len(half_written(place)) if place.exists() else 0
                        plant_within(place, planted)
                    last = subprocess.run(command(words, place, log), env=hashed(rng), capture_output=True, text=True)
                    failures += last.returncode != 0 or digest(place, last.stdout, names) != wanted
                    every = work(log)
                    twice = repeated(every, whole)
                    allowed = {unit: strikes*LOST[unit]*(how == "killed") for unit in LOST}
                    over = {unit: c for unit, c in twice.items() if c > allowed[unit]}
                    missing = whole.keys() - every.keys()
                    if over or missing: failures += 1; print(f"{how} while {stage}: done twice {over}, not done {sorted(missing)[:3]}", flush=True)
                    struck, again = struck + strikes, again + twice
                    foreign, harmed = foreign + len(planted), harmed + touched(planted)
                    shutil.rmtree(place); log.unlink()
                rows.append({"what": f"{how} while {stage}", "cases": struck, "failures": failures + harmed, "foreign files planted": foreign, "touched": harmed, "judged by": "the same bytes as an undisturbed run; no half-written file; no foreign file touched; " + ("no more work repeated than between two checkpoints" if how == "killed" else "the status and one line; no work repeated"),
                             "pieces of work": sum(whole.values()), "repeated": ", ".join(counted(c, unit) for unit, c in sorted(again.items()) if c) or "none"})
                print(rows[-1], flush=True)
    return rows


# --- a full disk

def small_disk(place: Path, megabytes: int):
    "A file system of so many megabytes; whether it could be mounted"
    place.mkdir(parents=True, exist_ok=True)
    return subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)], capture_output=True).returncode == 0


def disk() -> list:
    failures = cases = foreign = harmed = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        pictures(folder/"in")
        words, names = CLUSTER
        whole = folder/"whole"
        wanted = digest(whole, subprocess.run(command(words, whole), env=ENV, capture_output=True, text=True, check=True).stdout, names)
        for megabytes in (1, 3, 5, 8):
            place = folder/f"small-{megabytes}"
            mounted = small_disk(place, megabytes)
            planted = plant(place, whole)
            limit = None if mounted else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (megabytes*100_000,)*2) or signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            tried = subprocess.run(command(words, place), env=ENV, capture_output=True, text=True, preexec_fn=limit)
            cases += 1
            clear = tried.returncode == 0 or (tried.returncode == 2 and "Traceback" not in tried.stderr)
            sound = not half_written(place)
            plant_within(place, planted)
            if mounted: subprocess.run(["mount", "-o", "remount,size=200m", str(place)], check=True)
            again = subprocess.run(command(words, place), env=ENV, capture_output=True, text=True)
            good = again.returncode == 0 and digest(place, again.stdout, names) == wanted
            foreign, harmed = foreign + len(planted), harmed + touched(planted)
            if not (clear and sound and good): failures += 1; print(megabytes, tried.returncode, tried.stderr[-300:], sound, again.stderr[-300:])
            if mounted: subprocess.run(["umount", str(place)])
    row = {"what": "disk full" if mounted else "files may not grow", "cases": cases, "failures": failures + harmed, "foreign files planted": foreign, "touched": harmed, "judged by": "one line of error, no half-written file, and the same bytes once there is room; no foreign file touched"}
    print(row, flush=True)
    return [row]


# --- rubbish

class Reader(NamedTuple):
    wholes: list # files that it can read, to start from
    read: Callable # (bytes, folder to write them to)
    hostile: list # files made to do harm


REFUSALS = (ValueError, OSError, TypeError) # what a reader may raise; DataError is a ValueError


def readers(folder: Path) -> dict:
    "What reads files, by name"
    import torch

    from diec.core.checkpoint import load_state, save_state
    from diec.data.folder import open_pack, pack_folder, read_image_folder
    from diec.data.formats import read_idx, read_libsvm
    from diec.estimator import DiEC
    from diec.trainer import TrainingConfig
    from diec.unet import load_unet, new_scheduler, new_unet, save_unet
    pictures(folder/"in", 12)
    pack_folder(folder/"in", folder/"store"/"images", 8)
    save_state(folder/"state.safetensors", {"a": torch.arange(6.), "b": [1, "x", None]})
    unet = new_unet(8, block_out_channels=(8, 8)), new_scheduler()
    save_unet(folder/"unet", *unet)
    DiEC(2, unet, timestep=10, n_draws=1, training_config=TrainingConfig(head_epochs=1, joint_epochs=0), random_state=0).fit(load_dataset("digits").images[:30]).save_pretrained(folder/"model")
    png = (folder/"in"/"0"/"000.png").read_bytes()
    jpeg = folder/"x.jpg"
    Image.open(folder/"in"/"0"/"003.png").save(jpeg)
    def picture(data, place, suffix):
        (place/"pics").mkdir(exist_ok=True); (place/"pics"/f"a{suffix}").write_bytes(data)
        read_image_folder(place/"pics", 8)
    def one(reader, name):
        def read(data, place): (place/name).write_bytes(data); return reader(place/name)
        return read
    def within(source, name, reader):
        def read(data, place):
            target = place/"tree"
            shutil.copytree(source, target)
            try: (target/name).write_bytes(data); reader(target)
            finally: shutil.rmtree(target)
        return read
    bomb = io.BytesIO()
    Image.new("1", (40_000, 40_000)).save(bomb, "PNG") # 1.6 billion pixels in 200 KB
    model, net, store = folder/"model", folder/"unet", folder/"store"/"images"
    config, weights, scheduler = "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"
    whole = lambda path: [path.read_bytes()]
    large = lambda path, **facts: json.dumps(json.loads(path.read_text()) | facts).encode()
    header = b'{"a":{"dtype":"F32","shape":[2147483648,1024],"data_offsets":[0,8796093022208]}}'
    vast = [len(header).to_bytes(8, "little") + header, (2**60).to_bytes(8, "little") + b"{}"]
    def size_of(*shape): return b"\x00\x00\x08\x03" + np.array(shape, ">i4").tobytes()
    return {
        "IDX": Reader([size_of(2, 3, 4) + bytes(24)], one(read_idx, "x-ubyte"), [size_of(2**31 - 1, 28, 28), gzip.compress(size_of(2**17, 2**7, 2**7) + bytes(2**28))]),
        "libsvm": Reader([b"1 1:0.5 3:1\n2 2:-1\n"], one(lambda p: read_libsvm(p, 4), "x"), [b"1 2147483647:1\n", b"1 1:0.5 " + b"9"*10**6 + b":1\n", gzip.compress(b"1 1:1\n"*2**26)]),
        "PNG": Reader([png], lambda d, p: picture(d, p, ".png"), [bomb.getvalue()]),
        "JPEG": Reader(whole(jpeg), lambda d, p: picture(d, p, ".jpg"), [bomb.getvalue()]),
        "checkpoint": Reader(whole(folder/"state.safetensors"), one(load_state, "s.safetensors"), vast),
        "pack of images": Reader(whole(store/"images.json"), within(store, "images.json", open_pack), [large(store/"images.json", shape=[2**31, 1, 8, 8])]),
        "U-Net's config": Reader(whole(net/config), within(net, config, load_unet), [large(net/config, **f) for f in ({"block_out_channels": [2**31, 2**31]}, {"layers_per_block": 10**9}, {"sample_size": 2**31}, {"_class_name": "os.system"})]),
        "U-Net's weights": Reader(whole(net/weights), within(net, weights, load_unet), vast),
        "scheduler's config": Reader(whole(net/scheduler), within(net, scheduler, load_unet), [large(net/scheduler, num_train_timesteps=10**9), large(net/scheduler, trained_betas=[0.1]*10**6)]),
        "model's config": Reader(whole(model/"config.json"), within(model, "config.json", DiEC.from_pretrained), [large(model/"config.json", timestep=10**12)]),
        "model's tensors": Reader(whole(model/"model.safetensors"), within(model, "model.safetensors", DiEC.from_pretrained), vast),
    }


class Slow(BaseException):
    "A reader took longer than `PATIENCE`"


def late(*_): raise Slow


PATIENCE = 20 # seconds


def peak(reset=False) -> float:
    "The greatest memory of this process since the last reset (Linux; elsewhere since its start), MB"
    try:
        if reset: Path("/proc/self/clear_refs").write_text("5")
        return int(next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM")).split()[1])/1024
    except (OSError, StopIteration): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024


def rubbish(seconds: float) -> list:
    from hypothesis import HealthCheck, given, seed, settings
    from hypothesis import strategies as st
    rows = []
    class Planted:
        def __init__(self, path): self.path = path
        def __reduce__(self): return os.mkdir, (self.path,)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(folder)
        signal.signal(signal.SIGALRM, late)
        for name, (wholes, read, hostile) in readers(folder).items():
            marker = folder/"code-was-run"
            fixed = [*wholes, *hostile, b"", pickle.dumps(Planted(str(marker))), b"PK\x03\x04" + bytes(50), *(w[:len(w)//2] for w in wholes), *(w + b"x" for w in wholes)]
            state = {"cases": 0, "failures": 0, "slowest": 0.}
            before = peak(reset=True)
            def attempt(data):
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    start = time.perf_counter()
                    signal.alarm(PATIENCE)
                    try: read(data, Path(place))
                    except REFUSALS: pass
                    except (Exception, Slow) as e:
                        state["failures"] += 1
                        (Path("runs")/"faults").mkdir(parents=True, exist_ok=True)
                        (Path("runs")/"faults"/f"{name.replace(' ', '-')}-{state['failures']}").write_bytes(data)
                        print(f"{name}: {type(e).__name__}: {str(e)[:200]}", flush=True)
                    finally: signal.alarm(0)
                    state["slowest"] = max(state["slowest"], time.perf_counter() - start)
                state["cases"] += 1
            for data in fixed: attempt(data)
            changes = st.lists(st.tuples(st.integers(0, 2**20), st.sampled_from(("set", "drop", "insert", "number")), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6)
            def mutate(whole, changes):
                data = bytearray(whole)
                for where, how, what in changes:
                    at = where % (len(data) + 1)
                    if how == "set": data[at:at + len(what)] = what
                    elif how == "drop": del data[at:at + len(what)]
                    elif how == "insert": data[at:at] = what
                    else: # a number in text grows, where there is one
                        digits = [i for i, c in enumerate(data) if 48 <= c <= 57]
                        if digits: data[(i := digits[where % len(digits)]):i] = b"9"*len(what)
                attempt(bytes(data))
            quiet, end, turn = settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck)), time.perf_counter() + seconds, 0
            while time.perf_counter() < end:
                seed(turn)(quiet(given(st.sampled_from(wholes), changes)(mutate)))()
                turn += 1
            grown = peak() - before
            bad = state["failures"] + marker.exists() + (grown > 1000)
            rows.append({"what": f"rubbish for a reader: {name}", "cases": state["cases"], "failures": int(bad), "judged by": f"an error of its kind or none; no code run; slowest {state['slowest']:.1f} s; memory grew by {max(0, grown):.0f} MB"})
            print(rows[-1], flush=True)
    return rows


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="runs that are killed, for each stage (default: 20)")
    parser.add_argument("--seconds", type=float, default=30, help="of rubbish, for each reader (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--out", help="folder for tables/faults (default: print only)")
    args = parser.parse_args(argv)
    provenance = Provenance("faults", vars(args))
    for s in SIGNALS["asked to stop"]: # under nohup or in the background some are ignored, and the command would inherit that
        if signal.getsignal(s) == signal.SIG_IGN: signal.signal(s, signal.SIG_DFL)
    rows = [*rubbish(args.seconds), *(disk() if args.kills else []), *(kills(args.kills, random.Random(args.seed)) if args.kills else [])]
    columns = [*dict.fromkeys(c for row in rows for c in row if c != "judged by"), "judged by"]
    rows = [{c: row.get(c) for c in columns} for row in rows]
    if args.out: save_table(Path(args.out)/"tables"/"faults", rows, rows, "What was done to the readers and to the command, how often, and how often it did harm.", provenance)
    sys.exit(any(r["failures"] for r in rows))


if __name__ == "__main__":
    main()
