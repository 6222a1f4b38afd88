"""One page of HTML from the tables and figures of a folder: OUT/report.html, which needs no other file and no network.

Reads OUT/tables, OUT/timings (tables of what the clock said) and OUT/figures, as diec.evaluation.results writes them. The same files give the same bytes.
"""
import argparse
import base64
import io
import json
import re
from collections import Counter
from itertools import groupby
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup, escape
from PIL import Image

from diec.core.files import atomic_file

KINDS = {"tables": ("Table", (".md", ".csv", ".json")), "timings": ("Clock readings", (".md", ".csv", ".json")), "figures": ("Figure", (".svg", ".png", ".json"))}
MOST = 6_000_000 # bytes of a page that still opens at once and that a mail server takes
MOST_SVG = 400_000 # an SVG above this is thousands of points, which browsers draw slowly
NUMBER = re.compile(r"[-+−]?[\d.,]+%?( ± [\d.,]+)?")
TEMPLATES = Path(__file__).resolve().parent/"templates"
SHOWN = 8 # values of a list before it is cut


# ------------------------------------------------------------------------------------------------ which results

def names_in(out: Path) -> list:
    "Names of all results in a folder, sorted, such as tables/main"
    return sorted({f"{kind}/{p.stem}" for kind, (_, suffixes) in KINDS.items() for p in (out/kind).glob("*") if p.suffix in suffixes and not p.name.startswith(".")})


def check_names(out: Path, names: list):
    "Stop at a name that is not a result, or whose files are not all there"
    for name in names:
        kind, _, stem = name.partition("/")
        if kind not in KINDS or not stem or "/" in stem: raise SystemExit(f"A result is called {', '.join(f'{k}/NAME' for k in KINDS)}; got {name!r}")
        missing = [f"{name}{s}" for s in KINDS[kind][1] if not (out/f"{name}{s}").is_file()]
        if missing: raise SystemExit(f"{name} is not whole in {out}: {', '.join(missing)} missing")


# ------------------------------------------------------------------------------------------------ markdown

def inline(text: str) -> Markup:
    "Markdown within a line: code, links to the web, strong, emphasis; everything else is text"
    kept = [] # finished pieces wait here, so that nothing inside them is taken for markdown
    def keep(html):
        kept.append(html)
        return f"\0{len(kept) - 1}\0"
    text = str(escape(text.replace("\0", "")))
    text = re.sub(r"(`+)(.+?)\1(?!`)", lambda m: keep(f"<code>{m[2].strip()}</code>"), text)
    text = re.sub(r"\\([|*_`\[\]\\])", lambda m: keep(m[1]), text)
    text = re.sub(r"\[([^\[\]]+)\]\(([^()\s]+)\)", _link(keep), text)
    text = re.sub(r"\*\*(?=\S)(.+?)(?<=\S)\*\*", r"<strong>\1</strong>", text)
    text = re.sub(r"(?<![\w*])\*(?=[^\s*])(.+?)(?<=[^\s*])\*(?![\w*])", r"<em>\1</em>", text) # t* is a name, not the start of an emphasis
    while "\0" in text: text = re.sub("\0(\\d+)\0", lambda m: kept[int(m[1])], text) # a link may hold code
    return Markup(text)


def _link(keep):
    "A link to the web or into this page stays one; what it would find beside a notebook is not beside the report"
    return lambda m: keep(f'<a href="{m[2]}">{m[1]}</a>') if re.match(r"https?://|#", m[2]) else m[1]


def plain(text: str) -> str:
    "Markdown as mere text, for the alternative of a picture"
    return inline(text).striptags()


def _cells(line: str) -> list:
    "Cells of a line of a pipe table"
    line = re.sub(r"^\||(?<!\\)\|$", "", line.strip())
    return [c.strip() for c in re.split(r"(?<!\\)\|", line)]


def parse_table(text: str) -> tuple:
    "A pipe table as (heads, which columns align right, rows)"
    heads, rule, *rows = [_cells(line) for line in text.strip().splitlines()]
    rows = [(r + [""]*len(heads))[:len(heads)] for r in rows]
    return heads, [r.endswith(":") or _numeric([row[j] for row in rows]) for j, r in enumerate(rule)], rows


def _numeric(cells: list) -> bool:
    "Whether all are numbers once the bold of the best one is off, which a rule row does not see"
    cells = [c.replace("**", "") for c in cells if c]
    return bool(cells) and all(NUMBER.fullmatch(c) for c in cells)


