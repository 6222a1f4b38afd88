"The site that `make docs` builds: complete, every link leads somewhere, nothing comes from another host, pages fit."

import ast
import functools
import os
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from chromium import BROWSER, Chromium

from tools.docs_markup import mathml

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = [p for p in sorted((ROOT / "nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
METHOD = [f"method/{p.stem}.html" for p in NOTEBOOKS if p.parent.name == "method"]
MODULES = [p for p in sorted((ROOT / "diec").rglob("*.py")) if not p.stem.startswith("_")]
LOADED = {"script", "img", "iframe", "source", "video", "audio", "object", "embed"}


class Page(HTMLParser):
    "Links, resources and ids of a page."

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.resources, self.ids = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if attrs.get("id"):
            self.ids.add(attrs["id"])
        if tag == "a" and attrs.get("name"):
            self.ids.add(attrs["name"])
        url = attrs.get("href") or attrs.get("src") or ""
        if not url or url.startswith(("data:", "mailto:")):
            return
        loaded = attrs.get("rel") not in ("canonical", "next", "prev") if tag == "link" else tag in LOADED
        if loaded:
            self.resources.append(url)
        self.links.append(url)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The built site, made where no other machine can be reached"
    folder = tmp_path_factory.mktemp("docs") / "site"
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tools" / "guard"), str(ROOT)])}
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-f", "docs/mkdocs.yml", "-d"]
    done = subprocess.run([*command, str(folder)], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def parsed(site):
    return {p: Page(p) for p in sorted(site.rglob("*.html"))}


@pytest.mark.parametrize(
    "formula, part",
    [
        (r"t^* = \arg\max_t S(l, t)", "<mo>arg</mo>"),
        (r"\mathbb E\,x", "&#x1D53C;"),
        (r"[-1, 1]", 'form="prefix"'),
        (r"\lVert z\rVert^2", 'stretchy="false"'),
    ],
)
def test_formulas_become_mathml(formula, part):
    made = mathml(formula, "inline")
    assert made.startswith("<math") and part in made and "\\" not in made


def test_a_formula_that_cannot_be_shown_is_a_warning(caplog):
    mathml(r"\nosuchcommand x", "inline")
    assert "nosuchcommand" in caplog.text  # which fails the build (--strict)


@pytest.mark.slow
def test_every_notebook_and_module_has_its_page(site):
    missing = [str(p) for p in NOTEBOOKS if not (site / p.relative_to(ROOT / "nbs").with_suffix(".html")).is_file()]
    assert missing == []
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        public = ast.literal_eval(re.search(r"^__all__ = (\[.*?\])", path.read_text(), re.M | re.S)[1])
        assert [n for n in public if f"{name}.{n}" not in Page(site / "reference" / f"{name}.html").ids] == [], name


@pytest.mark.slow
def test_links_and_images_lead_to_files(site, parsed):
    broken = []
    for path, page in parsed.items():
        for url in page.links:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            local = unquote(parts.path)
            if local.startswith("/"):
                target = site / local.split("/", 2)[2]  # of 404.html, which any address may show
            else:
                target = Path(os.path.normpath(path.parent / local)) if local else path
            if target.is_dir():
                target = target / "index.html"
            if not target.is_file():
                broken.append((str(path.relative_to(site)), url))
            elif parts.fragment and target in parsed and unquote(parts.fragment) not in parsed[target].ids:
                broken.append((str(path.relative_to(site)), url))
    assert broken == []


@pytest.mark.slow
def test_results_begin_with_their_table(site):
    assert "best of the others" in (site / "results" / "index.html").read_text().partition("<table")[2]


@pytest.mark.slow
def test_nothing_comes_from_another_host(site, parsed):
    assert [(path.name, url) for path, page in parsed.items() for url in page.resources if urlsplit(url).netloc] == []
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", path.read_text(encoding="utf-8")), path


@pytest.mark.slow
def test_readers_see_outputs_and_no_directives(site, parsed):
    texts = {path: path.read_text(encoding="utf-8") for path in parsed}
    assert [str(path) for path, text in texts.items() if re.search(r'<span class="c1">#\s?\|', text)] == []
    assert "data:image/png" in texts[site / "index.html"] and "<table>" in texts[site / "index.html"]
    assert sum("<math" in texts[site / page] for page in METHOD) > 3


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(site):
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    with Chromium() as browser:
        yield browser


SAMPLE = [
    "index.html",
    "tutorial.html",
    METHOD[0],
    METHOD[len(METHOD) // 2],
    "results/index.html",
    "results/report.html",
    "reference/diec.estimator.html",
]
# What reaches beyond the window, unless it or something around it fits and scrolls
CUT = """[...document.querySelectorAll('table, pre, img, math')].map(e => {
    let right = e.getBoundingClientRect().right
    for (let f = e; f; f = f.parentElement)
        if (['auto', 'scroll'].includes(getComputedStyle(f).overflowX))
            right = Math.min(right, f.getBoundingClientRect().right)
    return [e.outerHTML.slice(0, 80), right]
}).filter(([_, right]) => right > innerWidth + 1)"""
BROKEN = """Promise.all([...document.images].map(i => (i.loading = 'eager', i.decode().catch(() => 0))))
    .then(() => [...document.images].filter(i => !i.naturalWidth).map(i => i.src.slice(0, 80)))"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("page", SAMPLE)
def test_a_page_fits_its_window(browser, address, page, width):
    assert browser.open(f"{address}/{page}", width) == []
    assert browser.run(BROKEN) == []
    assert browser.run("document.scrollingElement.scrollWidth") <= width
    assert browser.run(CUT) == []


@pytest.mark.slow
def test_the_dark_palette_is_the_readers(browser, address):
    colors = []
    for dark in (False, True, False):
        browser.open(f"{address}/index.html", 1400, dark=dark)
        colors.append(browser.run("document.body.getAttribute('data-md-color-scheme')"))
    assert colors == ["default", "slate", "default"]
