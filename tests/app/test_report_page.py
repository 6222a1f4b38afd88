"The page of a clustering, driven in Chromium: what it shows, how it is corrected, and the table that comes back."

import csv
import json
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from chromium import BROWSER, is_error
from PIL import Image

from diec.app.cli import main, write_labels
from diec.app.html_report import write_report
from diec.app.image_map import MOST_BYTES, sheet, thumbnail_form
from diec.core.names import file_of

needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium")
HOSTILE = [
    "<img src=x onerror=alert(1)>.png",
    "sub/</script><b>.png",
    "=1+1.png",
    "a;b,c.png",
    'new\nline".png',
    os.fsdecode(b"caf\xe9.png"),
    "javascript:alert(1).png",
    "50%23#?.png",
    "./-x.png"[2:],
]


class Pack(SimpleNamespace):
    def __len__(self):
        return len(self.files)


def write_page(path, images, files, labels, seed=0, **options):
    "The page of a made-up clustering"
    rng, n = np.random.default_rng(seed), len(files)
    z = rng.normal(size=(n, 3)) + 9 * labels[:, None]
    confidence, distance = rng.permutation(n) / n, rng.permutation(n) + 0.0
    history = {"stage": ["head"] * 2, "epoch": [1, 2], "total": [1.0, 0.5]}
    diec = SimpleNamespace(
        labels_=labels, search_result_=None, layer_="mid", timestep_=5, history_=history, n_clusters_=labels.max() + 1
    )
    pack = Pack(images=images, files=files, skipped=[("<b>broken</b>.png", "<i>why</i>")])
    write_report(path, diec, pack, z, confidence, distance, [{"what": "U-Net", "value": "<u>mine</u>"}], **options)
    return confidence, distance


def pictures(n, side, seed=0):
    "Colored blobs, about as detailed as photographs: (n, 3, side, side), uint8"
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (n, 8, 8, 3), np.uint8)
    large = [Image.fromarray(a).resize((side, side), Image.Resampling.BICUBIC) for a in small]
    noise = rng.integers(-8, 9, (1, side, side, 3))
    return np.clip(np.stack([np.asarray(a) for a in large]) + noise, 0, 255).astype(np.uint8).transpose(0, 3, 1, 2)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A folder of 60 images in three clusters, some with hostile names, its labels.csv and its page"
    root = tmp_path_factory.mktemp("page")
    files = HOSTILE + [f"{i:02d}.png" for i in range(60 - len(HOSTILE))]
    images, labels = pictures(60, 32), np.arange(60) % 3
    images[20] = images[10]
    for name, a in zip(files, images):
        (root / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(a.transpose(1, 2, 0)).save(root / "photos" / name, "PNG")
    (root / "out").mkdir()
    confidence, distance = write_page(root / "out" / "report.html", images, files, labels, folder=root / "photos")
    order = sorted(range(60), key=files.__getitem__)
    sorted_files = [files[i] for i in order]
    write_labels(root / "out" / "labels.csv", sorted_files, labels[order], confidence[order], distance[order])
    return SimpleNamespace(root=root, page=root / "out" / "report.html", photos=root / "photos", files=sorted_files)


class Page:
    "The page in a browser, as a user finds it: without earlier changes"

    def __init__(self, browser, path, downloads, width=1280, dark=False):
        self.browser, self.downloads = browser, downloads
        self.call, self.run = browser.call, browser.run
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        browser.open(path.as_uri(), width, dark=dark)
        self.run("localStorage.clear()")
        self.errors = browser.open(path.as_uri(), width, dark=dark)
        self.wait("map && map.thumbs.data.url.length > 0")
        self.run("document.querySelector('#clusters').scrollIntoView()")  # tiles are drawn when they come into view
        self.wait("document.querySelector('.tile')")
        self.run("window.scrollTo(0, 0)")

    def wait(self, condition, seconds=20):
        end = time.time() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.time() < end, condition
            time.sleep(0.05)

    def point(self, selector):
        "The middle of an element in the window"
        script = f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect(); return [r.x + r.width/2, r.y + r.height/2] }})(document.querySelector({json.dumps(selector)}))"
        return self.run(script)

    def click(self, at):
        x, y = self.point(at) if isinstance(at, str) else at
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key, **more):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, **more)

    def rename(self, k, name):
        self.click(f"#name-{k}")
        self.run(f"document.getElementById('name-{k}').select()")
        self.call("Input.insertText", text=name)
        self.press("Tab", code="Tab", windowsVirtualKeyCode=9)

    def said(self):
        return self.run("$('said').textContent")

    def export(self, button="export", name="labels.csv"):
        "The file that a click on a button downloads"
        (self.downloads / name).unlink(missing_ok=True)
        self.click(f"#{button}")
        end = time.time() + 20
        while not (self.downloads / name).exists() or list(self.downloads.glob("*.crdownload")):
            assert time.time() < end
            time.sleep(0.05)
        return self.downloads / name

    def assert_no_errors(self):
        assert self.errors == []
        assert [e for e in self.browser.events if is_error(e["method"], e["params"])] == []


