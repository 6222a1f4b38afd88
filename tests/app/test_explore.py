"The map of images for notebooks: what it holds, and its page in Chromium."

import base64
import io
import json
import re
import time
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from chromium import BROWSER, is_error
from PIL import Image
from scipy.linalg import orthogonal_procrustes

import diec
from diec import DiEC
from diec.app.explore import FINEST
from diec.evaluation.plots import COLORS

needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium")
N = 120
NAMES = ["</script><b onclick=alert(1)>.png", *(f"{i:03d}.png" for i in range(1, N))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Twelve gray pictures and a broken one"
    place = tmp_path_factory.mktemp("pictures")
    for i, image in enumerate(diec.load_dataset("digits").images[:12]):
        Image.fromarray(np.uint8((image[0] + 1) * 127.5)).save(place / f"{i:02}.png")
    (place / "broken.png").write_bytes(b"\x89PNG")
    return place


def test_a_folder_is_shown_with_the_names_of_its_files(folder):
    with pytest.warns(UserWarning, match="1 of 13 files left out"):
        found = diec.explore(folder, "digits", timesteps=(100, 200))
    assert len(found.rows) == 12 and "03.png" in found.page and "broken.png" not in found.page
    few = diec.explore([folder / "01.png", *sorted(folder.glob("0[3-9].png"))], timesteps=[100], names="abcdefgh")
    assert len(few.rows) == 8 and "03.png" not in few.page


def test_an_estimator_sees_files_as_its_unet_takes_them(folder):
    files = sorted(folder.glob("[0-9]*.png"))
    fitted = DiEC(2, "digits", "mid_block", 100, n_draws=1, random_state=0).fit(files)
    found = diec.explore(files, fitted, timesteps=[100])
    assert len(found.rows) == 12 and "11.png" in found.page


@pytest.fixture(scope="module")
def images():
    return diec.load_dataset("digits").images[:N]


@pytest.fixture(scope="module")
def model(images):
    return DiEC(5, "digits", "mid_block", 100, random_state=0).fit(images)


@pytest.fixture(scope="module")
def found(images, model):
    return diec.explore(images, model, timesteps=(20, 400), names=NAMES)


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page)[1])


def number_of_clusters(labels):
    return [len(np.unique(level)) for level in labels]


# --- what it holds


def test_the_states_of_an_estimator(found, model):
    assert found.states == ("t = 20", "t = 100", "t = 100, refined", "t = 400")
    assert found.rows.tolist() == [*range(N)] and found.positions.shape == (4, N, 2)
    assert np.isfinite(found.positions).all() and 0 <= found.positions.min() < found.positions.max() <= 1000
    data = data_of(found.page)
    assert data["own"] == model.labels_.tolist() and data["start"] == 2 and data["level"] == 5
    assert repr(found) == f"Exploration of {N} images at {', '.join(found.states)}"


def test_no_turn_brings_the_positions_closer(found):
    for before, after in zip(found.positions, found.positions[1:]):
        a, b = before - before.mean(0), after - after.mean(0)
        turn, _ = orthogonal_procrustes(b, a)
        np.testing.assert_allclose(turn, np.eye(2), atol=1e-6)


def test_points_move_less_than_by_chance(found):
    rng = np.random.default_rng(0)
    for before, after in zip(found.positions, found.positions[1:]):
        moved = np.linalg.norm(after - before, axis=1).mean()
        assert moved < 0.4 * np.linalg.norm(rng.permutation(after) - before, axis=1).mean()


def test_each_level_has_one_cluster_more(found):
    for labels in found.labels:
        assert number_of_clusters(labels) == [*range(2, FINEST + 1)]
        for coarse, fine in zip(labels, labels[1:]):
            assert len(np.unique(np.stack([coarse, fine]), axis=1).T) == len(np.unique(fine))  # a split
            assert len(np.setdiff1d(fine, coarse)) == 1 and not len(np.setdiff1d(coarse, fine))  # all but one stay
            assert (coarse != fine).sum() <= (coarse == coarse[coarse != fine][0]).sum() / 2  # the larger part stays


def test_numbers_are_those_of_the_best_match(images):
    "Colors tell the same at each timestep: the clusters at the level of the model, and the model's"
    model = DiEC(10, "digits", "mid_block", 100, random_state=0).fit(images)
    found, level = diec.explore(images, model, timesteps=(20, 400)), 10 - 2
    refined = found.labels[2, level]
    assert set(refined) == set(model.labels_) and (refined == model.labels_).mean() > 0.5
    for before, after in [(model.labels_, refined), *zip(found.labels[:, level], found.labels[1:, level])]:
        same = (before == after).sum()
        for a in range(10):  # no exchange of two numbers agrees better
            for b in range(a):
                other = np.where(after == a, b, np.where(after == b, a, after))
                assert (before == other).sum() <= same


