"The command diec with embeddings from a file in place of a U-Net."

import csv
import json

import numpy as np
import pytest
from PIL import Image

from diec.app import cli
from diec.app.cli import main
from diec.data.vectors import vectors_for

N = 60


def run(*words):
    main([str(w) for w in words])


def labels_of(path):
    with open(path, encoding="utf-8") as f:
        return {row["file"]: int(row["cluster"]) for row in csv.DictReader(f)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    "60 pictures, of which no two are alike, and vectors in three groups, in an order of their own"
    home, rng = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    (home / "photos" / "deeper").mkdir(parents=True)
    names = [f"{'deeper/' if i % 2 else ''}{i:02}.png" for i in range(N)]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(home / "photos" / name)
    order = rng.permutation(N)
    vectors = rng.normal(size=(N, 40)) + 9 * rng.normal(size=(3, 40))[np.arange(N) % 3]
    np.save(home / "clip.npy", vectors[order].astype(np.float32))
    (home / "clip.csv").write_text("file\n" + "\n".join(names[i] for i in order) + "\n")
    return home


@pytest.fixture(scope="module")
def made(photos):
    run("cluster", photos / "photos", "-k", 3, "--embeddings", photos / "clip.npy", "--out", photos / "out", "--quiet")
    return photos / "out"


def test_the_vectors_decide(made):
    groups = [{k for name, k in labels_of(made / "labels.csv").items() if int(name[-6:-4]) % 3 == g} for g in range(3)]
    assert all(len(g) == 1 for g in groups) and len(set.union(*groups)) == 3
    assert not (made / "unet").exists() and not (made / "model" / "unet").exists()
    assert "clip.npy" in (made / "report.html").read_text()


def test_the_refined_embeddings_are_in_the_order_of_the_labels(made, photos):
    z = np.load(made / "embeddings.npy", allow_pickle=False)
    assert z.shape == (N, 40) and z.dtype == np.float32
    names = [*labels_of(made / "labels.csv")]
    np.testing.assert_array_equal(vectors_for(made / "embeddings.npy", names[::-1], "photos"), z[::-1])
    out = photos / "again"
    run("cluster", photos / "photos", "-k", 3, "--embeddings", made / "embeddings.npy", "--out", out, "--quiet")
    first, second = labels_of(made / "labels.csv"), labels_of(out / "labels.csv")
    assert len({(first[name], second[name]) for name in first}) == 3


def test_new_vectors_are_predicted(made, photos, tmp_path):
    some = sorted(labels_of(made / "labels.csv"))[::7]
    folder = tmp_path / "new"
    for name in some:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((photos / "photos" / name).read_bytes())
    run("predict", made, folder, "--embeddings", photos / "clip.npy", "--out", tmp_path / "new.csv", "--quiet")
    known = labels_of(made / "labels.csv")
    assert labels_of(tmp_path / "new.csv") == {name: known[name] for name in some}


def test_the_same_again_is_done_at_once_and_other_vectors_are_not(made, photos, tmp_path, capsys):
    words = "cluster", photos / "photos", "-k", 3, "--out", tmp_path / "out", "--quiet", "--embeddings"
    file = tmp_path / "vectors.npy"
    names = sorted(labels_of(made / "labels.csv"))
    vectors = vectors_for(photos / "clip.npy", names, "")
    np.save(file, vectors)
    run(*words, file)
    assert "nothing has changed" not in capsys.readouterr().out
    run(*words, file)
    assert "nothing has changed" in capsys.readouterr().out
    np.save(file, vectors[::-1])
    run(*words, file)
    assert "nothing has changed" not in capsys.readouterr().out
    file.with_suffix(".csv").write_text("file\n" + "\n".join(names[::-1]) + "\n")  # the first vectors again
    run(*words, file)
    assert "nothing has changed" not in capsys.readouterr().out
    link = tmp_path / "link.npy"
    link.symlink_to(file)
    run(*words, link, "--force")
    capsys.readouterr()
    np.save(file, vectors[::-1] + 1)
    run(*words, link)
    assert "nothing has changed" not in capsys.readouterr().out


def test_another_version_takes_no_result_of_this_one(photos, tmp_path, monkeypatch, capsys):
    words = "cluster", photos / "photos", "-k", 3, "--out", tmp_path / "out", "--quiet", "--embeddings"
    for version in ("1", "2"):
        monkeypatch.setattr(cli, "__version__", version)
        run(*words, photos / "clip.npy")
        assert "nothing has changed" not in capsys.readouterr().out
    assert len([f for f in (tmp_path / "out" / "work").glob("fit-*") if f.name.count(".") == 1]) == 2


def test_information(made, capsys):
    run("info", made)
    assert "vectors of 40 numbers" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["--unet digits", "--steps 9", "--fine-tune"])