@pytest.fixture
def page(place, browser, tmp_path):
    page = Page(browser, place.page, tmp_path)
    yield page
    page.assert_no_errors()


def rows(path):
    with open(path, newline="", encoding="utf-8") as f:
        return {file_of(r["file"]): r for r in csv.DictReader(f)}


# --- what is shown


@needs_browser
def test_nothing_is_fetched_from_a_network(page):
    asked = [e["params"]["request"]["url"] for e in page.browser.events if e["method"] == "Network.requestWillBeSent"]
    assert asked and {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}


def test_names_are_text(place):
    "In the page's own markup; the browser's view of them is tested below"
    text = place.page.read_text()
    scripts = re.findall(r"<script type=.*?>(.*?)</script>", text, re.S)
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    assert len(scripts) == 3 and not any("<" in script for script in scripts)
    assert not re.search("<(b|i|u|script)>|<img src=x", markup)
    assert "&lt;b&gt;broken&lt;/b&gt;.png" in markup and "&lt;u&gt;mine&lt;/u&gt;" in markup
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', text)[1]
    assert "default-src &#39;none&#39;" in policy or "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0] and "http" not in policy


@needs_browser
def test_every_image_is_listed_with_its_name_and_a_link_that_opens(place, page):
    page.run("for (const v of views.values()) v.fill()")
    links = page.run("[...document.querySelectorAll('#clusters .tile a')].map(a => [a.href, a.parentElement.title])")
    assert len(links) == 60 and all(url.startswith("file:///") for url, _ in links)
    paths = {Path(os.fsdecode(unquote_to_bytes(url.removeprefix("file://")))) for url, _ in links}
    assert paths == {place.photos / name for name in place.files}
    assert "<img src=x onerror=alert(1)>.png" in {title for _, title in links}
    assert page.run("document.querySelectorAll('#clusters img, #clusters b').length") == 0


@needs_browser
def test_the_map_answers_the_pointer(place, page):
    at = page.run("""(async () => {
        $("map").scrollIntoView({block: "center"})
        await new Promise(done => setTimeout(done, 400))
        const i = map.frames.data.row[0], box = Bokeh.index.get_one(map.plot).frame.bbox, r = $("map").getBoundingClientRect()
        const {x_range: x, y_range: y} = map.plot
        return [i, r.x + 1 + box.left + box.width*(data.x[i] - x.start)/(x.end - x.start),
                r.y + 1 + box.top + box.height*(1 - (data.y[i] - y.start)/(y.end - y.start))]
    })()""")
    row, x, y = at
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 9, y=y + 9)  # on the image, beside its point
    page.wait("!$('tip').hidden")
    assert page.run(f"$('tip').textContent.includes(data.name[{row}])")
    page.click((x + 9, y + 9))
    page.wait("selected.size === 1")
    assert page.run("[...selected][0]") == row and page.run("$('detail').textContent.includes(data.name[last])")
    time.sleep(0.5)  # two clicks at once are a double click
    page.click((x + 9, y + 9))
    page.wait("selected.size === 0")
    span = page.run("map.plot.x_range.end - map.plot.x_range.start")
    page.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-300)
    page.wait(f"map.plot.x_range.end - map.plot.x_range.start < {span}")