def test_the_page_holds_each_level(found):
    data = data_of(found.page)
    for state, labels in zip(data["states"], found.labels):
        for level, want in zip(data["levels"], labels):
            assert [state["up"][level - 2][k] for k in state["finest"]] == want.tolist()
    assert data["levels"] == [*range(2, FINEST + 1)]


def test_neighbors_are_the_nearest_in_the_embedding(found, model, images):
    z = model.transform(images)
    near = data_of(found.page)["states"][2]["near"]
    distance = np.linalg.norm(z[:, None] - z, axis=2)
    np.fill_diagonal(distance, np.inf)
    own = np.take_along_axis(distance, np.array(near), 1)
    np.testing.assert_allclose(own, np.sort(distance)[:, :5], atol=1e-5)


def test_the_head_refines_the_raw_embeddings(model, images):
    raw = model.raw_embeddings(images, (100, 400))
    assert raw.keys() == {100, 400} and not np.allclose(raw[100], raw[400])
    z, _ = model.model_.assign_all(model.model_.embed_all(raw[100]))
    np.testing.assert_allclose(z, model.transform(images), atol=1e-6)


@pytest.mark.parametrize("unet", [None, "digits", "pair"])
def test_without_an_estimator(images, unet):
    unet = diec.load_unet("digits") if unet == "pair" else unet
    if isinstance(unet, tuple):
        unet[0].train()
    found = diec.explore(images[:40], unet, timesteps=[150, 30])
    assert found.states == ("t = 30", "t = 150") and found.labels.shape[2] == 40
    data = data_of(found.page)
    assert data["own"] is None and data["start"] == 1 and data["name"][7] == "image 7"
    assert unet is None or isinstance(unet, str) or unet[0].training  # the caller's stays as it is


def test_a_few_images_of_color_that_are_not_square():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 20, 28), np.uint8)
    found = diec.explore(images, timesteps=(100,))
    assert number_of_clusters(found.labels[0]) == [2, 3, 4, 5] and np.isfinite(found.positions).all()
    assert "principal components" in found.page


def test_a_sample_is_named_as_one(images):
    found = diec.explore(images, "digits", timesteps=(100,), n_images=30, random_state=1)
    assert len(found.rows) == 30 and found.positions.shape == (1, 30, 2)
    assert (np.diff(found.rows) > 0).all() and found.rows.tolist() != [*range(30)]
    assert f"30 images of {N}, drawn at random" in found.page and f"image {found.rows[3]}" in found.page
    again = diec.explore(images, "digits", timesteps=(100,), n_images=30, random_state=1)
    assert again.page == found.page and again.poster == found.poster


def test_given_embeddings(images):
    z = images.reshape(N, -1)
    found = diec.explore(images, embeddings=z)
    assert found.states == ("the embeddings",)
    model = DiEC(4, embed="precomputed", random_state=0).fit(z)
    found = diec.explore(images, model, embeddings=z, n_images=50)
    assert found.states == ("t = 0", "t = 0, refined")
    assert data_of(found.page)["own"] == model.predict(z[found.rows]).tolist()


@pytest.mark.parametrize("scale", ["uint8", "unit"])
def test_the_range_of_the_values_does_not_matter(images, scale):
    some = images[:30]
    other = np.round((some + 1) * 127.5).astype(np.uint8) if scale == "uint8" else (some + 1) / 2
    a, b = (diec.explore(x, "digits", timesteps=(100,)) for x in (np.round((some + 1) * 127.5) / 127.5 - 1, other))
    np.testing.assert_allclose(a.positions, b.positions, atol=5)


