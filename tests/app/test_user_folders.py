"""What users have in their folders and type on the command line: in seconds, in little memory, and in one line that says what is wrong.

Each case is a process of its own, whose time and memory are measured."""

import csv
import fcntl
import hashlib
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import diec
from diec.app.cli import _parser, main, write_labels
from diec.core.names import cell_of, file_of, find_unet, printable, unet_names
from diec.data.datasets import dataset_available, load_dataset
from diec.data.folder import list_images
from diec.data.formats import read_image, to_square

EVIL = "\x1b]0;owned\x07"  # sets the title of a terminal
LATIN = os.fsdecode(b"caf\xe9.png")  # bytes that are not UTF-8
GIGABYTE = 10**9


class Done(NamedTuple):
    status: int
    out: str
    err: str
    seconds: float  # of the processor
    peak: int  # bytes


# A small process between: a forked child counts the memory of the one it came from, and pytest's is large.
_LAUNCH = """
import json, os, resource, signal, sys
limit, *command = json.loads(sys.argv[1])
child = os.fork()
if not child:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if limit: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    os.execv(command[0], [os.fsencode(c) for c in command])
_, status, usage = os.wait4(child, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss*1024]), file=sys.stderr)
"""


def start(*words, cwd=None, limit=0, program=("-m", "diec.app.cli"), **env):
    "Run the command to its end; limit: bytes of address space"
    command = json.dumps([limit, sys.executable, *program, *map(str, words)])
    env = (
        os.environ
        | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(diec.__file__).parents[1]),
            "HF_HUB_OFFLINE": "1",
            "TQDM_DISABLE": "1",
        }
        | env
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCH, command], cwd=cwd, env=env, capture_output=True, timeout=900
    )
    *err, usage = done.stderr.decode(errors="surrogateescape").splitlines(keepends=True)
    status, seconds, peak = json.loads(usage)
    return Done(status, done.stdout.decode(errors="surrogateescape"), "".join(err), seconds, peak)