def test_options_that_make_no_sense(photos, capsys, words):
    with pytest.raises(SystemExit):
        run("cluster", photos / "photos", "--embeddings", photos / "clip.npy", *words.split())
    assert "must not come with --embeddings" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("no.npy", None, "--embeddings must be a file"),
        ("vectors.txt", b"1 2", "ends in .npy, .csv, .parquet"),
        ("vectors.npy", b"pickle", "must be an array of NumPy that holds no objects"),
        ("vectors.csv", b"name,0\na.png,1\n", "must have a column 'file'"),
        ("vectors.csv", b"file,0\na.png,x\n", "must hold numbers in all columns"),
        ("vectors.csv", b"file,0\nnone.png,1\n", "60 of 60 have none, such as"),
        ("vectors.csv", b"", "must have a column 'file', got nothing"),
        ("vectors.csv", b"file,0\n", "must name at least one file"),
        ("vectors.csv", b"file,0\na.png\n", "line 2: a row must have 2 cells, as the header has, got 1"),
        ("vectors.csv", b"file,0\n\xff.png,1\n", "must be a CSV file in UTF-8"),
        ("vectors.csv", b"file,0\na.png,1\n./a.png,2\n", "one row for each file, got a.png in the rows 1 and 2"),
        ("vectors.npy", np.zeros((7, 3)), "must have a row for each of the 60 images"),
        ("vectors.npy", np.zeros(60), "must hold vectors (N, D) of numbers, got float64 (60,)"),
    ],
)
def test_errors_are_one_line(photos, tmp_path, capsys, name, content, said):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        np.save(tmp_path / name, content)
    with pytest.raises(SystemExit) as end:
        run("cluster", photos / "photos", "--embeddings", tmp_path / name, "--out", tmp_path / "out", "--quiet")
    error = capsys.readouterr().err
    assert end.value.code == 2 and said in error and error.count("\n") == 1


def test_a_model_says_whether_it_needs_vectors(made, photos, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("predict", made, photos / "photos", "--out", tmp_path / "new.csv", "--quiet")
    assert "--embeddings must be given" in capsys.readouterr().err
    config = json.loads((made / "model" / "config.json").read_text())
    assert config["embeddings"] == {"embed": 40}


def test_names_of_all_kinds_and_a_pickle(tmp_path):
    folder = tmp_path / "photos"
    np.save(tmp_path / "e.npy", np.arange(6.0).reshape(3, 2))
    (tmp_path / "e.csv").write_text(f"file\n{folder}/a.png\n./=b.png\n{folder.name}/c.png\n")
    found = vectors_for(tmp_path / "e.npy", ["=b.png", "a.png"], str(folder))
    assert found.tolist() == [[2, 3], [0, 1]]
    np.save(tmp_path / "p.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="holds no objects"):
        vectors_for(tmp_path / "p.npy", ["a.png"], str(folder))


def test_a_mark_at_the_beginning_and_empty_lines_are_passed_over(tmp_path):
    (tmp_path / "e.csv").write_text("\ufefffile,0,1\nb,1,3\n\na,2,4\n\n", encoding="utf-8")
    assert vectors_for(tmp_path / "e.csv", ["a", "b"], "photos").tolist() == [[2, 4], [1, 3]]


def test_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    wide = pandas.DataFrame({"file": ["b", "a"], "0": [1.0, 2.0], "1": [3.0, 4.0]})
    wide.to_parquet(tmp_path / "wide.parquet")
    pandas.DataFrame({"file": ["b", "a"], "vector": [[1.0, 3.0], [2.0, 4.0]]}).to_parquet(tmp_path / "lists.parquet")
    for name in ("wide", "lists"):
        assert vectors_for(tmp_path / f"{name}.parquet", ["a", "b"], "photos").tolist() == [[2, 4], [1, 3]]