@pytest.mark.parametrize(
    "error, options, said",
    [
        (TypeError, {"model": 3}, "model must be None, a fitted DiEC, the name or folder of a U-Net, or a pair"),
        (ValueError, {"model": DiEC()}, "not fitted"),
        (ValueError, {"timesteps": (1000,)}, "timestep must be an integer in 0..999"),
        (ValueError, {"timesteps": ()}, "timesteps must hold 1 to 16 of them, got 0"),
        (ValueError, {"timesteps": range(17)}, "timesteps must hold 1 to 16 of them, got 17"),
        (TypeError, {"timesteps": 20}, "timesteps must be None or hold integers, such as"),
        (ValueError, {"names": ["a"]}, f"names must hold a name for each of the {N} images, got 1"),
        (ValueError, {"n_images": 3}, "n_images must be an integer in 4..5000, got 3"),
        (ValueError, {"n_images": 5001}, "n_images must be an integer in 4..5000, got 5001"),
        (ValueError, {"embeddings": np.zeros((3, 2))}, f"a row for each of the {N} images, got 3"),
        (ValueError, {"embeddings": np.eye(N), "model": "digits"}, "model must be None or a fitted DiEC"),
        (ValueError, {"embeddings": np.eye(N), "timesteps": (1,)}, "timesteps must be None with embeddings"),
        (ValueError, {"embeddings": np.ones((N, 3))}, "images must hold 4 different ones or more, got 1"),
    ],
)
def test_errors_say_what_is_allowed(images, error, options, said):
    with pytest.raises(error, match=re.escape(said)):
        diec.explore(images, **options)


@pytest.mark.parametrize(
    "wrong, said", [(np.zeros((3, 1, 8, 8)), "4 images or more, got 3"), (np.zeros(3), "shape"), (None, "images")]
)
def test_images_that_are_none(wrong, said):
    with pytest.raises((TypeError, ValueError), match=said):
        diec.explore(wrong)


def test_the_output_of_a_notebook(found):
    html = found._repr_html_()
    frame = re.search(r"<iframe [^>]*sandbox=\"allow-scripts\"[^>]*srcdoc='([^']*)'", html)
    assert unescape(frame[1]) == found.page
    poster = re.search(r'<img [^>]*src="data:image/webp;base64,([^"]*)"', html)[1]
    assert Image.open(io.BytesIO(base64.b64decode(poster))).size == (640, 400)
    assert len(html) < 700_000
    assert "<b onclick" not in found.page and not re.search("https?://", found.page)


# --- its page in a browser


class Page:
    "The page of a map in a browser"

    def __init__(self, browser, path, width=1280, dark=False):
        self.browser, self.call, self.run = browser, browser.call, browser.run
        self.errors = browser.open(path.as_uri(), width, 640, dark)
        self.wait("map && map.thumbs.data.url.length > 0")

    def wait(self, condition, seconds=20):
        end = time.time() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.time() < end, condition
            time.sleep(0.05)

    def press(self, element, key, code):
        "A key on an element that has the focus"
        self.run(f"$('{element}').focus()")
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def click(self, x, y):
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def place(self, i):
        "Where an image is in the window"
        return self.run(f"""(() => {{
            const box = Bokeh.index.get_one(map.plot).frame.bbox, r = $("map").getBoundingClientRect()
            const {{x_range: x, y_range: y}} = map.plot
            return [r.x + 1 + box.left + box.width*(xs[{i}] - x.start)/(x.end - x.start),
                    r.y + 1 + box.top + box.height*(1 - (ys[{i}] - y.start)/(y.end - y.start))]
        }})()""")

    def assert_no_errors(self):
        assert self.errors == [e for e in self.browser.events if is_error(e["method"], e["params"])] == []