def draw(path, i=0, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    digit = load_dataset("digits").images[i, 0]
    Image.fromarray(np.round((digit + 1) * 127.5).astype(np.uint8)).resize((24, 24), Image.Resampling.NEAREST).convert(
        mode
    ).save(path, "PNG")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A folder with pictures, a fitted model, and more to name; read only"
    root = tmp_path_factory.mktemp("users")
    for i in range(24):
        draw(root / "photos" / f"{i}.png", i)
    main(["cluster", str(root / "photos"), "--unet", "digits", "-k", "2", "--out", str(root / "result"), "--quiet"])
    (root / "nets").mkdir()
    (root / "empty").mkdir()
    (root / "text.txt").write_text("x")
    return root


@pytest.fixture(scope="module")
def imports():
    "Seconds of the processor that importing the libraries takes"
    return start(program=("-c", "import diec.estimator, diec.app.html_report")).seconds


def read(path):
    "The rows of a table: names of files and clusters"
    with open(path, newline="", encoding="utf-8") as f:
        return {file_of(r["file"]): r["cluster"] for r in csv.DictReader(f)}


def test_the_home_folder_may_be_in_any_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for words in (
        "cluster ~/a --unet ~/b --out ~/c --into ~/d --embeddings ~/e.npy --log ~/f",
        "apply ~/a.csv --into ~/b --photos ~/c --log ~/d",
        "pretrain ~/a --out ~/b",
        "search ~/a --unet ~/b --work ~/c",
        "predict ~/a ~/b ~/c --out ~/d --work ~/e --embeddings ~/f.npy",
        "info ~/a",
    ):
        found = json.dumps(vars(_parser().parse_args(words.split())), default=str)
        assert "~" not in found and found.count("/home/me/") == words.count("~"), found


# --- refused before PyTorch is imported


@pytest.mark.parametrize(
    "words, said",
    [
        (("cluster", "no/such/folder"), "diec: no/such/folder: there is no such folder"),
        (("cluster", "text.txt"), "diec: text.txt: this is a file, a folder was expected"),
        (("cluster", "photos", "-k", "1"), "diec: --n-clusters must be 2 or more, got 1"),
        (("cluster", "photos", "--copy"), "diec: --copy must come with --into"),
        (
            ("cluster", "photos", "--unet", "digits", "--steps", "3"),
            "diec: --refine, --steps and --image-size are for pretraining",
        ),
        (("cluster", "photos", "--unet", "digit"), "or a hub id 'owner/name' or 'owner/name@revision', got 'digit'"),
        (("cluster", "photos", "--unet", "nets/typo"), "there is no such folder: nets/typo"),
        (("cluster", "photos", "--unet", "./typo"), "there is no such folder: ./typo"),
        (("cluster", "photos", "--unet", "/nets/typo"), "there is no such folder: /nets/typo"),
        (("cluster", "photos", "--unet", "text.txt"), "got the file text.txt"),
        (("cluster", f"no{EVIL}"), r"diec: no\x1b]0;owned\x07: there is no such folder"),
        (("cluster", "two\nlines"), r"diec: two\nlines: there is no such folder"),
        (("cluster", LATIN), r"diec: caf\xe9.png: there is no such folder"),
        (("cluster", "\u202egnp.exe"), r"diec: \u202egnp.exe: there is no such folder"),
        (("cluster", "photos", f"--{EVIL}"), r"diec: unrecognized arguments: --\x1b]0;owned\x07 (see diec --help)"),
        (("cluster", "photos", "--seed", "x"), "diec cluster: argument --seed: must be an integer"),
        (("predict", "nothing", "photos"), "diec: nothing: there is no such folder"),
        (("predict", "empty", "photos"), "diec: empty: no model of diec cluster is in this folder"),
        (("predict", "result", "photos/0.png", "missing.png"), "diec: missing.png: there is no such file or folder"),
        (("info", "nothing"), "diec: nothing: there is no such folder"),
        (("search", "nothing/here"), "diec: nothing/here: there is no such file or folder"),
        (("search", "photos", "-k", "1"), "diec: --n-clusters must be 2 or more"),
        (("pretrain", "nothing/here", "--out", "net"), "diec: nothing/here: there is no such file or folder"),
        (("cluster", "~nobody-here/photos"), "diec: ~nobody-here/photos: there is no user of that name"),
        (("cluster", "photos", "-k", "10001"), "diec: --n-clusters must be 10,000 or less, got 10,001"),
        (
            ("cluster", "photos", "--out", os.fsdecode(b"caf\xe9/out")),
            r"diec: --out must be a path in UTF-8, got caf\xe9/out: choose another name",
        ),
        (("pretrain", "photos", "--out", os.fsdecode(b"n\xe9t")), r"diec: --out must be a path in UTF-8, got n\xe9t"),
        (
            ("cluster", "photos", "--out", "text.txt"),
            "diec: --out must be a folder or not exist yet, got the file text.txt",
        ),
        *(
            (
                ("cluster", "photos", "--out", "a/b", "--into", into),
                f"diec: --into must not be where the result is written, got --into {into} with --out a/b: choose a folder beside it, or a/b/sorted",
            )
            for into in (
                "a",
                "a/b",
                "a/b/work",
                "a/b/work/images",
                "a/b/model/x",
                "a/b/unet/x/y",
                "a/b/labels.csv",
                "a/b/report.html",
                "a/b/.diec.json",
                "a/b/../b/work/..",
            )
        ),
        (("cluster", "photos", "--into", "x" * 241), "diec: --into must have a name of 240 bytes or less, got 241"),
        (("search", "photos"), "diec: --unet must be given for photos: a U-Net comes only with cifar10, digits, "),
        (
            ("predict", "result", "digits", "photos"),
            "diec: digits: there is no such file or folder (the name of a data set must stand alone)",
        ),
        (
            ("predict", "result", "photos", "--out", "text.txt"),
            "diec: text.txt was not written by diec, or was changed since: --force replaces it",
        ),
        (
            ("pretrain", "photos", "--out", "text.txt"),
            "diec: --out: path must be a folder or not exist yet, got the file text.txt",
        ),
    ],
    ids=lambda v: ascii(" ".join(v)) if isinstance(v, tuple) else "",
)
def test_refused_at_once(place, words, said):
    done = start(*words, cwd=place)
    assert (
        done.status == 2
        and done.out == ""
        and said in done.err
        and done.err.count("\n") == 1
        and done.err.rstrip("\n").isprintable()
    )
    assert done.seconds < 5 and done.peak < 100e6  # PyTorch alone takes more
    assert sorted(p.name for p in place.iterdir()) == ["empty", "nets", "photos", "result", "text.txt"]


def test_version(place):
    done = start("--version", cwd=place)
    assert done.status == 0 and done.out == f"diec {diec.__version__}\n" and done.peak < 100e6


@pytest.mark.parametrize("limit", [0.25, 0.5, 1, 1.9])
def test_too_little_memory_is_said_at_once(place, limit):
    done = start("cluster", "photos", "--unet", "digits", "-k", 2, cwd=place, limit=int(limit * GIGABYTE))
    assert (
        done.status == 2
        and done.err.startswith(f"diec: memory is limited to {limit:.1f} GB here, which is too little: set the limit")
        and done.err.count("\n") == 1
    )
    assert done.seconds < 5 and not (place / "photos-groups").exists()


@pytest.mark.parametrize("limit", [2, 3])
def test_little_memory_is_enough_or_refused(place, tmp_path, imports, limit):
    done = start(
        "predict",
        place / "result",
        place / "photos",
        "--out",
        tmp_path / "labels.csv",
        "--quiet",
        limit=limit * GIGABYTE,
    )
    assert done.status == 0 or (done.status == 2 and done.err.count("\n") == 1), done
    assert done.seconds - imports < 10


# --- pictures that take memory


def large(mode, size, name, **kwargs):
    def make(folder):
        Image.new(mode, size).save(folder / name, **kwargs)

    make.__name__ = name
    return make


READ = [
    large("RGB", (9400, 9400), "square.png"),
    large("RGBA", (9400, 9400), "clear.png"),
    large("RGB", (11_656, 8742), "100-megapixels.jpg"),
    large("RGB", (4900, 4900), "large.webp"),
    large("RGBA", (7000, 7000), "large.tif", compression="tiff_lzw"),
    large("L", (9400, 9400), "large.gif"),
]
REFUSED = [
    (large("L", (1, 89_000_000), "strip.png"), "400,000,000 bytes"),
    (large("RGB", (89_000_000, 1), "line.png"), "400,000,000 bytes"),
    (large("L", (9500, 9500), "large.png"), "89,478,485 pixels"),
    (large("RGB", (5100, 5100), "larger.webp"), "400,000,000 bytes"),
    (large("L", (9500, 9500), "larger.bmp"), "89,478,485 pixels"),
    (large("RGB", (9000, 9000), "progressive.jpg", progressive=True, subsampling=0), "400,000,000 bytes"),
]


@pytest.mark.slow
def test_large_pictures_take_little_memory(place, tmp_path, imports):
    draw(tmp_path / "in" / "0.png")
    for make in READ:
        make(tmp_path / "in")
    done = start("predict", place / "result", tmp_path / "in", "--out", tmp_path / "labels.csv", "--quiet")
    assert done.status == 0 and f"{len(READ) + 1} images" in done.out and done.err == ""
    assert done.seconds - imports < 10 * len(READ) and done.peak < GIGABYTE


@pytest.mark.slow
def test_larger_pictures_are_left_out(place, tmp_path, imports):
    draw(tmp_path / "in" / "0.png")
    for make, _ in REFUSED:
        make(tmp_path / "in")
    done = start("predict", place / "result", tmp_path / "in", "--out", tmp_path / "labels.csv", "--quiet")
    assert done.status == 0 and "1 image in" in done.out and done.seconds - imports < 10 and done.peak < GIGABYTE
    lines = dict(l.removeprefix("left out: ").split(": ", 1) for l in done.err.splitlines())
    assert lines.keys() == {make.__name__ for make, _ in REFUSED} and all(
        f"exceeds limit of {why}" in lines[make.__name__] for make, why in REFUSED
    )


@pytest.mark.parametrize(
    "mode, name", [("L", "a.png"), ("RGB", "a.png"), ("RGBA", "a.png"), ("RGB", "a.jpg"), ("I;16", "a.png")]
)
def test_averaging_blocks_first_changes_next_to_nothing(tmp_path, monkeypatch, mode, name):
    y, x = np.mgrid[:700, :900]
    a = np.stack([x * 255 // 899, y * 255 // 699, (x * y) % 200, 255 - x * 100 // 899], 2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x112] = 6
    im = {
        "L": lambda: Image.fromarray(a[..., 0]),
        "I;16": lambda: Image.fromarray(a[..., 0].astype(np.uint16) * 257),
        "RGBA": lambda: Image.fromarray(a),
    }.get(mode, lambda: Image.fromarray(a[..., :3]))()
    im.save(tmp_path / name, exif=exif)
    whole = to_square(read_image(tmp_path / name, 16), 16)
    monkeypatch.setattr("diec.data.formats.LARGE", 1000)
    small = read_image(tmp_path / name, 16)
    assert small.shape[0] > small.shape[1] and max(small.shape) < 150  # turned, and small
    assert whole.shape == to_square(small, 16).shape and np.abs(whole.astype(int) - to_square(small, 16)).max() <= 6


# --- names


@settings(max_examples=300, deadline=None)
@given(
    st.binary().map(os.fsdecode)
    | st.text(st.sampled_from("=+-@\t\r\n ./%;,\"'＝aé\udce9\u202e")).filter(lambda s: "\0" not in s)
)
def test_a_name_comes_back_from_its_cell(tmp_path_factory, name):
    cell = cell_of(name)
    assert file_of(cell) == name and cell.encode("utf-8").decode("utf-8") == cell
    assert not cell.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")) and not cell.startswith(
        ("\t", "\r")
    )
    if re.fullmatch(r"[\wé][\w é./-]*", name):
        assert cell == name  # plain names stay
    assert printable(name).isprintable()


NAMES = [
    "=1+1.png",
    "+x.png",
    "-x.png",
    "@x.png",
    "\t=x.png",
    "\r=x.png",
    " =x.png",
    "a;=x.png",
    "a\t=x.png",
    "=d/é.png",
    "two\nlines.png",
    'q",=x.png',
    LATIN,
    f"{EVIL}.png",
    "percent-encoded:x.png",
    "plain.png",
]


def test_a_table_is_harmless_and_finds_the_files(tmp_path):
    pandas = pytest.importorskip("pandas")
    for name in NAMES:
        draw(tmp_path / "in" / name)
    files = list_images(tmp_path / "in").files
    assert sorted(files) == sorted(NAMES)
    write_labels(tmp_path / "labels.csv", files, np.arange(len(files)), np.ones(len(files)), np.zeros(len(files)))
    table = pandas.read_csv(tmp_path / "labels.csv")
    assert [file_of(c) for c in table["file"]] == files and table["cluster"].tolist() == list(range(len(files)))
    assert all((tmp_path / "in" / file_of(c)).is_file() for c in table["file"])
    assert all(
        (tmp_path / "in" / c).is_file() for c in table["file"] if not c.startswith("percent-encoded:")
    )  # ./ needs no reading back
    for delimiter in ",;\t":  # as spreadsheets of any language cut it
        with open(tmp_path / "labels.csv", newline="", encoding="utf-8") as f:
            for row in csv.reader(f, delimiter=delimiter):
                assert not any(c.lstrip().startswith(("=", "+", "-", "@")) for c in row), row
    assert table["file"].tolist()[files.index("plain.png")] == "plain.png"


def test_names_are_printed_without_harm(place, tmp_path, imports):
    for name in NAMES:
        draw(tmp_path / "in" / name)
    (tmp_path / "in" / f"{EVIL}\n.jpg").write_text("no picture")
    out = tmp_path / os.fsdecode(b"caf\xe9 \x1b]0;owned\x07 \xc3\xa9 \xe7\x8c\xab")
    done = start("predict", place / "result", tmp_path / "in", "--out", out, "--quiet", PYTHONIOENCODING="ascii")
    assert (
        done.status == 0
        and r"caf\xe9 \x1b]0;owned\x07 \xe9 \u732b" in done.out
        and rf"left out: {EVIL}\n.jpg".replace("\x1b", r"\x1b").replace("\x07", r"\x07") in done.err
    )
    assert (
        (done.out + done.err).isascii()
        and (done.out + done.err).replace("\n", "").isprintable()
        and done.seconds - imports < 10
        and done.peak < GIGABYTE
    )
    assert sorted(read(out)) == sorted(NAMES)


def test_a_result_whose_name_cannot_be_printed(place, tmp_path, imports):
    out = tmp_path / "café 猫"
    done = start(
        "cluster",
        place / "photos",
        "--unet",
        "digits",
        "-k",
        2,
        "--out",
        out,
        "--into",
        tmp_path / "sorted 猫",
        "--quiet",
        PYTHONIOENCODING="latin-1",
    )
    assert (
        done.status == 0
        and done.err == ""
        and "caf\udce9 \\u732b/labels.csv" in done.out
        and r"sorted \u732b" in done.out
    )
    assert (
        all((out / name).exists() for name in ("labels.csv", "report.html", "model/config.json"))
        and done.seconds - imports < 20
        and done.peak < GIGABYTE
    )


# --- predict takes files


def test_files_and_folders_are_predicted(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "-x.png", 3)
    draw(tmp_path / "no ending", 4)
    draw(tmp_path / "more" / "a" / "1.png", 5)
    (tmp_path / "more" / "broken.png").write_text("x")
    main(
        [
            "predict",
            str(place / "result"),
            "./-x.png",
            "no ending",
            "more",
            str(place / "photos" / "7.png"),
            "more/a/1.png",
            "--out",
            "some.csv",
            "--quiet",
        ]
    )
    said = capsys.readouterr()
    rows = read("some.csv")
    assert list(rows) == sorted(["-x.png", "no ending", "more/a/1.png", str(place / "photos" / "7.png")])
    assert "4 images" in said.out and said.err == "left out: more/broken.png: not an image in a format that is read\n"
    main(["predict", str(place / "result"), str(place / "photos" / "7.png"), "--out", "one.csv", "--quiet"])
    assert list(read("one.csv").values()) == [rows[str(place / "photos" / "7.png")]]
    main(["predict", str(place / "result"), str(place / "photos"), "--out", "all.csv", "--quiet"])
    alone = read("all.csv")
    assert (
        len(alone) == 24 and alone["7.png"] == rows[str(place / "photos" / "7.png")]
    )  # names are relative to a folder that is given alone
    with pytest.raises(SystemExit):
        main(["predict", str(place / "result"), "more/broken.png", "--out", "none.csv", "--quiet"])
    assert "none of the 1 pictures could be read; the first: more/broken.png" in capsys.readouterr().err


# --- U-Nets of the hub


def test_it_is_said_that_the_hub_is_asked(place, imports):
    done = start("cluster", "photos", "--unet", "owner/typo", "--out", "hub", cwd=place)
    first, second = done.err.splitlines()
    assert (
        done.status == 2
        and first
        == "diec: owner/typo is neither a U-Net of the package nor a folder here: it is looked for on the Hugging Face hub"
    )
    assert (
        second.startswith("diec: unet 'owner/typo' is no folder here, and could not be fetched from the hub")
        and done.seconds - imports < 10
        and done.peak < GIGABYTE
    )


# --- Ctrl-C during the imports


@pytest.mark.parametrize("module", ["numpy", "torch", "torch.nn.modules.conv", "diec.trainer"])
def test_ctrl_c_during_the_imports_is_one_line(place, module):
    program = """if 1:
        import os, signal, sys
        class Interrupt:
            def find_spec(self, name, *_):
                if name == sys.argv[1]: os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Interrupt())
        from diec.app.cli import main
        main(sys.argv[2:])
        """
    done = start(module, "cluster", "photos", "--unet", "digits", cwd=place, program=("-c", program))
    assert done.status == 130 and done.err == "diec: interrupted\n" and done.out == ""
    assert not (place / "photos-groups").exists()


# --- bars


def test_bars_fit_80_columns(place, tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    program = """if 1:
        import sys, tqdm
        from diec import search
        from diec.app import cli
        class Long(tqdm.tqdm): # as after two hours
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                self.start_t, self.n = self.start_t - 7300, 99
        search.tqdm = Long
        cli.main(sys.argv[1:])
        """
    words = [
        "search",
        place / "photos",
        "--unet",
        "digits",
        "-k",
        2,
        "--layer",
        "down_blocks.0+down_blocks.1+mid_block+up_blocks.0",
        "--work",
        tmp_path / "work",
    ]
    env = {k: v for k, v in os.environ.items() if k not in ("TQDM_DISABLE", "COLUMNS")} | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(diec.__file__).parents[1]),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)], env=env, stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 2**16)
        except OSError:
            break  # closed
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait() == 0, shown[-2000:]
    lines = re.split("[\r\n]", shown.decode())
    assert (
        any("search t at" in l and "2:01:" in l for l in lines)
        and any("read:" in l for l in lines)
        and max(map(len, lines)) <= 80
    ), max(lines, key=len)