def table(text: str) -> dict:
    "A pipe table for the template; a first column that repeats itself becomes headings between the rows"
    heads, right, rows = parse_table(text)
    rows = [[c.replace(" ± ", "\u00a0±\u00a0") for c in row] for row in rows] # a spread stays beside its mean on a phone
    runs = [(value, list(group)) for value, group in groupby(rows, lambda r: r[0])]
    grouped = len(heads) > 2 and not right[0] and len(rows) >= 2*len(runs) and len(runs) == len({v for v, _ in runs})
    first = 1 if grouped else 0
    return {"label": heads[0] if grouped else None, "heads": list(zip(heads, right))[first:],
            "groups": [(value, [list(zip(r, right))[first:] for r in group]) for value, group in (runs if grouped else [(None, rows)])]}


# ------------------------------------------------------------------------------------------------ pictures

def svg_size(svg: bytes) -> tuple:
    "Width and height of an SVG in pixels of CSS, as its first tag says, so that the page does not jump while it loads"
    head, units = svg[:4000].decode("utf8", "replace"), {"pt": 4/3, "px": 1, "": 1, "in": 96, "mm": 96/25.4}
    found = [re.search(rf'<svg\b[^>]*?\s{side}="([\d.]+)(pt|px|in|mm|)"', head) for side in ("width", "height")]
    return tuple(round(float(m[1])*units[m[2]]) for m in found) if all(found) else (None, None)


def figure(path: Path) -> dict:
    "A figure for the template, both ways, the better one chosen"
    svg, png = path.with_name(f"{path.name}.svg").read_bytes(), path.with_name(f"{path.name}.png").read_bytes()
    width, height = svg_size(svg)
    return {"svg": svg, "png": png, "use": "svg" if len(svg) <= MOST_SVG else "png", "width": width, "height": height}


def fewer_colors(png: bytes) -> bytes:
    "A PNG with 256 colors, if that is smaller"
    made = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(made, "PNG", optimize=True)
    return min(png, made.getvalue(), key=len)


def data_uri(picture: dict) -> str:
    "The chosen picture as an address that holds it; a picture of its own each, as ids in two SVGs of matplotlib clash"
    kind = {"svg": "image/svg+xml", "png": "image/png"}[picture["use"]]
    return f"data:{kind};base64,{base64.b64encode(picture[picture['use']]).decode()}"


# ------------------------------------------------------------------------------------------------ provenance

def seconds(s: float) -> str:
    "A duration, with hours and minutes where seconds alone say little"
    text = f"{s:,.0f} s" if s >= 100 else f"{s:.1f} s"
    if s < 600: return text
    minutes = round(s/60)
    return f"{text} ({minutes} min)" if minutes < 100 else f"{text} ({minutes//60} h {minutes%60} min)"


def value(v) -> str:
    "A parameter's value in a line; long lists are cut"
    if v is None: return "none"
    if isinstance(v, str): return v
    if isinstance(v, list): return ", ".join(map(value, v[:SHOWN])) + (f", ... ({len(v)} in all)" if len(v) > SHOWN else "") if v else "none"
    return json.dumps(v, ensure_ascii=False)


def values(found: list) -> str:
    "Different values of a parameter over several runs; whole numbers in a row as a range"
    found = list({json.dumps(v, sort_keys=True): v for v in found}.values())
    whole = sorted(v for v in found if type(v) is int)
    if len(whole) == len(found) > 2 and whole[-1] - whole[0] == len(whole) - 1: return f"{whole[0]} to {whole[-1]}"
    if len(whole) == len(found): found = whole
    return "; ".join(map(value, found[:SHOWN])) + (f"; ... ({len(found)} values)" if len(found) > SHOWN else "")


def commit(c) -> str:
    "A commit in twelve digits"
    return "unknown" if not c else f"{c[:12]}, with changes not committed" if c.endswith("+") else c[:12]


def _counted(found: list) -> str:
    "Values with how often each occurs, where there are several"
    counts = Counter(found)
    return "; ".join(f"{v} ({n} runs)" if len(counts) > 1 else v for v, n in counts.items())


def grouped_sources(sources: list) -> list:
    "Sources by notebook: (name, runs, seconds, parameters with all their values, commits)"
    done = []
    for name in dict.fromkeys(s["experiment"] for s in sources):
        runs = [s for s in sources if s["experiment"] == name]
        keys = dict.fromkeys(k for s in runs for k in s["parameters"])
        parameters = [(k, values([s["parameters"][k] for s in runs if k in s["parameters"]])) for k in keys]
        done.append((name, len(runs), seconds(sum(s["seconds"] or 0 for s in runs)), parameters, _counted([commit(s["commit"]) for s in runs])))
    return done


# ------------------------------------------------------------------------------------------------ the page

