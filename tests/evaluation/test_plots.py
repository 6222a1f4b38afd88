"Every picture is drawn from arrays, on the axis given, and checks what it is given"

import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diec.evaluation import plots as p

rng = np.random.default_rng(0)
GREY, RGB = rng.uniform(-1, 1, (13, 1, 8, 8)), rng.uniform(-1, 1, (13, 3, 6, 9))
Z, LABELS, Q = rng.standard_normal((40, 5)), np.arange(40) % 4, rng.random(13)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


on_one_axis = {
    "show_images": lambda **k: p.show_images(GREY, titles=range(13), n_cols=5, **k),
    "plot_timestep_scores": lambda **k: p.plot_timestep_scores(
        [5, 1, 9], [2.0, 1.0, 3.0], best=9, order=[1, 2, 3], **k
    ),
    "plot_score_map": lambda **k: p.plot_score_map(
        [[1, 2, np.nan], [3, 4, 5]], ["down", "mid"], [0, 10, 20], best=("mid", 20), **k
    ),
    "plot_embedding": lambda **k: p.plot_embedding(Z, LABELS, **k),
    "plot_confusion": lambda **k: p.plot_confusion([0, 1, 1], [1, 1, 0], **k),
    "plot_calibration": lambda **k: p.plot_calibration([0.2, np.nan], [0.1, np.nan], [3, 0], 0.1, **k),
    "plot_loss_by_timestep": lambda **k: p.plot_loss_by_timestep([2, 1], [0.1, 0.2], [0.2, 0.3], **k),
}


@pytest.mark.parametrize("draw", on_one_axis.values(), ids=on_one_axis.keys())
def test_draws_on_the_axis_given_or_a_new_one(draw):
    _, ax = plt.subplots()
    assert draw(ax=ax) is ax and len(plt.get_fignums()) == 1
    new = draw()
    assert isinstance(new, Axes) and new.figure is not ax.figure
    new.figure.canvas.draw()


def test_import_changes_no_settings():
    code = (
        "import matplotlib; matplotlib.use('Agg'); before = dict(matplotlib.rcParams); import matplotlib.pyplot, diec.evaluation.plots; "
        "assert dict(matplotlib.rcParams) == before; assert not matplotlib.pyplot.get_fignums()"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_style_is_given_back():
    before = dict(plt.rcParams)
    with p.style(7):
        assert plt.rcParams["font.size"] == 7
    assert dict(plt.rcParams) == before


def test_show_images_pixels():
    image = np.array([[-1.0, 1.0], [0.0, 5.0]])[None, None]  # 5 is clipped
    shown = p.show_images(image).images[0].get_array()
    assert np.allclose(shown[-2:, :, 0], [[0, 1], [0.5, 1]])
    shown = p.show_images(torch.tensor(RGB, dtype=torch.bfloat16), n_cols=20).images[0].get_array()
    assert np.allclose(shown[-6:, :9], (RGB[0].transpose(1, 2, 0) + 1) / 2, atol=0.01)


@pytest.mark.parametrize(
    "images, message",
    [
        (GREY[0], "images must have 4 dimension"),
        (GREY[:0], "images must have 4 dimension"),
        (np.zeros((2, 2, 8, 8)), "C = 1 or 3"),
        (np.zeros((2, 1, 8, 8), np.uint8), "images must be floats"),
        (np.full((2, 1, 8, 8), np.nan), "images must be finite"),
    ],
)
def test_images_checks(images, message):
    with pytest.raises(ValueError, match=message):
        p.show_images(images)
    with pytest.raises(ValueError, match=message):
        p.cluster_sheet(images, [0, 1], [1.0, 1.0])


def test_timestep_scores_are_sorted_numbered_and_marked():
    ax = p.plot_timestep_scores([5, 1, 9], [2.0, 1.0, 3.0], best=5, order=[1, 2, 3])
    assert ax.lines[0].get_xdata().tolist() == [1, 5, 9] and ax.lines[0].get_ydata().tolist() == [1, 2, 3]
    assert [t.get_text() for t in ax.texts] == ["2", "1", "3"]
    assert ax.get_legend().get_texts()[0].get_text() == "chosen: t = 5"
    assert not p.plot_timestep_scores(torch.tensor([1, 2]), [1.0, 2.0]).texts


def test_score_map_marks_the_winner():
    ax = p.plot_score_map(np.arange(40).reshape(2, 20), ["down", "mid"], range(0, 200, 10), best=("mid", 30), label="S")
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[3, 1]]]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["down", "mid"] and len(ax.get_xticks()) <= 16


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_embedding(method):
    ax = p.plot_embedding(Z, LABELS, method=method)
    assert [t.get_text() for t in ax.texts] == ["0", "1", "2", "3"] and len(ax.collections) == 4
    again = p.plot_embedding(Z, LABELS, method=method)
    assert np.allclose(ax.collections[0].get_offsets(), again.collections[0].get_offsets())


def test_embedding_in_the_plane_is_drawn_as_it_is():
    ax = p.plot_embedding(torch.tensor(Z[:, :2], requires_grad=True), images=rng.uniform(-1, 1, (40, 3, 4, 4)))
    assert np.allclose(ax.collections[0].get_offsets(), Z[:, :2]) and not ax.texts and 1 < len(ax.artists) < 40


def test_many_categories_differ():
    assert len({tuple(p._look(k).values()) for k in range(100)}) == 100
    assert len(p.plot_embedding(Z[:, :2], np.arange(40)).collections) == 40