# --- a data set that failed to load

USPS = (
    "\n".join(
        [
            "@RELATION usps",
            *(f"@ATTRIBUTE double{i} REAL" for i in range(256)),
            "@ATTRIBUTE int0 {1,2,3,4,5,6,7,8,9,10}",
            "@DATA",
            *(",".join(["-1"] * 255 + ["1", str(k % 10 + 1)]) for k in range(12)),
        ]
    )
    + "\n"
).encode()
ANSWERS = [  # what OpenML answers, in the order in which scikit-learn asks
    (
        "data/list/data_name/usps",
        json.dumps({"data": {"dataset": [{"did": 41964, "name": "USPS", "version": 1, "status": "active"}]}}).encode(),
    ),
    (
        "json/data/41964",
        json.dumps(
            {
                "data_set_description": {
                    "id": "41964",
                    "name": "USPS",
                    "version": "1",
                    "description": "",
                    "format": "ARFF",
                    "file_id": "7",
                    "status": "active",
                    "url": "https://www.openml.org/data/v1/download/7/USPS.arff",
                    "md5_checksum": hashlib.md5(USPS).hexdigest(),
                }
            }
        ).encode(),
    ),
    (
        "data/features/41964",
        json.dumps(
            {
                "data_features": {
                    "feature": [
                        {
                            "index": str(i),
                            "name": f"double{i}" if i < 256 else "int0",
                            "data_type": "numeric" if i < 256 else "nominal",
                            "is_target": str(i == 256).lower(),
                            "is_ignore": "false",
                            "is_row_identifier": "false",
                            "number_of_missing_values": "0",
                        }
                        for i in range(257)
                    ]
                }
            }
        ).encode(),
    ),
    (
        "data/qualities/41964",
        json.dumps({"data_qualities": {"quality": [{"name": "NumberOfInstances", "value": "12"}]}}).encode(),
    ),
    ("download/7", USPS),
]