@needs_browser
@pytest.mark.parametrize(
    "order, key",
    [
        ("most typical first", "data.distance[i]"),
        ("least certain first", "data.confidence[i]"),
        ("most outlying first", "-data.distance[i]"),
    ],
)
def test_the_order_of_the_images_of_a_cluster(page, order, key):
    page.run(
        f"""(e => {{ e.value = "{order}"; e.dispatchEvent(new Event("change")) }})($("cluster-1").querySelector("select"))"""
    )
    found = page.run(
        f"[...document.querySelectorAll('#cluster-1 .tile')].map(t => Number(t.dataset.row)).map(i => {key})"
    )
    assert len(found) == 20 and found == sorted(found)


@needs_browser
def test_findings_and_tree(page):
    text = page.run("$('findings').textContent")
    assert all(kind in text for kind in ("Duplicates", "Near-duplicates", "Outliers", "Blurred", "Dark", "Bright"))
    page.click("#findings details summary")
    page.wait("document.querySelectorAll('#findings .set .tile').length === 2")
    assert page.run("document.querySelectorAll('#tree .leaf').length") == 3
    page.click("#tree summary")
    page.wait("!document.querySelector('#tree details').open")


@needs_browser
@pytest.mark.parametrize("width, dark", [(390, True), (390, False), (1280, True)])
def test_on_a_phone_and_in_the_dark(place, browser, tmp_path, width, dark):
    page = Page(browser, place.page, tmp_path, width, dark)
    assert page.run("document.documentElement.scrollWidth") <= width
    light = page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light != dark
    page.assert_no_errors()


# --- what is corrected


@needs_browser
def test_an_unchanged_table_is_the_table_of_the_command(place, page):
    assert page.export().read_bytes() == (place.root / "out" / "labels.csv").read_bytes()


@needs_browser
def test_rename_merge_move_export_and_apply(place, page, tmp_path):
    page.rename(0, "cats & dogs, 🐈")
    page.wait("$('said').textContent.includes('now called cats & dogs, 🐈')")

    page.click("#cluster-2 .merge")
    page.wait("$('choice').open")
    page.click("#choices button[data-cluster='1']")
    page.wait("!document.getElementById('cluster-2')")

    moved = page.run("[...document.querySelectorAll('#cluster-0 .tile')].slice(0, 2).map(t => Number(t.dataset.row))")
    for i in moved:
        page.click(f"#cluster-0 .tile[data-row='{i}'] button")
    assert page.run("$('move').textContent") == "Move 2…"
    page.click("#move")
    page.wait("$('choice').open")
    page.click("#choices button[data-cluster='3']")  # a new one
    page.wait("document.getElementById('cluster-3')")

    found, before = rows(page.export()), rows(place.root / "out" / "labels.csv")
    chosen = {place.files[i] for i in moved}
    assert found.keys() == before.keys() == set(place.files)
    for name, row in found.items():
        was = before[name]["cluster"]
        assert row["cluster"] == ("3" if name in chosen else "1" if was == "2" else was)
        assert row["name"] == ("cats & dogs, 🐈" if row["cluster"] == "0" else "")
        own = row["cluster"] == was  # confidence and distance are of the cluster that was found
        wanted = (before[name]["confidence"], before[name]["distance"]) if own else ("", "")
        assert (row["confidence"], row["distance"]) == wanted

    with open(page.export("fiftyone", "fiftyone.csv"), newline="", encoding="utf-8") as f:
        labels = {file_of(r["filepath"]): r["label"] for r in csv.DictReader(f)}
    assert labels == {name: row["name"] or f"cluster-{row['cluster']}" for name, row in found.items()}

    main(["apply", str(tmp_path / "labels.csv"), "--photos", str(place.photos), "--into", str(tmp_path / "sorted")])
    sorted_ = {p.resolve(): p.parent.name for p in (tmp_path / "sorted").glob("*/*")}
    assert sorted_ == {place.photos.resolve() / name: labels[name] for name in place.files}


