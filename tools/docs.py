"""The documentation site, as hooks of MkDocs (`make docs`, docs/mkdocs.yml).

`on_config` gathers the pages in a temporary folder: the notebooks without hidden cells and directives, a reference
page for each module, the results, and the changelog. The other hooks tidy the notebooks' HTML, turn formulas into
MathML, which browsers show without a script, and lead links to pages of the site, or else to the repository.
"""
import ast
import logging
import os
import re
import tempfile
from configparser import ConfigParser
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import nbformat
import yaml
from mkdocs.exceptions import PluginError
from nbconvert.filters.markdown_mistune import IPythonRenderer

from tools.docs_markup import in_theme, mathml, with_formulas
from tools.readme import hide_directives

ROOT = Path(__file__).resolve().parent.parent
NBS, RESULTS = ROOT/"nbs", ROOT/"results"
ROOMS = ["method", "data", "hierarchy", "evaluation", "core", "app"]  # the order in the site; a new folder comes last
PAGES = ["CONTRIBUTING.md", "CHANGELOG.md"]  # documents of the repository that are pages of the site
APART = ["nbs", "experiments", "guides"]  # folders of notebooks that are not rooms
LABELS = {"index.ipynb": "Start", "tutorial.ipynb": "Tutorial"}  # for the navigation, where the titles are longer
log = logging.getLogger("mkdocs.hooks.docs")  # with --strict, a warning fails the build
folder = tempfile.TemporaryDirectory(prefix="diec-docs-")  # MkDocs builds from it
site: dict[Path, str] = {}  # file or folder of the repository -> the page that shows it
settings = ConfigParser()
settings.read(ROOT/"settings.ini", encoding="utf-8")
cfg = settings["DEFAULT"]


def read(path: Path) -> nbformat.NotebookNode:
    "A notebook as its readers see it, without hidden cells and directives; its title and module are in the metadata."
    notebook = nbformat.read(path, as_version=4)
    source = "\n".join(c.source for c in notebook.cells)
    title, module = re.search(r"^# (.+)$", source, re.M), re.search(r"^#\|\s*default_exp (?!.*__)(.+)$", source, re.M)
    hide_directives(notebook)
    for cell in notebook.cells: cell.metadata = nbformat.from_dict({})  # its tags would be shown
    notebook.cells = [c for c in notebook.cells if c.source.strip() or c.get("outputs")]
    about = {"title": title[1] if title else path.stem, "module": module[1] if module else None}
    notebook.metadata = nbformat.from_dict({"language_info": {"name": "python"}} | about)
    return notebook


def link(url: str, source: Path, page: str) -> str:
    "Where a link in the file `source` of the repository leads from the page `page` of the site."
    path, _, anchor = url.partition("#")
    if not path or re.match(r"[a-z]+:|//", path): return url.lower() if url.startswith("#") else url
    target = Path(os.path.normpath(source.parent/unquote(path)))
    if target in site: return os.path.relpath(site[target], os.path.dirname(page)) + (anchor and f"#{anchor.lower()}")
    if not target.exists(): log.warning(f"{source.relative_to(ROOT)} links to {url}, which does not exist")
    return f"{cfg['git_url']}/{'tree' if target.is_dir() else 'blob'}/{cfg['branch']}/{os.path.relpath(target, ROOT)}"


def document(path: Path) -> str:
    "A Markdown file of the repository, with its links as the site needs them."
    text = path.read_text(encoding="utf-8")
    return re.sub(r"\]\(([^)\s]+)\)", lambda m: f"]({link(m[1], path, site[path])})", text)


