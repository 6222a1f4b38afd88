"""Test what happens after kills, on full disks and with damaged files: `make faults`.

The same as `python -m tools.faults --kills 20 --seconds 60 --out results`. It has three parts.

*Kills*: the command `diec` is killed (SIGKILL) or asked to stop (SIGINT, SIGTERM, SIGHUP) at random moments of each of
its stages and started again, each time with another seed of Python's hashes. Its result is compared, byte by byte, with
that of an uninterrupted run. The command logs each piece of work, and we compare the work of all runs together with
that of the uninterrupted one: after a signal nothing is repeated, after a kill no more than the work between two
checkpoints.

*Disk*: the same with a disk that is too small (a file system in memory, where the machine lets us mount one, or else a
limit on file sizes). In both parts, the user's files and links to them are next to every name that is written, and
must stay as they are.

*Damaged files*: each reader gets files that hypothesis makes, among them valid files with changed bytes. A reader may
refuse them with an error of its kind. It must not crash, hang, need much memory, or run code from a file.
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


# --- the command, and what it leaves

def write_images(folder: Path, n: int = 90):
    "Digits as files of several sizes, and a broken file"
    digits = load_dataset("digits")
    for i in range(n):
        p = folder/f"{i % 3}"/f"{i:03d}.png"
        p.parent.mkdir(parents=True, exist_ok=True)
        side = 8*(1 + i % 4)
        pixels = np.round((digits.images[i, 0] + 1)*127.5).astype(np.uint8)
        Image.fromarray(pixels).resize((side, side)).save(p)
    (folder/"broken.png").write_bytes(b"no picture")


CLUSTER = ["cluster", "IN", "--unet", "digits", "-k", "4", "--out", "OUT", "--into", "OUT.sorted", "--fine-tune",
           "--quiet"]
CLUSTER_RESULTS = ["labels.csv", "report.html", "model"]
PRETRAIN = ["pretrain", "IN", "--out", "OUT/unet", "--image-size", "8", "--steps", "60", "--quiet"]
SEARCH = ["search", "IN", "--unet", "digits", "-k", "4", "--quiet", "--work", "OUT/work"]
STAGES = { # command, files that are compared (none: the output is), part of the running time in which it is killed
    "pretraining": (PRETRAIN, ["unet"], (0.3, 1.)),
    "searching": (SEARCH, [], (0.3, 1.)),
    "fitting": (CLUSTER, CLUSTER_RESULTS, (0.3, 0.85)),
    "writing the result": (CLUSTER, CLUSTER_RESULTS, (0.85, 1.05)),
}
LOGGING_COMMAND = """
import logging, sys
log = logging.getLogger("diec")
log.addHandler(logging.FileHandler(sys.argv.pop(1)))
log.setLevel(logging.DEBUG)
from diec.app.cli import main
main()
"""
# Pieces of work that a kill may cost: those between two checkpoints. One batch has all images, one update is an epoch.
LOST = {"image": 256, "step": 500, "evaluation": 1, "batch": 1, "update": 1}


def command(words: list, place: Path, log: Path | None = None) -> list:
    "The command for a place; it appends finished pieces of work to the file `log`"
    program = ["-m", "diec.app.cli"] if log is None else ["-c", LOGGING_COMMAND, str(log)]
    paths = [w.replace("IN", str(place.parent/"in")).replace("OUT", str(place/"out")) for w in words]
    return [sys.executable, *program, *paths]


def run(words: list, place: Path, log: Path | None = None, env: dict = ENV, **options) -> subprocess.CompletedProcess:
    "Run the command to its end"
    return subprocess.run(command(words, place, log), env=env, capture_output=True, text=True, **options)


def with_random_hashes(rng) -> dict:
    "The environment, with a random order of sets"
    return ENV | {"PYTHONHASHSEED": str(rng.randrange(2**32))}


def digest(place: Path, output: str, names: list) -> str:
    "Hash of the files that are compared, or of the output if there are none"
    sha, out = hashlib.sha256(), place/"out"
    for path in sorted(p for n in names for p in ([out/n] if (out/n).is_file() else (out/n).rglob("*"))):
        if not path.is_file() or path.name in ("history.json", MANIFEST): continue
        sha.update(f"{path.relative_to(place)}".encode())
        sha.update(path.read_bytes())
    if not names: sha.update(output.encode())
    return sha.hexdigest()


def half_written(place: Path) -> list:
    "Files with a final name that cannot be read"
    from safetensors import safe_open
    bad = []
    for p in place.rglob("*"):
        if ".partial" in str(p.relative_to(place)) or not p.is_file(): continue
        try:
            if p.suffix == ".json": json.loads(p.read_text())
            elif p.suffix == ".safetensors":
                with safe_open(p, "pt") as f: [f.get_tensor(k) for k in f.keys()]
        except Exception as e: bad.append(f"{p}: {e}")
    return bad


# --- the work that is logged

def work_done(log: Path) -> Counter:
    "How often each piece of work in a log was done"
    if not log.exists(): return Counter()
    lines = log.read_text().splitlines()
    return Counter(tuple(line.split()[1:]) for line in lines if line.startswith("finished "))


def repeated(done: Counter, expected: Counter) -> Counter:
    "Pieces of each unit that were done more often than in an uninterrupted run (which may itself do some twice)"
    found = Counter()
    for (unit, *_), n in (done - expected).items(): found[unit] += n
    return found


def counted(n: int, unit: str) -> str:
    "A number and its unit in words"
    return f"{n} {unit}" if n == 1 else f"{n} {unit}{'es' if unit.endswith('ch') else 's'}"


# --- the user's files

def plant(place: Path, finished: Path) -> dict: # path -> its state
    "The user's files, and links to them, next to each name that a finished run has left"
    yours = place.parent/"yours"
    (yours/"folder").mkdir(parents=True, exist_ok=True)
    for name in ("file", "folder/inner", "folder/.lock"): (yours/name).write_text("yours")
    folders = [f for f in (finished, finished/"out") if f.is_dir()]
    planted = [yours]
    for folder in folders:
        here = place/folder.relative_to(finished)
        here.mkdir(parents=True, exist_ok=True)
        for name in [p.name for p in folder.iterdir() if p not in folders]: _plant_beside(here, name, yours)
        planted += [p for p in here.iterdir() if p != here/"out"]
    inside = lambda top: top.rglob("*") if top.is_dir() and not top.is_symlink() else ()
    return {p: file_state(p) for top in planted for p in (top, *inside(top))}


def _plant_beside(here: Path, name: str, yours: Path):
    "Files, folders and links whose names resemble the temporary names of `name`"
    for file in (f".{name}.partial", f".diec-{name}.partial", f"{name}~"): (here/file).touch(mode=0o640)
    for folder in (f".{name}.x.partial", f".{name}.old.replaced", f".diec-{name}.old.partial"): (here/folder).mkdir()
    for link, target in ((f".{name}.file.partial", yours/"file"), (f".diec-{name}.folder.partial", yours/"folder")):
        (here/link).symlink_to(target)


def plant_within(place: Path, planted: dict):
    "The user's files in the working folders of an interrupted command"
    for work in (w for w in place.rglob("*work") if w.is_dir() and (w/MANIFEST).is_file()):
        for folder in (work, *(p for p in work.iterdir() if p.is_dir() and not p.name.startswith(".diec-"))):
            if (file := folder/".yours.partial") in planted: continue
            file.touch(mode=0o640)
            planted[file] = file_state(file)


def file_state(path: Path) -> tuple:
    "Mode, time and content of a file; mode and target of a link; mode of a folder"
    s = path.lstat()
    if path.is_symlink(): return s.st_mode, os.readlink(path)
    return s.st_mode, (s.st_mtime_ns, path.read_bytes()) if path.is_file() else None


def touched(planted: dict) -> int:
    "How many of the planted files have changed"
    return sum(not os.path.lexists(p) or file_state(p) != before for p, before in planted.items())


# --- kills

SIGNALS = {"killed": [signal.SIGKILL], "asked to stop": [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]}


def strike(words: list, place: Path, log: Path, signum: int, after: float, rng) -> tuple: # (hit, well ended)
    "Start the command and send it a signal: whether it was still running, and whether it ended as it should"
    options = dict(env=with_random_hashes(rng), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    child = subprocess.Popen(command(words, place, log), **options)
    try: child.wait(after)
    except subprocess.TimeoutExpired: child.send_signal(signum)
    message = child.communicate()[1]
    if child.returncode == 0: return False, True # it had finished
    if signum == signal.SIGKILL: return True, child.returncode == -signum
    one_line = message.startswith("diec: interrupted") and message.count("\n") == 1
    ended_well = child.returncode == 128 + signum and one_line
    if not ended_well:
        name = signal.Signals(signum).name
        print(f"{name} after {after:.1f} s: status {child.returncode}: {message[-500:]}", flush=True)
    return True, ended_well


class Reference(NamedTuple):
    "An uninterrupted run"
    place: Path
    digest: str
    work: Counter


def kills(n: int, rng) -> list:
    "At least n interruptions of each stage, by each group of signals"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_images(folder/"in")
        for stage, (words, names, span) in STAGES.items():
            place, log = folder/"whole", folder/"whole.log"
            shutil.rmtree(place, ignore_errors=True) # of the stage before, which would be resumed
            log.unlink(missing_ok=True)
            start = time.perf_counter()
            done = run(words, place, log, with_random_hashes(rng), check=True)
            length = time.perf_counter() - start
            reference = Reference(place, digest(place, done.stdout, names), work_done(log))
            for how in SIGNALS:
                row, length = _kill_stage(n, rng, folder, stage, how, reference, length)
                rows.append(row)
                print(row, flush=True)
    return rows


def _kill_stage(n: int, rng, folder: Path, stage: str, how: str, reference: Reference, length: float) -> tuple:
    "Interrupt and repeat a stage: its row of the table, and the running time of the last run that was not hit"
    (words, names, span), signums, place, log = STAGES[stage], SIGNALS[how], folder/"struck", folder/"struck.log"
    failures = struck = turn = foreign = harmed = 0
    again = Counter()
    while struck < n: # a run that finishes before its signal does not count
        strikes, planted = 0, plant(place, reference.place)
        for attempt in range(rng.randint(1, 2)):
            start = time.perf_counter()
            signum, after = signums[turn % len(signums)], rng.uniform(*span)*length
            hit, ended_well = strike(words, place, log, signum, after, rng)
            if not hit and attempt == 0: length = time.perf_counter() - start # the speed of a machine varies
            strikes, turn, failures = strikes + hit, turn + hit, failures + (not ended_well)
            failures += len(half_written(place)) if place.exists() else 0
            plant_within(place, planted)
        last = run(words, place, log, with_random_hashes(rng))
        failures += last.returncode != 0 or digest(place, last.stdout, names) != reference.digest
        done = work_done(log)
        twice, missing = repeated(done, reference.work), reference.work.keys() - done.keys()
        over = {unit: c for unit, c in twice.items() if c > strikes*LOST[unit]*(how == "killed")}
        if over or missing:
            failures += 1
            print(f"{how} while {stage}: repeated {over}, missing {sorted(missing)[:3]}", flush=True)
        struck, again = struck + strikes, again + twice
        foreign, harmed = foreign + len(planted), harmed + touched(planted)
        shutil.rmtree(place)
        log.unlink()
    rule = {"killed": "no more work repeated than between two checkpoints",
            "asked to stop": "the status and one line; no work repeated"}[how]
    return {"what": f"{how} while {stage}", "cases": struck, "failures": failures + harmed,
            "foreign files planted": foreign, "touched": harmed,
            "judged by": f"same bytes as an uninterrupted run; no half-written file; no foreign file touched; {rule}",
            "pieces of work": sum(reference.work.values()),
            "repeated": ", ".join(counted(c, unit) for unit, c in sorted(again.items()) if c) or "none"}, length


# --- a full disk

def mount_small_disk(place: Path, megabytes: int) -> bool:
    "Mount a file system of so many megabytes; whether that was possible"
    place.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    return subprocess.run(words, capture_output=True).returncode == 0


def limit_file_size(megabytes: int):
    "In a child: a tenth of so many megabytes for each file"
    resource.setrlimit(resource.RLIMIT_FSIZE, (megabytes*100_000,)*2)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def disk() -> list:
    "The command on disks that are too small, and again when there is room"
    failures = cases = foreign = harmed = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_images(folder/"in")
        finished = folder/"whole"
        wanted = digest(finished, run(CLUSTER, finished, check=True).stdout, CLUSTER_RESULTS)
        for megabytes in (1, 3, 5, 8):
            place = folder/f"small-{megabytes}"
            mounted = mount_small_disk(place, megabytes)
            planted = plant(place, finished)
            tried = run(CLUSTER, place, preexec_fn=None if mounted else lambda: limit_file_size(megabytes))
            cases += 1
            clear = tried.returncode == 0 or (tried.returncode == 2 and "Traceback" not in tried.stderr)
            sound = not half_written(place)
            plant_within(place, planted)
            if mounted: subprocess.run(["mount", "-o", "remount,size=200m", str(place)], check=True)
            again = run(CLUSTER, place)
            good = again.returncode == 0 and digest(place, again.stdout, CLUSTER_RESULTS) == wanted
            foreign, harmed = foreign + len(planted), harmed + touched(planted)
            if not (clear and sound and good):
                failures += 1
                print(megabytes, tried.returncode, tried.stderr[-300:], sound, again.stderr[-300:])
            if mounted: subprocess.run(["umount", str(place)])
    row = {"what": "disk full" if mounted else "file size limited", "cases": cases, "failures": failures + harmed,
           "foreign files planted": foreign, "touched": harmed,
           "judged by": "one line of error; no half-written file; the same bytes once there is room; "
                        "no foreign file touched"}
    print(row, flush=True)
    return [row]


# --- damaged files

class Reader(NamedTuple):
    "A function that reads files"
    valid: list # bytes of valid files, to start from
    read: Callable # (bytes, folder to write them to)
    hostile: list # bytes of files that are made to do harm


REFUSALS = (ValueError, OSError, TypeError) # what a reader may raise; DataError is a ValueError


def reader_of_file(read: Callable, name: str) -> Callable:
    "Write bytes to a file of this name, then read it"
    def read_bytes(data, place):
        (place/name).write_bytes(data)
        return read(place/name)
    return read_bytes


def reader_of_folder(source: Path, name: str, read: Callable) -> Callable:
    "Replace one file in a copy of a folder, then read the folder"
    def read_bytes(data, place):
        target = place/"tree"
        shutil.copytree(source, target)
        try:
            (target/name).write_bytes(data)
            read(target)
        finally: shutil.rmtree(target)
    return read_bytes


def read_image(data: bytes, place: Path, suffix: str):
    "Read a folder with one image"
    from diec.data.folder import read_image_folder
    (place/"pics").mkdir(exist_ok=True)
    (place/"pics"/f"a{suffix}").write_bytes(data)
    read_image_folder(place/"pics", 8)


def make_valid_files(folder: Path):
    "Images, a packed folder, a checkpoint, a U-Net and a model"
    import torch

    from diec.core.checkpoint import save_state
    from diec.data.folder import pack_folder
    from diec.estimator import DiEC
    from diec.trainer import TrainingConfig
    from diec.unet import new_scheduler, new_unet, save_unet
    write_images(folder/"in", 12)
    pack_folder(folder/"in", folder/"store"/"images", 8)
    save_state(folder/"state.safetensors", {"a": torch.arange(6.), "b": [1, "x", None]})
    unet = new_unet(8, block_out_channels=(8, 8)), new_scheduler()
    save_unet(folder/"unet", *unet)
    config = TrainingConfig(head_epochs=1, joint_epochs=0)
    model = DiEC(2, unet, timestep=10, n_draws=1, training_config=config, random_state=0)
    model.fit(load_dataset("digits").images[:30]).save_pretrained(folder/"model")
    Image.open(folder/"in"/"0"/"003.png").save(folder/"x.jpg")


def changed_json(path: Path, *changes: dict) -> list:
    "A JSON file with other values, one version for each change"
    return [json.dumps(json.loads(path.read_text()) | change).encode() for change in changes]


def image_bomb() -> bytes:
    "A PNG of 1.6 billion pixels in 200 KB"
    bomb = io.BytesIO()
    Image.new("1", (40_000, 40_000)).save(bomb, "PNG")
    return bomb.getvalue()


def idx_header(*shape: int) -> bytes: return b"\x00\x00\x08\x03" + np.array(shape, ">i4").tobytes()


def huge_safetensors() -> list:
    "Headers that announce eight terabytes, and that are themselves too long"
    header = b'{"a":{"dtype":"F32","shape":[2147483648,1024],"data_offsets":[0,8796093022208]}}'
    return [len(header).to_bytes(8, "little") + header, (2**60).to_bytes(8, "little") + b"{}"]


def readers(folder: Path) -> dict: # name -> Reader
    "All functions that read files"
    make_valid_files(folder)
    return _data_readers(folder) | _model_readers(folder)


def _data_readers(folder: Path) -> dict:
    "The readers of images and tables"
    from diec.core.checkpoint import load_state
    from diec.data.folder import open_pack
    from diec.data.formats import read_idx, read_libsvm
    bomb, store = image_bomb(), folder/"store"/"images"
    png, jpeg = (folder/"in"/"0"/"000.png").read_bytes(), (folder/"x.jpg").read_bytes()
    index = store/"images.json"
    return {
        "IDX": Reader(
            [idx_header(2, 3, 4) + bytes(24)], reader_of_file(read_idx, "x-ubyte"),
            [idx_header(2**31 - 1, 28, 28), gzip.compress(idx_header(2**17, 2**7, 2**7) + bytes(2**28))]),
        "libsvm": Reader(
            [b"1 1:0.5 3:1\n2 2:-1\n"], reader_of_file(lambda p: read_libsvm(p, 4), "x"),
            [b"1 2147483647:1\n", b"1 1:0.5 " + b"9"*10**6 + b":1\n", gzip.compress(b"1 1:1\n"*2**26)]),
        "PNG": Reader([png], lambda d, p: read_image(d, p, ".png"), [bomb]),
        "JPEG": Reader([jpeg], lambda d, p: read_image(d, p, ".jpg"), [bomb]),
        "checkpoint": Reader([(folder/"state.safetensors").read_bytes()], reader_of_file(load_state, "s.safetensors"),
                             huge_safetensors()),
        "pack of images": Reader([index.read_bytes()], reader_of_folder(store, "images.json", open_pack),
                                 changed_json(index, {"shape": [2**31, 1, 8, 8]})),
    }


def _model_readers(folder: Path) -> dict:
    "The readers of U-Nets and models"
    from diec.estimator import DiEC
    from diec.unet import load_unet
    net, model, huge = folder/"unet", folder/"model", huge_safetensors()
    config, scheduler = "unet/config.json", "scheduler/scheduler_config.json"
    bad_unets = changed_json(net/config, {"block_out_channels": [2**31, 2**31]}, {"layers_per_block": 10**9},
                             {"sample_size": 2**31}, {"_class_name": "os.system"})
    bad_schedulers = changed_json(net/scheduler, {"num_train_timesteps": 10**9}, {"trained_betas": [0.1]*10**6})
    bad_models = changed_json(model/"config.json", {"timestep": 10**12})
    def reader(source, name, read, hostile):
        return Reader([(source/name).read_bytes()], reader_of_folder(source, name, read), hostile)
    return {
        "U-Net's config": reader(net, config, load_unet, bad_unets),
        "U-Net's weights": reader(net, "unet/diffusion_pytorch_model.safetensors", load_unet, huge),
        "scheduler's config": reader(net, scheduler, load_unet, bad_schedulers),
        "model's config": reader(model, "config.json", DiEC.from_pretrained, bad_models),
        "model's tensors": reader(model, "model.safetensors", DiEC.from_pretrained, huge),
    }


class Slow(BaseException):
    "A reader took longer than `PATIENCE`"


def late(*_): raise Slow


PATIENCE = 20 # seconds that a reader may take
MAX_GROWTH = 1000 # MB that a reader may need


def peak_memory(reset: bool = False) -> float:
    "Largest memory of this process in MB, since the last reset (on Linux; elsewhere since its start)"
    try:
        if reset: Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(x for x in lines if x.startswith("VmHWM")).split()[1])/1024
    except (OSError, StopIteration): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024


class MakesFolder:
    "When unpickled, it creates a folder: the sign that code was run"
    def __init__(self, path: str): self.path = path
    def __reduce__(self): return os.mkdir, (self.path,)


def damaged(valid: bytes, changes: list) -> bytes:
    "A valid file after changes (place, kind, bytes)"
    data = bytearray(valid)
    for where, how, what in changes:
        at = where % (len(data) + 1)
        if how == "set": data[at:at + len(what)] = what
        elif how == "drop": del data[at:at + len(what)]
        elif how == "insert": data[at:at] = what
        else: # make a number in a text larger
            digits = [i for i, c in enumerate(data) if 48 <= c <= 57]
            if digits: data[(i := digits[where % len(digits)]):i] = b"9"*len(what)
    return bytes(data)


class Trial:
    "Attempts to read damaged files with one reader"
    def __init__(self, name: str, read: Callable, folder: Path):
        self.name, self.read, self.folder = name, read, folder
        self.cases, self.failures, self.slowest = 0, 0, 0.

    def attempt(self, data: bytes):
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            start = time.perf_counter()
            signal.alarm(PATIENCE)
            try: self.read(data, Path(place))
            except REFUSALS: pass
            except (Exception, Slow) as e: self.fail(data, e)
            finally: signal.alarm(0)
            self.slowest = max(self.slowest, time.perf_counter() - start)
        self.cases += 1

    def fail(self, data: bytes, error: BaseException):
        self.failures += 1
        saved = Path("runs")/"faults"
        saved.mkdir(parents=True, exist_ok=True)
        (saved/f"{self.name.replace(' ', '-')}-{self.failures}").write_bytes(data)
        print(f"{self.name}: {type(error).__name__}: {str(error)[:200]}", flush=True)


def attempt_random(trial: Trial, valid: list, seconds: float):
    "Damage valid files at random, in rounds of a hundred, for some seconds"
    from hypothesis import HealthCheck, given, seed, settings
    from hypothesis import strategies as st
    change = st.tuples(st.integers(0, 2**20), st.sampled_from(("set", "drop", "insert", "number")),
                       st.binary(min_size=1, max_size=8))
    changes = st.lists(change, min_size=1, max_size=6)
    quiet = settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def attempt_one(original, changes): trial.attempt(damaged(original, changes))
    end, turn = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        seed(turn)(quiet(given(st.sampled_from(valid), changes)(attempt_one)))()
        turn += 1


def damaged_files(seconds: float) -> list:
    "Each reader, for some seconds"
    rows = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(folder)
        signal.signal(signal.SIGALRM, late)
        for name, (valid, read, hostile) in readers(folder).items():
            marker = folder/"code-was-run"
            fixed = [*valid, *hostile, b"", pickle.dumps(MakesFolder(str(marker))), b"PK\x03\x04" + bytes(50),
                     *(v[:len(v)//2] for v in valid), *(v + b"x" for v in valid)]
            trial, before = Trial(name, read, folder), peak_memory(reset=True)
            for data in fixed: trial.attempt(data)
            attempt_random(trial, valid, seconds)
            grown = peak_memory() - before
            bad = trial.failures + marker.exists() + (grown > MAX_GROWTH)
            rows.append({"what": f"damaged files, reader: {name}", "cases": trial.cases, "failures": int(bad),
                         "judged by": f"an error of its kind or none; no code run; slowest {trial.slowest:.1f} s; "
                                      f"memory grew by {max(0, grown):.0f} MB"})
            print(rows[-1], flush=True)
    return rows


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="interruptions of each stage (default: 20)")
    parser.add_argument("--seconds", type=float, default=30, help="of damaged files for each reader (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments of interruption (default: 0)")
    parser.add_argument("--out", help="folder for tables/faults (default: print only)")
    args = parser.parse_args(argv)
    provenance = Provenance("faults", vars(args))
    for s in SIGNALS["asked to stop"]: # nohup ignores some, and the command would inherit that
        if signal.getsignal(s) == signal.SIG_IGN: signal.signal(s, signal.SIG_DFL)
    rows = damaged_files(args.seconds)
    if args.kills: rows += [*disk(), *kills(args.kills, random.Random(args.seed))]
    columns = [*dict.fromkeys(c for row in rows for c in row if c != "judged by"), "judged by"]
    rows = [{c: row.get(c) for c in columns} for row in rows]
    caption = "How often the command was interrupted and the readers got damaged files, and how often that did harm."
    if args.out: save_table(Path(args.out)/"tables"/"faults", rows, rows, caption, provenance)
    sys.exit(any(r["failures"] for r in rows))


if __name__ == "__main__":
    main()