@needs_browser
def test_undo_start_over_and_what_stays_in_the_browser(place, page):
    page.rename(1, "birds")
    page.wait("nameOf(1) === 'birds'")
    page.errors += page.browser.open(place.page.as_uri(), 1280)
    page.wait("nameOf(1) === 'birds' && document.querySelector('#cluster-1 summary').textContent.includes('birds')")
    page.click("#reset")
    page.wait("nameOf(1) === 'Cluster 1'")
    page.click("#undo")
    page.wait("nameOf(1) === 'birds'")
    page.rename(1, "")
    page.wait("nameOf(1) === 'Cluster 1'")
    page.run("document.body.focus(), document.activeElement.blur()")
    page.press("z", modifiers=2)  # Ctrl
    page.wait("nameOf(1) === 'birds'")


@needs_browser
@pytest.mark.parametrize("name", ["=1+1", "a/b", "..", "<b>", "a\u202eb", "cluster 0", "cluster-0"])
def test_names_that_cannot_be_folders_are_refused(page, name):
    page.rename(1, name)
    page.wait("$('said').textContent")
    assert page.run("nameOf(1)") == "Cluster 1" and ("A name has" in page.said() or "merge the two" in page.said())


@needs_browser
def test_filters(page):
    page.click("#find")
    page.call("Input.insertText", text="<IMG")
    page.wait("$('count').textContent.startsWith('1 of 60')")
    assert page.run("[...document.querySelectorAll('.cluster')].filter(e => !e.hidden).length") == 1
    page.run("$('find').value = ''; $('sure').value = '0.25'; $('sure').dispatchEvent(new Event('input'))")
    page.wait("$('count').textContent.startsWith('16 of 60')")


@needs_browser
def test_the_keyboard_selects(page):
    page.point("#cluster-0 .tile button")
    page.run("document.querySelector('#cluster-0 .tile button').focus()")
    page.press("ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    page.press(" ", code="Space", windowsVirtualKeyCode=32, text=" ")
    page.wait("selected.size === 1")
    assert (
        page.run("document.querySelectorAll('#cluster-0 .tile')[1].firstChild.getAttribute('aria-pressed')") == "true"
    )
    page.press("Escape", code="Escape", windowsVirtualKeyCode=27)
    page.wait("selected.size === 0")


# --- how large it gets


@pytest.mark.parametrize("side", [32, 64])
def test_ten_thousand_images_are_under_30_mb(tmp_path, side):
    "Scripts and data with them; of images that are harder to compress than any, the thumbnails are smaller"
    n = 10_000
    images = np.concatenate([pictures(1000, side)] * 10)
    files = [f"holidays at the sea/IMG_{i:05d}.jpeg" for i in range(n)]
    write_page(tmp_path / "page.html", images, files, np.arange(n) % 20, shown=np.arange(0, n, 50), folder=tmp_path)
    assert (tmp_path / "page.html").stat().st_size < 30e6
    noise = np.random.default_rng(0).integers(0, 256, (600, 3, side, side), np.uint8)
    assert len(sheet(noise, *thumbnail_form(noise, MOST_BYTES * 600 / n))) < MOST_BYTES * 600 / n


# --- diec apply


def apply(*words):
    main(["apply", *map(str, words)])


@pytest.fixture
def table(place, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes((place.root / "out" / "labels.csv").read_bytes())
    return path


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("file,cluster", "name,cluster", "must have the columns file, cluster, confidence, distance"),
        ("00.png,0", "00.png,x", "cluster must be an integer in 0..1,000,000, got 'x'"),
        ("00.png,0", "00.png,-1", "cluster must be an integer in 0..1,000,000, got '-1'"),
        ("00.png,0", "other.png,0", "must name files in --photos"),
        ("00.png,0", "../out/report.html,0", "must name files in --photos"),
        ("00.png,0", "01.png,0", "each file must be in one row, got 01.png again"),
        ("00.png,0", "00.png", "a row must have 4 cells, as the header has, got 3"),
    ],
)
def test_a_table_that_is_not_ours_is_refused(place, table, tmp_path, capsys, old, new, said):
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new))
    with pytest.raises(SystemExit):
        apply(table, "--photos", place.photos, "--into", tmp_path / "sorted")
    assert said in capsys.readouterr().err and not (tmp_path / "sorted").exists()