def public_names(module: str) -> list:
    "The names in a module's `__all__`."
    code = (ROOT/"diec"/f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    return ast.literal_eval(re.search(r"^__all__ = (\[.*?\])", code, re.M | re.S)[1])


def reference(notebook: nbformat.NotebookNode, page: str) -> str:
    "The page of a module with its public names."
    module = notebook.metadata.module
    return (f"# diec.{module}\n\nExplained in [{notebook.metadata.title}](../{page}).\n\n"
            f"::: diec.{module}\n    options:\n      members: {public_names(module)}\n")


def results(start: nbformat.NotebookNode, experiments: dict) -> str:
    "The page of the results: the start page's table, the report, and the notebooks that make it."
    outputs = [o.get("data", {}) for c in start.cells for o in c.get("outputs", [])]
    table = next((o["text/markdown"] for o in outputs if o.get("text/markdown", "").startswith("|")), None)
    if table is None: raise PluginError("nbs/index.ipynb must show the table of results as a Markdown output")
    made = "\n".join(f"- [{notebook.metadata.title}](../{page})" for page, notebook in experiments.items())
    return ("# Results\n\nThe paper's data sets, whole, in percent: mean ± standard deviation over seeds.\n\n"
            f"{table}\n\n"
            "The report shows every table and figure on one page, each with its caption and origin.\n\n"
            "[Open the report](report.html){ .md-button .md-button--primary }\n\n"
            f"## How they are made\n\nEach experiment is a notebook:\n\n{made}\n")


def on_config(config):
    "Gather the pages, and order the navigation."
    rooms: dict[str, dict] = {}  # folder -> page -> notebook
    for path in sorted(p for p in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts):
        site[path] = path.relative_to(NBS).as_posix()
        rooms.setdefault(path.parent.name, {})[site[path]] = read(path)
    order = list(yaml.safe_load((NBS/"experiments"/"experiments.yaml").read_text(encoding="utf-8"))["experiments"])
    rooms["experiments"] = dict(sorted(rooms["experiments"].items(), key=lambda item: order.index(Path(item[0]).stem)))
    names = ROOMS + sorted(rooms.keys() - {*ROOMS, *APART})
    explained = {page: n for name in names for page, n in rooms[name].items()
                 if n.metadata.module and public_names(n.metadata.module)}
    modules = {f"reference/diec.{n.metadata.module}.md": (n, page) for page, n in explained.items()}

    report = (RESULTS/"report.html").read_text(encoding="utf-8")
    shown = {p: part for p in RESULTS.glob("*/*") if f'id="{(part := f"{p.parent.name}-{p.stem}")}"' in report}
    site.update({path: f"results/report.html#{part}" for path, part in shown.items()})
    site.update({RESULTS: "results/index.md", RESULTS/"README.md": "results/index.md", ROOT/"README.md": "index.ipynb"})
    site.update({RESULTS/"report.html": "results/report.html"} | {ROOT/name: name.lower() for name in PAGES})

    texts = {page: nbformat.writes(n) for room in rooms.values() for page, n in room.items()}
    texts |= {page: reference(*module) for page, module in modules.items()}
    texts |= {site[ROOT/name]: document(ROOT/name) for name in PAGES}
    texts["results/index.md"] = results(rooms["nbs"]["index.ipynb"], rooms["experiments"])
    texts |= {"results/report.html": report, "style.css": (ROOT/"docs"/"style.css").read_text(encoding="utf-8")}
    for page, text in texts.items():
        path = Path(folder.name)/page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    config.docs_dir, config.site_url = folder.name, f"https://{cfg['user']}.github.io/{cfg['repo']}/"
    config.site_name, config.site_description, config.copyright = cfg["title"], cfg["description"], cfg["copyright"]
    config.extra["social"] = [{"icon": "fontawesome/brands/github", "link": cfg["git_url"]}]
    part = {name: list(pages) for name, pages in rooms.items()}
    made = ["results/index.md", {"Experiments": part["experiments"]}]
    config.nav = [*part["nbs"], {"Method": part["method"]}, {"Modules": [{n.capitalize(): part[n]} for n in names[1:]]},
                  {"Results": made}, {"Guides": part["guides"]}, {"Reference": list(modules)}, *map(str.lower, PAGES)]
    return config


IPythonRenderer.block_math = lambda self, body: mathml(body, "block")  # mkdocs-jupyter's renderer inherits these
IPythonRenderer.inline_math = lambda self, body: mathml(body, "inline")


def in_order(toc):
    "The entries of a table of contents as they stand on the page."
    for item in toc: yield from (item, *in_order(item.children))


def on_page_content(html, page, **_):
    "A notebook in the theme's own markup, with the links of the site; the formulas of the other pages."
    name = page.file.src_uri
    if not name.endswith(".ipynb"): return with_formulas(html)
    html = in_theme(html, page.title)
    for url in {*re.findall(r'\b(?:href|src)="((?!data:)[^"]+)"', html)}:
        found = link(unescape(url), NBS/name, name)
        if "://" not in found: found = re.sub(r"\.(ipynb|md)(?=#|$)", ".html", found)
        html = html.replace(f'="{url}"', f'="{found}"')
    found = re.findall(r'<h[1-6][^>]*\bid="([^"]+)"[^>]*>(.*?)<a class="headerlink"', html, re.S)
    for item, (anchor, title) in zip(in_order(page.toc), found, strict=True):  # which lack code and formulas
        item.id, item.title = anchor, re.sub("</?code>", "", title)
    page.title, page.edit_url = LABELS.get(name, page.title), f"{cfg['git_url']}/blob/{cfg['branch']}/nbs/{name}"
    return html


def on_page_context(context, page, **_):
    "A page that is a section by itself needs no list of the pages beside it."
    if "/" not in page.file.src_uri: page.meta["hide"] = ["navigation"]
    return context


def on_post_page(output, **_):
    "The button beside a title leads to the notebook."
    return output.replace('title="Edit this page"', 'title="The notebook of this page"')