@pytest.mark.filterwarnings("ignore:A network error occurred")
@pytest.mark.parametrize("answered", range(len(ANSWERS) + 1))
def test_a_set_is_available_when_all_of_it_is(monkeypatch, tmp_path, capsys, answered):
    asked = []

    def urlopen(request, *args, **kwargs):
        asked.append(request.full_url)
        (content,) = [c for place, c in ANSWERS[:answered] if place in request.full_url] or [None]
        if content is None:
            raise URLError("no network")
        answer = BytesIO(content)
        answer.info = lambda: {}
        return answer

    monkeypatch.setattr("sklearn.datasets._openml.urlopen", urlopen)
    monkeypatch.setattr("sklearn.datasets._openml.time.sleep", lambda seconds: None)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    if answered < len(ANSWERS):
        with pytest.raises(OSError, match="could not be fetched from OpenML"):
            load_dataset("usps")
    else:
        with pytest.warns(UserWarning, match="known to have 9,298 images, here are 12"):
            assert len(load_dataset("usps")) == 12
    assert asked and any(tmp_path.rglob("*usps*"))  # the cache has folders of that name
    assert dataset_available("usps") == (answered == len(ANSWERS))
    main(["datasets"])
    assert ("usps             here" in capsys.readouterr().out) == (answered == len(ANSWERS))
    if answered == len(ANSWERS):  # and nobody is asked again
        asked.clear()
        with pytest.warns(UserWarning):
            load_dataset("usps")
        assert asked == []


def test_what_looks_like_a_path_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_unet("owner/name") is None
    (tmp_path / "owner").mkdir()
    with pytest.raises(ValueError, match="no such folder: owner/name"):
        find_unet("owner/name")
    (tmp_path / "owner" / "name").mkdir()
    assert (
        find_unet("owner/name") == Path("owner/name")
        and {"digits"} <= set(unet_names())
        and find_unet("digits").name == "digits"
    )
