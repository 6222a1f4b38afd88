"The command diec: a folder of images in, clusters out."

import csv
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diec.app.cli import main, write_labels
from diec.app.sort import sort_into
from diec.core.files import atomic_file
from diec.core.interrupt import Interrupted
from diec.core.names import file_of
from diec.data.datasets import load_dataset
from diec.data.folder import list_images, open_pack, pack_folder
from diec.data.images import DataError
from diec.estimator import DiEC


def picture(path, digit, size=24, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round((digit[0] + 1) * 127.5).astype(np.uint8)).resize(
        (size, size), Image.Resampling.NEAREST
    ).convert(mode).save(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    "Digits 0, 1 and 6, 25 of each, nested, of several sizes; three files that are no pictures"
    folder, digits = tmp_path_factory.mktemp("photos"), load_dataset("digits")
    for k in (0, 1, 6):
        for i in np.flatnonzero(digits.labels == k)[:25]:
            picture(
                folder / f"{i % 2}" / "deeper" / f"{i % 3}" / f"{k}-{i}.{'png' if i % 2 else 'JPG'}",
                digits.images[i],
                16 + 8 * (i % 3),
            )
    (folder / "0" / "text.png").write_text("no picture")
    (folder / "empty.jpeg").touch()
    (folder / "half.png").write_bytes(next(folder.rglob("*.png")).read_bytes()[:60])
    return folder


def run(*words):
    main([str(w) for w in words])


def rows_of(path):
    with open(path, encoding="utf-8", errors="surrogateescape") as f:
        return list(csv.DictReader(f))


def labels_of(path):
    return {file_of(r["file"]): int(r["cluster"]) for r in rows_of(path)}


@pytest.fixture(scope="module")
def made(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "out"
    run("cluster", photos, "--unet", "digits", "-k", 3, "--out", out, "--into", out.parent / "sorted", "--quiet")
    return out


def test_a_folder_is_sorted(made, photos, capsys):
    rows = rows_of(made / "labels.csv")
    assert len(rows) == 75 and list(rows[0]) == ["file", "cluster", "confidence", "distance"]
    groups = [{r["cluster"] for r in rows if Path(r["file"]).name[0] == k} for k in "016"]
    assert all(len(g) == 1 for g in groups) and len(set.union(*groups)) == 3
    assert all(0 < float(r["confidence"]) <= 1 and float(r["distance"]) >= 0 for r in rows)
    page = (made / "report.html").read_text()
    assert "75 images in 3 clusters" in page and "half.png" in page and "text.png" in page
    assert f"diec apply labels.csv --photos {photos} --into sorted" in page
    sorted_ = sorted((made.parent / "sorted").glob("cluster-*/*"))
    assert len(sorted_) == 75 and all(p.is_symlink() and p.exists() for p in sorted_)


def test_new_images_are_predicted_as_in_the_fit(made, photos, tmp_path):
    run("predict", made / "model", photos, "--out", tmp_path / "labels.csv", "--quiet")
    assert labels_of(tmp_path / "labels.csv") == labels_of(made / "labels.csv")
    digits = load_dataset("digits")
    for k in (0, 1, 6):  # none of them was in the fit
        for i in np.flatnonzero(digits.labels == k)[60:75]:
            picture(tmp_path / "new" / f"{k}-{i}.png", digits.images[i], 16 + 8 * (i % 3))
    for model in (made, made, made / "model"):  # the folder of the result and that of its model are the same model
        run("predict", model, tmp_path / "new", "--out", tmp_path / "new.csv", "--quiet")
    found, pack = labels_of(tmp_path / "new.csv"), pack_folder(tmp_path / "new", tmp_path / "images", 8)
    assert (
        found == dict(zip(pack.files, DiEC.from_pretrained(made / "model").predict(pack.images).tolist()))
        and len(found) == 45
    )
    cluster_of = {
        Path(f).name[0]: c for f, c in labels_of(made / "labels.csv").items()
    }  # each class is a cluster, see above
    assert np.mean([c == cluster_of[f[0]] for f, c in found.items()]) > 0.9


def test_the_confidence_is_that_in_the_own_cluster(made, photos, tmp_path):
    pack, diec = pack_folder(photos, tmp_path / "images", 8), DiEC.from_pretrained(made / "model")
    q, z = diec.predict_proba(pack.images), diec.transform(pack.images)
    run("predict", made / "model", photos, "--out", tmp_path / "labels.csv", "--quiet")
    for path in (made / "labels.csv", tmp_path / "labels.csv"):
        rows = {r["file"]: r for r in rows_of(path)}
        for f, qi, zi in zip(pack.files, q, z):
            cluster = int(rows[f]["cluster"])
            assert (
                cluster == qi.argmax()
                and float(rows[f]["confidence"]) == pytest.approx(qi[cluster], abs=1e-4)
                and qi[cluster] > qi.min() + 0.1
            )
            assert float(rows[f]["distance"]) == pytest.approx(
                np.linalg.norm(zi - diec.cluster_centers_[cluster]), abs=1e-3
            )


def test_other_names_give_the_same_clusters(made, photos, tmp_path):
    "Bit for bit: pretraining, search and fit see the pictures in the order of their pixels, whatever they are called and wherever they lie"
    rng, renamed = np.random.default_rng(0), {}
    files = [f for f in list_images(photos).files if f in labels_of(made / "labels.csv")]
    for new, f in zip(rng.permutation(len(files)), files):
        renamed[f] = f"{'ab'[new % 2]}/{new:03d}{Path(f).suffix}"
        (tmp_path / "in" / renamed[f]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / f, tmp_path / "in" / renamed[f])
    assert sorted(files) == files != sorted(files, key=renamed.get)
    run("cluster", tmp_path / "in", "--unet", "digits", "-k", 3, "--out", tmp_path / "out", "--quiet")
    first, again = ({r["file"]: r for r in rows_of(p / "labels.csv")} for p in (made, tmp_path / "out"))
    for f in files:
        assert [first[f][k] for k in ("cluster", "confidence", "distance")] == [
            again[renamed[f]][k] for k in ("cluster", "confidence", "distance")
        ]
    for path in (made, tmp_path / "out"):
        assert list(labels_of(path / "labels.csv")) == sorted(labels_of(path / "labels.csv"))  # for the reader by name
    assert (tmp_path / "out" / "model" / "model.safetensors").read_bytes() == (
        made / "model" / "model.safetensors"
    ).read_bytes()
    for folder, out in ((photos, "a"), (tmp_path / "in", "b")):
        run("pretrain", folder, "--out", tmp_path / out, "--steps", 2, "--image-size", 8, "--quiet")
    a, b = (tmp_path / out / "unet" / "diffusion_pytorch_model.safetensors" for out in "ab")
    assert a.read_bytes() == b.read_bytes()


def test_the_same_again_is_done_at_once_and_the_same(made, photos, capsys):
    before = {
        p.name: p.read_bytes()
        for p in (made / "labels.csv", made / "model" / "model.safetensors", made / "report.html")
    }
    run("cluster", photos, "--unet", "digits", "-k", 3, "--out", made, "--quiet")
    assert before == {
        p.name: p.read_bytes()
        for p in (made / "labels.csv", made / "model" / "model.safetensors", made / "report.html")
    }


def test_the_number_is_estimated_and_a_unet_pretrained(photos, tmp_path, capsys):
    run("cluster", photos, "--steps", 3, "--image-size", 8, "--out", tmp_path / "out", "--quiet")
    said = capsys.readouterr().out
    assert "clusters (estimated)" in said and "pretrain" in said and "3 files left out" in said
    assert (tmp_path / "out" / "unet" / "model_index.json").is_file()
    run("cluster", photos, "--unet", tmp_path / "out" / "unet", "-k", 2, "--out", tmp_path / "again", "--quiet")


def test_a_quick_result_is_replaced_by_a_refined_one_and_not_the_other_way(photos, tmp_path, capsys):
    words = "cluster", photos, "-k", 3, "--out", tmp_path / "out", "--quiet"
    run(*words)
    said = capsys.readouterr()
    assert re.search("^U-Net (mnist|mnist-5k|fashion-mnist), of those that come with diec", said.out, re.M)
    assert "--refine" in said.err and not (tmp_path / "out" / "unet").exists()
    run(*words)
    assert "nothing has changed" in capsys.readouterr().out
    run(*words, "--refine", "--steps", 5)
    assert "nothing has changed" not in capsys.readouterr().out
    assert (tmp_path / "out" / "unet" / "model_index.json").is_file()
    with pytest.raises(SystemExit):
        run(*words)
    assert "refine was True, now False" in capsys.readouterr().err
    run(*words, "--force")


def test_the_unet_is_chosen_at_the_size_of_the_files(tmp_path, capsys):
    for i, digit in enumerate(load_dataset("digits").images[:12]):
        picture(tmp_path / "small" / f"{i}.png", digit, 8)
    run("cluster", tmp_path / "small", "-k", 2, "--out", tmp_path / "out", "--quiet")
    said = capsys.readouterr().out
    assert "U-Net digits, of those that come with diec" in said and "12 images read at 8x8 in gray" in said


def test_a_folder_without_a_readable_file_says_why(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for i in range(5):
        (tmp_path / "in" / f"{i}.png").touch()
    said = []
    for words in ((), ("--unet", "digits")):
        with pytest.raises(SystemExit):
            run("cluster", tmp_path / "in", "--out", tmp_path / "out", "--quiet", *words)
        said.append(capsys.readouterr().err)
    assert said[0] == said[1] and "0 bytes" in said[0]


def test_information(made, capsys):
    for words in (("info", made / "model"), ("unets",), ("datasets",)):
        run(*words)
    said = capsys.readouterr().out
    assert (
        "75" in said
        and "down_blocks.1, timestep" in said
        and "mnist-5k" in said
        and "parameters" in said
        and "digits           here" in said
    )


def test_search(capsys, photos, tmp_path):
    run("search", photos, "--unet", "digits", "-k", 3, "--quiet", "--work", tmp_path)
    said = capsys.readouterr().out
    assert said.count("S = ") == 6 + 2 * 4 and "(14 evaluations)" in said and said.splitlines()[-1].startswith("best: ")
    run("search", photos, "--unet", "digits", "-k", 3, "--quiet", "--work", tmp_path, "--layer", "up_blocks.1")
    said = capsys.readouterr().out
    assert "best: up_blocks.1, timestep" in said and "mid_block" not in said


@pytest.mark.parametrize(
    "words, said",
    [
        (("cluster", "EMPTY"), "no image in this folder"),
        (("cluster", "MISSING"), "no such folder"),
        (("cluster", "PHOTOS", "--unet", "digits", "-k", "1"), "--n-clusters must be 2 or more, got 1"),
        (("cluster", "PHOTOS", "--unet", "digits", "-k", "500"), "for --n-clusters 500; got 75"),
        (("cluster", "ONE", "--unet", "digits"), "FOLDER must hold 4 images"),
        (("cluster", "ONE/0.png", "--unet", "digits"), "0.png"),
        (("cluster", "PHOTOS", "--copy"), "--copy must come with --into"),
        (("cluster", "PHOTOS", "--unet", "digits", "--steps", 3), "--steps and --image-size"),
        (("cluster", "PHOTOS", "--out", "ONE/0.png"), "--out must be a folder"),
        (("predict", "EMPTY", "PHOTOS", "--out", "EMPTY"), "--out must be a file"),
        (("pretrain", "digits", "--out", "net", "--image-size", 8), "--image-size must not"),
        (("pretrain", "ONE", "--out", "ONE"), "path must be new"),
        (("cluster", "PHOTOS", "--unet", "nothing/here"), "nothing/here"),
        (("info", "EMPTY"), "config.json"),
        (("predict", "EMPTY", "PHOTOS"), "config.json"),
        (("cluster", "PHOTOS", "--unet", "digits", "-k", "3", "--into", "PHOTOS"), "--into: path must be"),
    ],
    ids=lambda v: " ".join(map(str, v)) if isinstance(v, tuple) else "",
)
def test_errors_are_one_line(words, said, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    picture(tmp_path / "one" / "0.png", load_dataset("digits").images[0])
    names = {
        "EMPTY": tmp_path / "empty",
        "MISSING": tmp_path / "missing",
        "PHOTOS": photos,
        "ONE": tmp_path / "one",
        "ONE/0.png": tmp_path / "one" / "0.png",
    }
    with pytest.raises(SystemExit) as e:
        run(*(names.get(w, w) for w in words), *(() if words[0] == "info" else ("--quiet",)))
    err = capsys.readouterr().err
    assert (
        e.value.code == 2
        and said in err
        and "Traceback" not in err
        and err.startswith("diec: ")
        and err.count("\n") == 1
    )
    assert not any(
        p.is_dir() and not any(f.is_file() for f in p.rglob("*")) for p in tmp_path.iterdir() if p.name != "empty"
    )  # nothing made for nothing


@pytest.mark.parametrize(
    "words, said",
    [
        (("cluster", ""), "must not be empty"),
        (("cluster", "x", "--out", ""), "must not be empty"),
        (("cluster", "x", "--seed", 10**20), "integer in 0..4294967295"),
        (("cluster", "x", "--seed", -1), "integer in 0.."),
        (("cluster", "x", "--image-size", 100_000), "integer in 1..256"),
        (("cluster", "x", "--steps", 0), "integer in 1.."),
    ],
    ids=str,
)
def test_options_that_make_no_sense(words, said, capsys):
    with pytest.raises(SystemExit):
        run(*words)
    assert said in capsys.readouterr().err


def test_all_pictures_broken(tmp_path, capsys):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"x")
    with pytest.raises(SystemExit):
        run("cluster", tmp_path, "--out", tmp_path / "out", "--quiet")
    assert "none of the 3 pictures could be read" in capsys.readouterr().err


def test_help_is_quick_and_complete():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "diec.app.cli", "--help"], capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and all(
        v in done.stdout for v in ("cluster", "apply", "pretrain", "search", "predict", "datasets", "unets", "info")
    )
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "argparse" in imported and not imported & {
        "torch",
        "diffusers",
        "transformers",
        "sklearn",
        "scipy",
        "matplotlib",
        "PIL",
    }
    assert (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 4
    )  # of CPU, which other jobs change little; importing torch alone takes more


# --- the parts


def test_names_of_any_kind(tmp_path):
    digit = load_dataset("digits").images[0]
    for name in ("a b.png", 'a,b".png', "ä.png", "a__b.png", os.fsdecode(b"\xff\xfe.png")):
        picture(tmp_path / "in" / name, digit)
    picture(tmp_path / "in" / "a" / "b.png", digit)  # becomes a__b.png too
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    files = list_images(tmp_path / "in").files
    assert len(files) == 6
    pack = pack_folder(tmp_path / "in", tmp_path / "out" / "images", 8)
    assert pack.files == files and open_pack(tmp_path / "out" / "images").files == files
    write_labels(tmp_path / "labels.csv", files, np.arange(6), np.ones(6), np.zeros(6))
    assert labels_of(tmp_path / "labels.csv") == dict(zip(files, range(6)))
    for copy in (False, True):
        sort_into(tmp_path / "sorted", tmp_path / "in", files, np.zeros(6, int), copy)
        assert len(list((tmp_path / "sorted").glob("cluster-0/*.png"))) == 6 and all(
            p.exists() and p.is_symlink() != copy for p in (tmp_path / "sorted").glob("cluster-0/*.png")
        )


def test_a_folder_that_changed_is_read_anew(tmp_path):
    digits = load_dataset("digits").images
    for i in range(3):
        picture(tmp_path / "in" / f"{i}.png", digits[i])
    by_name = lambda pack: {f: a.tobytes() for f, a in zip(pack.files, pack.images)}
    first = by_name(pack_folder(tmp_path / "in", tmp_path / "out" / "images", 8))
    picture(tmp_path / "in" / "1.png", digits[7], mode="RGB")
    picture(tmp_path / "in" / "3.png", digits[9])
    again = by_name(pack_folder(tmp_path / "in", tmp_path / "out" / "images", 8))
    assert (
        len(again) == 4 and all(again[f] == first[f] for f in ("0.png", "2.png")) and again["1.png"] != first["1.png"]
    )


def test_color_comes_late(tmp_path):
    digits = load_dataset("digits").images
    for i in range(3):
        picture(tmp_path / "in" / f"{i}.png", digits[i])
    assert pack_folder(tmp_path / "in", tmp_path / "a" / "images", 8).images.shape == (3, 1, 8, 8)
    Image.new("RGB", (9, 9), "red").save(tmp_path / "in" / "z.png")
    pack = pack_folder(tmp_path / "in", tmp_path / "a" / "images", 8)
    red = pack.images[pack.files.index("z.png")]
    assert pack.images.shape == (4, 3, 8, 8) and (red[0] == 255).all() and (red[1:] == 0).all()


@pytest.mark.parametrize(
    "facts",
    [
        "",
        "{}",
        "[]",
        '{"format": "diec-images-2", "shape": [2147483648, 3, 32, 32], "files": [], "skipped": []}',
        '{"format": "diec-images-2", "shape": [1, 1, 8, -8], "files": ["a"], "skipped": []}',
        '{"format": "diec-images-2", "shape": [1, 1, 8, 9e9], "files": ["a"], "skipped": []}',
        "[" * 100_000,
    ],
)
def test_a_pack_that_makes_no_sense(tmp_path, facts):
    picture(tmp_path / "in" / "0.png", load_dataset("digits").images[0])
    store = tmp_path / "out" / "images"
    whole = np.array(pack_folder(tmp_path / "in", store, 8).images)
    (store / "images.json").write_text(facts)
    with pytest.raises(DataError, match="not a complete pack"):
        open_pack(store)
    assert np.array_equal(pack_folder(tmp_path / "in", store, 8).images, whole)  # made anew


def test_a_pack_in_the_order_of_names_is_made_again(tmp_path):
    "As earlier versions wrote it"
    digits, store = load_dataset("digits").images, tmp_path / "out" / "images"
    for i in range(9):
        picture(tmp_path / "in" / f"{i}.png", digits[i])
    pack = pack_folder(tmp_path / "in", store, 8)
    whole, files = np.array(pack.images), list(pack.files)
    assert files != sorted(files)  # else this could not fail
    order = np.argsort(files)
    (store / "images.u8").write_bytes(whole[order].tobytes())
    facts = json.loads((store / "images.json").read_text()) | {
        "format": "diec-images-1",
        "files": [files[i] for i in order],
        "sha256": hashlib.sha256(whole[order].tobytes()).hexdigest(),
    }
    (store / "images.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match="not a complete pack"):
        open_pack(store)
    again = pack_folder(tmp_path / "in", store, 8)
    assert again.files == files and np.array_equal(again.images, whole)


def test_a_result_in_the_folder_is_left_out(tmp_path):
    "Of the next run, also where nothing marks it"
    digits = load_dataset("digits").images
    for i in range(4):
        picture(tmp_path / "in" / f"{i}.png", digits[i])
    picture(tmp_path / "in" / "out" / "images" / "5.png", digits[5])
    picture(tmp_path / "in" / "out" / "other" / "6.png", digits[6])
    assert list_images(tmp_path / "in", leave_out=tmp_path / "in" / "out").files == ["0.png", "1.png", "2.png", "3.png"]
    assert list_images(tmp_path / "in").files == [
        "0.png",
        "1.png",
        "2.png",
        "3.png",
        "out/images/5.png",
        "out/other/6.png",
    ]
    assert sorted(pack_folder(tmp_path / "in", tmp_path / "in" / "out" / "images", 8).files) == [
        "0.png",
        "1.png",
        "2.png",
        "3.png",
        "out/other/6.png",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.3, 1.5, 3.0, 5.0, 8.0])
def test_killed_and_started_again_it_ends_with_the_same_bytes(made, photos, tmp_path, after):
    command = [
        sys.executable,
        "-m",
        "diec.app.cli",
        "cluster",
        str(photos),
        "--unet",
        "digits",
        "-k",
        "3",
        "--out",
        str(tmp_path / "out"),
        "--quiet",
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    time.sleep(after)
    first.send_signal(signal.SIGKILL)
    first.wait()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    for name in ("labels.csv", "model/model.safetensors", "model/unet/unet/diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (made / name).read_bytes()


@pytest.mark.parametrize("place", ["model", "work"])
def test_a_pickle_in_any_place_that_is_read_is_not_loaded(made, photos, tmp_path, marker, capsys, place):
    data, loaded = marker
    names = [p.relative_to(made) for p in (made / place).rglob("*") if p.is_file()]
    assert len(names) >= 3
    for name in names:
        out = tmp_path / "out"
        shutil.copytree(made, out)
        (out / name).write_bytes(data)
        if name.name != "result.json":
            (out / "work" / "result.json").unlink()  # else a finished run reads little of what is there
        words = (
            ("info", out / "model")
            if place == "model"
            else ("cluster", photos, "--unet", "digits", "-k", 3, "--out", out, "--quiet")
        )
        try:
            run(*words)
        except SystemExit as e:
            assert e.code == 2 and capsys.readouterr().err.startswith("diec: ")
        assert not loaded.exists()
        shutil.rmtree(out)


def test_a_strangers_model_does_not_say_where_files_are_written(made, tmp_path):
    shutil.copytree(made / "model", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["params"] |= {"checkpoint": str(tmp_path / "elsewhere"), "device": "meta"}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    diec = DiEC.from_pretrained(tmp_path / "model")
    assert diec.checkpoint is None and diec.device is None


def test_a_folder_that_changed_is_sorted_anew(photos, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(photos, folder)
    words = "cluster", folder, "--unet", "digits", "-k", 3, "--out", out, "--quiet"
    run(*words)
    first = list_images(folder).files[0]
    picture(folder / first, load_dataset("digits").images[5], 32)  # another picture of the same name
    run(*words)
    assert len(labels_of(out / "labels.csv")) == 75


@pytest.mark.slow
def test_two_processes_by_accelerate(made, photos, tmp_path):
    "`--multi_gpu` is accelerate's word for several processes; without GPUs they are two on the CPU (gloo)"
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
    ]
    done = subprocess.run(
        [
            *launch,
            "-m",
            "diec.app.cli",
            "cluster",
            str(photos),
            "--unet",
            "digits",
            "-k",
            "3",
            "--out",
            str(tmp_path / "out"),
            "--quiet",
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mean confidence") == 1  # one speaks for both
    assert labels_of(tmp_path / "out" / "labels.csv") == labels_of(made / "labels.csv")


def test_sorting_leaves_the_files_as_they_are(tmp_path):
    files = ["a.png", "x/a.png", "x__a.png", "A.png", "/".join(["long" * 15] * 5) + "/b.png"]
    for i, f in enumerate(files):
        picture(tmp_path / "in" / f, load_dataset("digits").images[i])
        (tmp_path / "in" / f).chmod(0o400)
    (tmp_path / "in" / "gone.png").unlink(missing_ok=True)
    for copy in (False, True):
        sort_into(
            tmp_path / "sorted",
            tmp_path / "in",
            [*files, *(["gone.png"] if not copy else [])],
            [0] * (5 + (not copy)),
            copy,
        )
        made = sorted(p for p in (tmp_path / "sorted" / "cluster-0").iterdir() if p.exists())
        assert len(made) == 5 and len({p.name.casefold() for p in made}) == 5 and all(len(p.name) < 210 for p in made)
        assert all((tmp_path / "in" / f).stat().st_mode & 0o777 == 0o400 for f in files)
    assert list_images(tmp_path / "sorted" / "..", leave_out=None).files == sorted(
        f"in/{f}" for f in files
    )  # what was sorted is not found again


def test_what_is_not_read_is_listed(tmp_path):
    folder = tmp_path / "in"
    for i in range(4):
        picture(folder / f"{i}.png", load_dataset("digits").images[i])
    (folder / "a.webp").write_bytes(b"RIFF")
    (folder / "a.dng").touch()
    (folder / "deeper").mkdir()
    (folder / "link").symlink_to(folder / "deeper")
    os.mkfifo(folder / "pipe.png")
    (folder / "notes.txt").touch()
    skipped = dict(pack_folder(folder, tmp_path / "store" / "images", 8).skipped)
    assert (
        skipped.keys() == {"a.webp", "a.dng", "link", "pipe.png"}
        and "not an image in a format that is read" in skipped["a.webp"]
        and skipped["a.dng"] == "a raw or vector image"
        and "regular" in skipped["pipe.png"]
    )
    (folder / "0.png").chmod(0o600)
    before = open_pack(tmp_path / "store" / "images").state
    assert pack_folder(folder, tmp_path / "store" / "images", 8).state != before  # the leave to read it may have come


@pytest.mark.parametrize("harm", ["no pixels", "no images.part", "short images.part", "skipped"])
def test_a_pack_that_lost_a_file_is_made_anew(tmp_path, harm, monkeypatch):
    import diec.data.folder

    folder, store = tmp_path / "in", tmp_path / "work" / "images"
    for i in range(4):
        picture(folder / f"{i}.png", load_dataset("digits").images[i])
    whole = np.array(pack_folder(folder, store, 8).images)
    facts = json.loads((store / "images.json").read_text())
    if harm == "no pixels":
        (store / "images.u8").unlink()
    elif harm == "skipped":
        (store / "images.json").write_text(json.dumps({k: v for k, v in facts.items() if k != "skipped"}))
    else:  # killed while reading, and the pixels lost
        shutil.rmtree(store)
        with monkeypatch.context() as m:
            m.setattr(diec.data.folder, "_finish", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                pack_folder(folder, store, 8)
        if harm == "no images.part":
            (store / "images.part").unlink()
        else:
            os.truncate(store / "images.part", 300)
    assert np.array_equal(pack_folder(folder, store, 8).images, whole)


def test_two_runs_into_one_folder(made, photos, capsys):
    import fcntl

    with open(made / "work" / ".lock", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        with pytest.raises(SystemExit):
            run("cluster", photos, "--unet", "digits", "-k", 3, "--out", made, "--quiet")
    assert "another run is at work" in capsys.readouterr().err


def test_what_killed_runs_left_is_cleared(made, photos, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(made, out)
    unfinished = [
        out / "labels.csv",
        out / "model",
        *(next(out.glob(f"work/{place}")).parent / "x" for place in ("folder", "fit-*.embeddings/*.f32")),
    ]
    started = [atomic_file(p) for p in unfinished]
    for s in started:
        s.__enter__()  # and never ended
    stage = next(p.parent for p in out.glob(".diec-*.partial/record.json") if '"model"' in p.read_text())
    os.rename(out / "model", stage / "old")  # killed between two renames
    assert len(list(out.rglob(".diec-*.partial"))) == 4
    run("cluster", photos, "--unet", "digits", "-k", 3, "--out", out, "--quiet")
    assert (
        not list(out.rglob(".diec-*.partial"))
        and (out / "model" / "config.json").is_file()
        and not any(p.name == "x" for p in unfinished if p.exists())
    )


@pytest.mark.slow
def test_a_full_disk_is_one_line(photos, tmp_path):
    limit = lambda: (
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000,) * 2),
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "diec.app.cli",
            "cluster",
            str(photos),
            "--unet",
            "digits",
            "-k",
            "3",
            "--out",
            str(tmp_path / "out"),
            "--quiet",
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=limit,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.startswith("diec: [Errno 27]")


@pytest.mark.parametrize(
    "words, said",
    [
        (("-k", 500), "--n-clusters 500"),
        (("--into", "OUT"), "--into must not be"),
        (("--into", "OWN"), "--into: path must be new, empty"),
        (("-k", 1), "--n-clusters must be"),
        (("--into", "PARENT"), "--into: path must be new"),
    ],
)
def test_what_cannot_end_well_does_not_begin(photos, tmp_path, capsys, words, said):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.txt").touch()
    words = [{"OUT": tmp_path / "out", "OWN": tmp_path / "own", "PARENT": photos.parent}.get(w, w) for w in words]
    with pytest.raises(SystemExit):
        run("cluster", photos, "--out", tmp_path / "out", "--quiet", *words)
    assert said in capsys.readouterr().err and not list(
        (tmp_path / "out").rglob("*.safetensors")
    )  # nothing was pretrained


def test_few_pictures_that_differ(tmp_path, capsys):
    for i in range(8):
        picture(tmp_path / "in" / f"{i}\r.png", load_dataset("digits").images[i % 2])
    with pytest.raises(SystemExit):
        run("cluster", tmp_path / "in", "--unet", "digits", "-k", 3, "--out", tmp_path / "out", "--quiet")
    assert "of the 8 there are only 2 different" in capsys.readouterr().err
    run("cluster", tmp_path / "in", "--unet", "digits", "-k", 2, "--out", tmp_path / "out", "--quiet")
    assert "principal components" in (tmp_path / "out" / "report.html").read_text()
    with open(tmp_path / "out" / "labels.csv", newline="") as f:
        assert [r["file"] for r in csv.DictReader(f)] == [f"{i}\r.png" for i in range(8)]


def test_a_data_set_or_a_folder_of_its_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        picture(tmp_path / "digits" / f"{i}.png", load_dataset("digits").images[i])
    run("pretrain", "digits", "--out", "net", "--steps", 2, "--image-size", 8, "--quiet")
    assert "digits: a folder" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run("pretrain", "digits", "--out", "net", "--steps", 3, "--image-size", 8, "--quiet")
    assert "steps was 2, now 3" in capsys.readouterr().err
    run(
        "pretrain", "digits", "--out", "net", "--steps", 3, "--image-size", 8, "--quiet", "--force"
    )  # another recipe, not another's checkpoint


@pytest.mark.parametrize(
    "harm, said",
    [
        ({"n_draws": 10**4}, "n_draws"),
        ({"batch_size": 10**9}, "batch_size"),
        ("history", "history"),
        ("nan", "centers must be finite"),
        ("empty", "space.components must have the shape (d, "),
        ("wide", "numbers an image"),
        ("training_config", "scheduler_config.json: beta_start"),
        ("side", "sample_size"),
    ],
)
def test_a_strangers_model_that_asks_for_too_much(made, tmp_path, capsys, harm, said):
    from safetensors.torch import load_file, save_file

    model = tmp_path / "model"
    shutil.copytree(made / "model", model)
    config, tensors = json.loads((model / "config.json").read_text()), load_file(model / "model.safetensors")
    if isinstance(harm, dict):
        config["params"] |= harm
    elif harm == "history":
        config["history"] = {}
    elif harm == "nan":
        tensors["centers"][0, 0] = float("nan")
    elif harm == "empty":
        tensors["space.components"] = torch.zeros(0, 2**28)
    elif harm == "wide":
        tensors |= {
            k: torch.nn.functional.pad(v, (0, 3)) for k, v in tensors.items() if k in ("space.components", "space.mean")
        }
    elif harm == "side":
        place = model / "unet" / "unet" / "config.json"
        place.write_text(json.dumps(json.loads(place.read_text()) | {"sample_size": 100_000}))
    else:
        place = model / "unet" / "scheduler" / "scheduler_config.json"
        place.write_text(json.dumps(json.loads(place.read_text()) | {"beta_schedule": "linear", "beta_start": 50_000}))
    (model / "config.json").write_text(json.dumps(config))
    save_file(tensors, model / "model.safetensors")
    with pytest.raises(SystemExit):
        run("info", model)
    assert said in capsys.readouterr().err


def test_two_folders_of_one_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("a", "b"):
        for i in range(8):
            picture(tmp_path / place / "photos" / f"{i}.png", load_dataset("digits").images[i])
    run("cluster", "a/photos", "--unet", "digits", "-k", 2, "--quiet")
    with pytest.raises(SystemExit):
        run("cluster", "b/photos", "--unet", "digits", "-k", 2, "--quiet")
    assert "clusters of another folder" in capsys.readouterr().err


# --- what a user could lose


def sorted_copies(folder, place, n=8):
    for i in range(n):
        picture(folder / f"{i}.png", load_dataset("digits").images[i])
    sort_into(place, folder, [f"{i}.png" for i in range(n)], [i % 2 for i in range(n)], True)


@pytest.mark.parametrize(
    "harm, said",
    [
        ("foreign", "was not put there"),
        ("foreign folder link", "was not put there"),
        ("changed", "was changed"),
        ("last copy", "last copy"),
        ("list lost", "was not put there"),
    ],
)
def test_sorting_replaces_only_what_it_put_there(tmp_path, harm, said):
    folder, place = tmp_path / "in", tmp_path / "sorted"
    sorted_copies(folder, place)
    files, labels = [f"{i}.png" for i in range(8)], [0] * 8
    sort_into(place, folder, files, labels, True)  # the same place again
    first = place / "cluster-0" / "0.png"
    if harm == "foreign":
        (place / "cluster-0" / "notes.txt").write_text("mine")
    elif harm == "foreign folder link":
        (place / "mine").symlink_to(folder)
    elif harm == "changed":
        first.write_bytes(b"turned")
    elif harm == "last copy":
        (folder / "0.png").unlink()
    else:
        (place / ".diec-groups").write_text("")
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    with pytest.raises(FileExistsError, match=said):
        sort_into(place, folder, files[1:], labels[1:], True)
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before


def test_a_group_is_not_sorted_over_itself(tmp_path, capsys):
    sorted_copies(tmp_path / "in", tmp_path / "sorted")
    for words in (("--into", tmp_path / "sorted"), ("--into", tmp_path / "sorted" / "cluster-0")):
        with pytest.raises(SystemExit):
            run(
                "cluster",
                tmp_path / "sorted" / "cluster-0",
                "--unet",
                "digits",
                "-k",
                2,
                "--out",
                tmp_path / "out",
                "--quiet",
                *words,
            )
        assert "--into" in capsys.readouterr().err
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == 8


def test_a_folder_that_may_not_be_read_is_left_out(tmp_path, monkeypatch):
    for i in range(3):
        picture(tmp_path / "in" / f"{i}.png", load_dataset("digits").images[i])
    picture(tmp_path / "in" / "closed" / "3.png", load_dataset("digits").images[3])
    is_file, scandir = Path.is_file, os.scandir  # whoever runs the tests may be allowed everything

    def refuse(real):
        def asked(p="."):
            if "closed" in Path(p).parts:
                raise PermissionError(13, "Permission denied", str(p))
            return real(p)

        return asked

    monkeypatch.setattr(Path, "is_file", refuse(is_file))
    monkeypatch.setattr(os, "scandir", refuse(scandir))
    found = list_images(tmp_path / "in")
    assert found.files == ["0.png", "1.png", "2.png"] and "Permission denied" in dict(found.skipped)["closed"]


# --- damage that no file's form shows


def test_pixels_that_changed_are_read_anew(tmp_path):
    for i in range(4):
        picture(tmp_path / "in" / f"{i}.png", load_dataset("digits").images[i])
    whole = np.array(pack_folder(tmp_path / "in", tmp_path / "work" / "images", 8).images)
    file = tmp_path / "work" / "images" / "images.u8"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    with pytest.raises(DataError, match="images.u8 was changed"):
        open_pack(tmp_path / "work" / "images")
    assert np.array_equal(pack_folder(tmp_path / "in", tmp_path / "work" / "images", 8).images, whole)


def test_embeddings_that_changed_are_made_anew(made, photos, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(made, out)
    for f in [*out.glob("work/fit-*.safetensors"), *out.glob("work/*.search.json"), out / "work" / "result.json"]:
        f.unlink()
    kept = list(out.glob("work/fit-*.embeddings/*.f32"))
    assert kept
    for f in kept:
        with open(f, "r+b") as g:
            g.seek(8)
            g.write(b"\x00\x00\x80\x3f")
    run("cluster", photos, "--unet", "digits", "-k", 3, "--out", out, "--quiet")
    assert (out / "model" / "model.safetensors").read_bytes() == (made / "model" / "model.safetensors").read_bytes()


def test_a_damaged_checkpoint_says_what_to_do(made, photos, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(made, out)
    (out / "labels.csv").unlink()  # else there is nothing to do
    for f in out.glob("work/fit-*.safetensors"):
        f.write_bytes(f.read_bytes()[:-1] + b"x")
    with pytest.raises(SystemExit):
        run("cluster", photos, "--unet", "digits", "-k", 3, "--out", out, "--quiet")
    assert "delete it to start from the beginning" in capsys.readouterr().err


def test_the_tree_is_of_the_clusters():
    from diec.app.html_report import cluster_tree

    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(c, 1, (n, 2)) for c, n in (((0, 0), 60), ((3, 0), 10), ((40, 0), 30))])
    linkage, kinds = cluster_tree(z, np.repeat([4, 7, 9], [60, 10, 30]))
    assert (
        kinds.tolist() == [4, 7, 9]
        and sorted(linkage[0, :2].astype(int).tolist()) == [0, 1]
        and linkage.shape == (2, 4)
    )


def test_large_images_come_in_small_batches():
    from diec.features import Extractor
    from diec.unet import ACTIVATION_BYTES, forward_cost, new_scheduler, new_unet

    unets = [new_unet(side, block_out_channels=(8, 8)) for side in (32, 128, 1024)]
    sizes = [Extractor(unet, new_scheduler()).batch_size for unet in unets]
    assert sizes[0] == 256 and sizes == sorted(sizes, reverse=True)
    assert all(n == 1 or n * forward_cost(unet.config).n_bytes <= ACTIVATION_BYTES for n, unet in zip(sizes, unets))


# --- names that stand in several places, so that the help needs no PyTorch


def test_names_of_criteria_and_starts_agree():
    from inspect import signature
    from typing import get_args

    from diec.app.cli import search
    from diec.core.schema import CRITERION_NAMES, INIT_NAMES
    from diec.estimator import INITS
    from diec.search import CRITERIA

    assert set(get_args(signature(search).parameters["criterion"].annotation)) == set(CRITERION_NAMES) == set(CRITERIA)
    assert set(INIT_NAMES) == set(INITS)


def test_the_help_of_each_verb_explains_every_argument(capsys):
    from inspect import signature

    from diec.app.cli import VERBS

    for verb in VERBS:
        with pytest.raises(SystemExit) as e:
            run(verb.__name__, "--help")
        said = capsys.readouterr().out
        assert e.value.code == 0 and f"  diec {verb.__name__}" in said  # an example
        for name, p in signature(verb).parameters.items():
            positional = p.default is p.empty and p.kind is not p.KEYWORD_ONLY
            assert (f"  {name.upper()}  " if positional else f"--{name.replace('_', '-')}") in said, (verb, name)


@pytest.mark.parametrize(
    "error, status",
    [
        (None, 0),
        (BrokenPipeError(), 1),
        (ValueError("wrong"), 2),
        (OSError(28, "No space left on device"), 2),
        (MemoryError(), 2),
        (RuntimeError("failed"), 2),
        (KeyboardInterrupt(), 130),
        (Interrupted(signal.SIGTERM), 143),
        (Interrupted(signal.SIGHUP), 129),
    ],
)
def test_the_exit_status_is_the_one_in_the_help(error, status, monkeypatch, capsys):
    def fail(*modules):
        if error:
            raise error

    with pytest.raises(SystemExit):
        run("--help")
    assert re.search(rf"\b{status}\b", capsys.readouterr().out.split("exit status:")[1])
    monkeypatch.setattr("diec.app.cli._import", fail)
    try:
        run("datasets")
        ended = 0
    except SystemExit as e:
        ended = e.code
    assert ended == status
    assert capsys.readouterr().err.count("\n") == (0 if status in (0, 1) else 1)


def test_a_wrong_option_ends_with_status_2(capsys):
    with pytest.raises(SystemExit) as e:
        run("datasets", "--nonsense")
    assert e.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_verbs_are_functions(made, capsys):
    from diec.app.cli import info

    info(str(made))
    assert "cluster sizes      25, 25, 25" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no such folder"):
        info("nothing")