@pytest.mark.parametrize(
    "names, said",
    [
        ({"0": "a/b"}, "a name has 1 to 60 characters"),
        ({"0": "=1"}, "a name has 1 to 60 characters"),
        ({"0": "x", "1": "X"}, "must have a name of its own, got 'X' for 0 and 1"),
        ({"0": "cluster-2"}, "must have a name of its own"),
    ],
)
def test_names_that_cannot_be_folders_are_refused_by_the_command(place, table, tmp_path, capsys, names, said):
    with open(table, newline="", encoding="utf-8") as f:
        header, *cells = csv.reader(f)
    with open(table, "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([[*header, "name"], *([*c, names.get(c[1], "")] for c in cells)])
    with pytest.raises(SystemExit):
        apply(table, "--photos", place.photos, "--into", tmp_path / "sorted")
    assert said in capsys.readouterr().err and not (tmp_path / "sorted").exists()


def test_where_the_images_are_must_be_known(table, tmp_path, capsys):
    with pytest.raises(SystemExit):
        apply(table, "--into", tmp_path / "sorted")
    assert "--photos must be given" in capsys.readouterr().err
    (tmp_path / ".diec.json").write_text("{}")
    with pytest.raises(SystemExit):
        apply(table, "--into", tmp_path / "sorted")
    assert "--photos must be given" in capsys.readouterr().err


def test_what_is_yours_is_not_replaced(place, table, tmp_path, capsys):
    (tmp_path / "sorted").mkdir()
    (tmp_path / "sorted" / "mine.txt").touch()
    with pytest.raises(SystemExit):
        apply(table, "--photos", place.photos, "--into", tmp_path / "sorted")
    assert "mine.txt" in capsys.readouterr().err and (tmp_path / "sorted" / "mine.txt").exists()
    with pytest.raises(SystemExit):
        apply(table, "--photos", place.photos, "--into", place.photos)
    assert (place.photos / "00.png").exists()


def test_a_result_knows_its_images(tmp_path, capsys):
    "As a user goes: cluster, correct, apply; then another table in place of the first"
    from diec.data.datasets import load_dataset

    (tmp_path / "photos").mkdir()
    for i, digit in enumerate(load_dataset("digits").images[:24]):
        Image.fromarray(np.round((digit[0] + 1) * 127.5).astype(np.uint8)).save(tmp_path / "photos" / f"{i:02d}.png")
    main(
        ["cluster", str(tmp_path / "photos"), "--unet", "digits", "-k", "2", "--out", str(tmp_path / "out"), "--quiet"]
    )
    apply(tmp_path / "out" / "labels.csv", "--into", tmp_path / "sorted")
    assert len(list(tmp_path.glob("sorted/cluster-*/*.png"))) == 24
    assert "sorted: 24 files in 2 clusters" in capsys.readouterr().out
    apply(tmp_path / "out" / "labels.csv", "--into", tmp_path / "sorted")  # once more
    (tmp_path / "two.csv").write_bytes((tmp_path / "out" / "labels.csv").read_bytes())
    with pytest.raises(SystemExit):
        apply(tmp_path / "two.csv", "--photos", tmp_path / "photos", "--into", tmp_path / "sorted")
    assert "--force" in capsys.readouterr().err
    apply(tmp_path / "two.csv", "--photos", tmp_path / "photos", "--into", tmp_path / "sorted", "--force", "--copy")
    assert all(p.is_file() and not p.is_symlink() for p in tmp_path.glob("sorted/cluster-*/*.png"))
    with pytest.raises(SystemExit):
        apply(tmp_path / "out" / "labels.csv", "--into", tmp_path / "out" / "model", "--force")
    assert (tmp_path / "out" / "model" / "config.json").exists()