@pytest.fixture(scope="module")
def path(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("explore") / "map.html"
    found.save(path)
    return path


@pytest.fixture
def page(path, browser):
    page = Page(browser, path)
    yield page
    page.assert_no_errors()


@needs_browser
def test_nothing_is_fetched_from_a_network(page):
    asked = [e["params"]["request"]["url"] for e in page.browser.events if e["method"] == "Network.requestWillBeSent"]
    assert asked and {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}


@needs_browser
def test_the_timestep_moves_the_points(page, found):
    assert page.run("$('time-value').textContent") == "t = 100, refined"
    before = np.array(page.run("[xs, ys]")).T
    np.testing.assert_allclose(before, found.positions[2], atol=0.5)
    page.press("time", "ArrowRight", 39)
    page.wait("xs.every((v, i) => v === data.states[3].x[i]) && map.thumbs.data.url.length > 0")
    after = np.array(page.run("[Array.from(map.points.data.x), Array.from(map.points.data.y)]")).T
    np.testing.assert_allclose(after, found.positions[3], atol=0.5)
    assert page.run("$('time-value').textContent") == "t = 400" and np.abs(after - before).max() > 50
    page.run("$('time').value = 0; $('time').dispatchEvent(new Event('input'))")
    for _ in range(50):  # the points are under way for half a second
        if page.run("xs.some((v, i) => v !== data.states[3].x[i] && v !== data.states[0].x[i])"):
            break
    else:
        raise AssertionError("the points jump")
    page.wait("xs.every((v, i) => v === data.states[0].x[i])")


@needs_browser
def test_the_level_changes_the_colors(page, found, model):
    assert page.run("$('own').checked && $('level').disabled")
    colors = page.run("Array.from(map.points.data.color)")
    assert colors == [COLORS[k] for k in model.labels_]
    page.run("$('own').click()")
    for level in (5, 6, 7):
        page.wait(f"$('level-value').textContent === '{level}'")
        colors = page.run("Array.from(map.points.data.color)")
        assert colors == [COLORS[k % 10] for k in found.labels[2, level - 2]]
        assert page.run("document.querySelectorAll('#clusters button').length") == level
        page.press("level", "ArrowRight", 39)
    page.run("$('level').value = 20; $('level').dispatchEvent(new Event('input'))")
    looks = page.run("map.points.data.color.map((c, i) => c + map.points.data.marker[i])")
    assert len(set(looks)) == 20  # beyond ten, the marker tells colors apart


@needs_browser
def test_a_click_shows_an_image_and_its_neighbors(page):
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
    i = page.run("map.frames.data.row[0]")
    x, y = page.place(i)
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 9, y=y + 9)
    page.wait(f"!$('tip').hidden && $('tip').textContent.includes(data.name[{i}])")
    page.click(x + 9, y + 9)  # on the image, beside its point
    page.wait(f"view.image === {i}")
    assert page.run(f"$('detail').textContent.includes(data.name[{i}])")
    near = page.run("[...document.querySelectorAll('#detail .near button')].map(b => b.title)")
    assert near == page.run(f"data.states[2].near[{i}].map(n => data.name[n])") and len(near) == 5
    assert page.run("map.links.data.x1.length") == 5
    marked = page.run("[...document.querySelectorAll('#clusters .here')].map(b => Number(b.dataset.cluster))")
    assert marked == [page.run(f"data.own[{i}]")]
    page.run("document.querySelector('#detail .near button').click()")
    page.wait(f"view.image === data.states[2].near[{i}][0]")


@needs_browser
def test_a_click_on_a_point(page):
    framed = np.array([page.place(i) for i in page.run("map.frames.data.row")])
    at = next(p for p in map(page.place, range(N)) if np.abs(framed - p).max(1).min() > 25)  # beside all images
    page.click(*at)
    page.wait("view.image !== null && $('detail').textContent.includes(data.name[view.image])")
    j = page.run("view.image")  # it or one that lies on it
    assert np.hypot(*(np.array(at) - page.place(j))) < 10


@needs_browser
def test_a_cluster_highlights_its_points(page, model):
    page.run("document.querySelector('#clusters [data-cluster=\"1\"]').click()")
    alpha = np.array(page.run("Array.from(map.points.data.alpha)"))
    assert (alpha[model.labels_ == 1] > 0.8).all() and (alpha[model.labels_ != 1] < 0.2).all()
    page.wait("map.frames.data.row.length > 0 && map.frames.data.row.every(i => data.own[i] === 1)")
    page.run("document.querySelector('#clusters [data-cluster=\"1\"]').click()")
    assert page.run("map.points.data.alpha.every(a => a > 0.8)")


@needs_browser
def test_names_are_text(page):
    page.run("choose(0)")
    assert page.run("$('detail').textContent.includes('<b onclick=alert(1)>')")
    assert page.run("document.querySelectorAll('b').length") == 0


@needs_browser
@pytest.mark.parametrize("width, dark", [(390, True), (390, False), (700, False), (1280, True)])
def test_at_any_width_and_in_the_dark(path, browser, width, dark):
    page = Page(browser, path, width, dark)
    page.run("choose(3)")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("document.documentElement.scrollHeight") <= 640  # it scrolls inside
    assert page.run("$('map').getBoundingClientRect().height") > 200
    light = page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light != dark
    page.assert_no_errors()


@needs_browser
def test_in_a_notebook(found, browser, tmp_path):
    "The iframe, apart from the notebook, draws the clusters over the picture"
    blank = io.BytesIO()
    Image.new("RGB", (4, 4)).save(blank, "WEBP")
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html>{replace(found, poster=blank.getvalue())._repr_html_()}", encoding="utf-8")
    assert browser.open(notebook.as_uri(), 1000) == []
    wanted = [tuple(bytes.fromhex(c[1:])) for c in COLORS[:5]]
    end = time.time() + 20
    while True:
        shot = browser.call("Page.captureScreenshot", format="png")["data"]
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")).reshape(-1, 3)
        if all((pixels == color).all(1).sum() > 20 for color in wanted):
            break
        assert time.time() < end
        time.sleep(0.2)
    assert (pixels == 255).all(1).mean() > 0.5  # the picture, which is black here, is covered