TITLES = {
    "overview": "The method", "main": "Clustering quality", "published": "The baselines, and what their authors report", "map": "Layer by timestep", "search": "The search for the timestep", "claims": "The claims, put to the test", "shortfall": "Where it falls short", "confused": "Classes that are confused", "encoder": "A learned encoder, given the same time", "criteria": "Criteria for the timestep",
    "coupling": "Weak coupling of layer and timestep", "ablation-terms": "Ablation: the terms of the loss", "ablation-denoising": "Ablation: the denoising branch", "ablation-layer": "Ablation: other layers",
    "ablation-timestep": "Ablation: other timesteps", "ablation-draws": "Ablation: noise draws", "sensitivity": "Sensitivity to the weights", "pretraining": "Ways of pretraining", "transfer": "Images never seen", "training": "Training", "embedding": "The embedding before and after",
    "confusion": "Confusion and calibration", "surest": "The most certain images", "least-sure": "The least certain images", "denoising": "Still a diffusion model", "efficiency": "Efficiency",
    "hierarchy": "Hierarchies, compared", "hierarchy-counts": "The number of clusters", "hierarchy-update": "New points in a hierarchy", "hierarchy-cost": "What a hierarchy costs", "hierarchy-network": "Communities", "hierarchy-prediction": "Clusters as features", "persistence": "How long levels live",
    "condensation": "Condensation", "kinds": "Kinds of images", "communities": "Communities"}


CLOCK = {"main": "Seconds of a fit", "search": "Seconds of the search", "efficiency": "Time and memory", "hierarchy-update": "What new points cost"}


GROUPS = { # heading of a part of the page -> what belongs there: NAME, or NAME-DATASET; clock readings stand with the costs
    "How well it clusters": ("overview", "main", "published", "claims", "encoder", "shortfall", "confused", "training", "embedding", "confusion", "surest", "least-sure"),
    "Finding the layer and timestep": ("map", "search", "coupling", "criteria"),
    "What each part is for": ("ablation", "sensitivity", "denoising", "pretraining", "transfer"),
    "Hierarchies": ("hierarchy", "condensation", "persistence", "kinds", "communities"),
    "What it costs": ("efficiency", "hierarchy-cost"),
    "Reliability": ("faults", "mutants")}
OTHER = "Other results"


def place_of(name: str) -> tuple:
    "The part of the page that a result belongs to, and its place there"
    kind, _, stem = name.partition("/")
    known = [(len(n), group, i) for group, names in GROUPS.items() for i, n in enumerate(names) if stem == n or stem.startswith(f"{n}-")]
    _, group, place = max(known, default=(0, OTHER, 0))
    return ("What it costs", len(GROUPS["What it costs"])) if kind == "timings" else (group, place)


def by_group(results: list) -> list:
    "(heading, results) in the order of `GROUPS`; results of one kind keep their order"
    placed = [(*place_of(r["name"]), r) for r in results]
    found = {group: [r for g, _, r in sorted(placed, key=lambda p: p[1]) if g == group] for group in (*GROUPS, OTHER)}
    return [(group, members) for group, members in found.items() if members]


def summary_of(out: Path, names: list) -> dict | None:
    "The figures that a reader looks for first: accuracy by data set, beside the best other method, and how the claims fared"
    if "tables/main" not in names: return None
    main = pd.read_csv(out/"tables"/"main.csv")
    if not {"dataset", "method", "ACC"} <= set(main) or not pd.api.types.is_numeric_dtype(main["ACC"]): return None
    mean = main.dropna(subset="ACC").groupby(["dataset", "method"], sort=False)["ACC"].agg(["mean", "std"])*100
    def said(d, m): return f"{mean.loc[(d, m), 'mean']:.1f}" + (f"\u00a0±\u00a0{s:.1f}" if (s := mean.loc[(d, m), "std"]) == s else "")
    rows = []
    for d in mean.index.get_level_values(0).unique():
        others = mean.loc[d]["mean"]
        others = others[[m for m in others.index if not m.startswith("DiEC")]]
        if (d, "DiEC") in mean.index: rows.append((d, said(d, "DiEC"), f"{said(d, others.idxmax())} ({others.idxmax()})" if len(others) else "none"))
    lines = []
    if "tables/claims" in names:
        verdicts = pd.read_csv(out/"tables"/"claims.csv")["verdict"].value_counts()
        lines.append(f"{verdicts.sum()} claims of the method were put to a test that could refute them. Verdicts: " + ", ".join(f"{v}: {n}" for v, n in verdicts.items()) + ".")
    return {"heads": ("data set", "DiEC: accuracy in %", "best other method"), "rows": rows, "lines": lines}


def heading(kind: str, stem: str) -> str:
    "A title for a result that brings none: NAME, or NAME-DATASET"
    if kind == "timings" and stem in CLOCK: return CLOCK[stem]
    titles = TITLES | ({"hierarchy": "The tree"} if kind == "figures" else {})
    known = max((t for t in titles if stem == t or stem.startswith(f"{t}-")), key=len, default=None)
    if known is None: return stem.replace("-", " ").replace("_", " ")
    return titles[known] + (f": {stem.removeprefix(known)[1:]}" if stem != known else "")