def test_history():
    fig = p.plot_history(
        {"step": [0, 1, 2], "loss": [3, 2, 1], "kl": [1, None, float("nan")], "a": [1, 1, 1], "b": [1, 2, 3]}
    )
    assert isinstance(fig, Figure) and [ax.get_title() for ax in fig.axes] == ["loss", "kl", "a", "b"]
    assert fig.axes[1].lines[0].get_xdata().tolist() == [0]
    for history, message in (
        ({"loss": [1]}, "history must hold 'step'"),
        ({"step": [1]}, "beside 'step'"),
        ({"step": [1, 2], "loss": [1]}, r"history\['loss'\] must be as long"),
    ):
        with pytest.raises(ValueError, match=message):
            p.plot_history(history)


def test_cluster_sheet_ranks_by_confidence():
    labels, q = np.array([0, 0, 0, 1]), np.array([0.2, 0.9, 0.5, 0.7])
    texts = lambda fig: [t.get_text() for t in fig.axes[0].texts]
    fig = p.cluster_sheet(GREY[:4], labels, q, n_per_cluster=2)
    assert isinstance(fig, Figure) and texts(fig) == ["0.90", "0.50", "0.70", "0  (n = 3)", "1  (n = 1)"]
    assert texts(p.cluster_sheet(GREY[:4], labels, q, 2, least=True))[:2] == ["0.20", "0.50"]


def test_confusion_columns_follow_the_classes():
    ax = p.plot_confusion(
        [0, 0, 1, 2], [0, 0, 2, 3], classes=["cat", "dog", "owl"]
    )  # no cluster is a dog, one is left over
    assert np.allclose(ax.images[0].get_array(), [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["cat", "dog", "owl", "3"]
    assert [t.get_text() for t in p.plot_confusion(["a", "b"], [4, 7]).get_xticklabels()] == ["4", "7"]


def test_calibration_takes_what_metrics_gives():
    from diec.evaluation.metrics import calibration

    ax = p.plot_calibration(**vars(calibration([0, 1, 1], [0, 1, 0], [0.9, 0.8, 0.3])))
    assert len(ax.collections[0].get_offsets()) == 3 and ax.texts[0].get_text().startswith("ECE")


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: p.show_images(GREY, titles=["a"]), "titles must be as long as images"),
        (lambda: p.show_images(GREY, n_cols=0), "n_cols must be"),
        (lambda: p.plot_timestep_scores([1, 2], [1.0]), "scores must be as long as timesteps"),
        (lambda: p.plot_timestep_scores([1, 2], [1.0, 2.0], best=3), "best must be one of timesteps"),
        (lambda: p.plot_timestep_scores([1, 2], [1.0, 2.0], order=[1]), "order must be as long"),
        (lambda: p.plot_score_map([[1, 2]], ["a", "b"], [1, 2]), "scores must be"),
        (lambda: p.plot_score_map([[1, 2]], ["a"], [1, 2], best=("b", 1)), "best must be"),
        (lambda: p.plot_embedding(Z, LABELS[:3]), "labels must be as long as z"),
        (lambda: p.plot_embedding(Z, images=GREY), "images must be as long as z"),
        (lambda: p.plot_embedding(Z, method="umap"), "method must be 'pca' or 'tsne', got 'umap'"),
        (lambda: p.plot_embedding(Z[:, :1]), "z must be"),
        (lambda: p.plot_embedding(Z * np.nan), "z must be finite"),
        (lambda: p.cluster_sheet(GREY, LABELS, Q), "labels must be as long as images"),
        (lambda: p.cluster_sheet(GREY, LABELS[:13], Q[:2]), "confidence must be as long as images"),
        (lambda: p.cluster_sheet(GREY, LABELS[:13], Q, 0), "n_per_cluster must be"),
        (lambda: p.plot_confusion([0, 1], [0]), "labels_pred must be as long as labels_true"),
        (lambda: p.plot_confusion([0, 1], [0, 1], classes=["a"]), "classes must be as long"),
        (lambda: p.plot_calibration([0.1], [0.1, 0.2]), "accuracy must be as long as confidence"),
        (lambda: p.plot_loss_by_timestep([1, 2], [1.0, 2.0], [1.0]), "after must be as long as timesteps"),
    ],
)
def test_checks_come_before_drawing(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not plt.get_fignums()  # no half-made figure is left


def test_save_figure_writes_the_same_bytes(tmp_path):
    draw = lambda: p.plot_embedding(Z, LABELS)
    read = lambda paths: [f.read_bytes() for f in paths]
    first, fig = p.save_figure(draw(), tmp_path / "new" / "t0.5"), draw().figure
    assert [f.name for f in first] == ["t0.5.svg", "t0.5.png"] and sorted(first) == sorted((tmp_path / "new").iterdir())
    assert read(p.save_figure(fig, tmp_path / "b")) == read(first)
    assert read(p.save_figure(fig, tmp_path / "b")) == read(first)  # over the old files, same figure again
    assert b"<dc:date>" not in first[0].read_bytes() and first[1].read_bytes()[:4] == b"\x89PNG"


def test_save_figure_leaves_nothing_half_written(tmp_path):
    fig = plt.figure()
    with pytest.raises(ValueError, match="path must come without"):
        p.save_figure(fig, tmp_path / "a.svg")
    p.save_figure(fig, tmp_path / "a")
    old = (tmp_path / "a.svg").read_bytes()
    fig.savefig = lambda path, **_: (Path(path).write_text("half"), 1 / 0)
    with pytest.raises(ZeroDivisionError):
        p.save_figure(fig, tmp_path / "a")
    assert (tmp_path / "a.svg").read_bytes() == old and len(list(tmp_path.iterdir())) == 2