def result(out: Path, name: str) -> dict:
    "Everything that the template needs of one result"
    kind, _, stem = name.partition("/")
    facts = json.loads((out/f"{name}.json").read_text())
    title = facts.get("title") or heading(kind, stem)
    for key, many in (("data", "data"), ("device", "devices")): # files from before results of several data sets have one, not a list
        found = facts.get(many) or facts.get(key) or []
        facts[many] = found if isinstance(found, list) else [found]
    found = {"name": name, "anchor": re.sub(r"[^\w-]+", "-", name), "kind": KINDS[kind][0], "files": [f"{name}{s}" for s in KINDS[kind][1]],
             "title": title[0].upper() + title[1:], "caption": facts.get("caption", ""), "facts": facts, "sources": grouped_sources(facts.get("sources", []))}
    return found | ({"picture": figure(out/name)} if kind == "figures" else {"table": table((out/f"{name}.md").read_text())})


def overview(results: list) -> list:
    "(term, text) of the whole page: what is here, and what it took; a run that several results share counts once"
    facts = [r["facts"] for r in results]
    runs = {json.dumps([s["experiment"], s["parameters"]], sort_keys=True): s for f in facts for s in f.get("sources", [])}
    kinds = Counter(r["kind"] for r in results)
    datasets = sorted({s["parameters"]["dataset"] for s in runs.values() if isinstance(s["parameters"].get("dataset"), str)})
    words = {"Table": ("table", "tables"), "Figure": ("figure", "figures"), "Clock readings": ("table of clock readings", "tables of clock readings")}
    found = [("Here", ", ".join(f"{kinds[k]} {w[kinds[k] > 1]}" for k, w in words.items() if k in kinds)),
             ("Data", ", ".join(datasets)),
             ("Made from", f"{len(runs):,} runs, {seconds(sum(s['seconds'] or 0 for s in runs.values()))} in all" if runs else ""),
             ("Commit", "; ".join(dict.fromkeys(commit(f.get("commit")) for f in facts))),
             ("Device", "; ".join(dict.fromkeys(d for f in facts for d in f["devices"])))]
    return [(term, text) for term, text in found if text]


def page(results: list, title: str, plan=None, summary=None) -> str:
    "The report as HTML"
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"inline": inline, "plain": plain, "uri": data_uri, "seconds": seconds, "value": value, "commit": commit}
    return environment.get_template("report.html").render(groups=by_group(results), title=title, plan=plan, overview=overview(results), summary=summary)


def small_page(results: list, title: str, plan=None, summary=None) -> str:
    "The report, with as many SVGs replaced by their PNGs as it takes to stay below the limit; where that is not enough, by PNGs of 256 colors"
    pictures = [r["picture"] for r in results if "picture" in r]
    for reduce in (False, True):
        if reduce:
            for p in pictures: p["png"] = fewer_colors(p["png"])
        larger = sorted((p for p in pictures if p["use"] == "svg" and len(p["svg"]) > len(p["png"])), key=lambda p: len(p["svg"]) - len(p["png"]))
        while len((html := page(results, title, plan, summary)).encode()) > MOST and larger: larger.pop()["use"] = "png"
        if len(html.encode()) <= MOST: return html
    raise SystemExit(f"The report would take {len(html.encode()):,} bytes, of {MOST:,}. The largest: {_largest(results)}")


def _largest(results: list) -> str:
    "The three largest pictures and what they take"
    sizes = sorted(((len(data_uri(r["picture"])), r["name"]) for r in results if "picture" in r), reverse=True)
    return ", ".join(f"{name} ({n:,})" for n, name in sizes[:3])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder with tables/, timings/ and figures/, such as results")
    parser.add_argument("names", nargs="*", metavar="NAME", help="results to show, in this order, such as tables/main; all that are there, sorted, without any")
    parser.add_argument("--title", default="DiEC: results")
    parser.add_argument("--plan", help="plan that made them, for the head of the page")
    parser.add_argument("--output", type=Path, help="file to write; OUT/report.html")
    args = parser.parse_intermixed_args(arguments) # names may stand after options
    if not args.out.is_dir(): raise SystemExit(f"OUT must be a folder, got {args.out}")
    names = list(dict.fromkeys(args.names)) or names_in(args.out)
    if not names: raise SystemExit(f"No results in {args.out}: {', '.join(KINDS)} are empty or missing")
    check_names(args.out, names)
    html = small_page([result(args.out, name) for name in names], args.title, args.plan, summary_of(args.out, names))
    target = args.output or args.out/"report.html"
    with atomic_file(target) as f: f.write_text(html, encoding="utf8")
    print(f"{target}: {len(names)} results, {len(html.encode())/1e6:.2f} MB")


if __name__ == "__main__":
    main()
