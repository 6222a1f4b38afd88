"""One page of HTML from the tables and figures of a folder: OUT/report.html, which needs no other file and no network.

Reads OUT/tables, OUT/timings (tables of clock readings) and OUT/figures, as diec.evaluation.results writes them.
Titles, order, parts of the page and the sentence above each result come from nbs/experiments/experiments.yaml.
The same files give the same bytes.
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
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

from diec.core.files import atomic_file
from diec.evaluation.results import beside_best_other
from workflow.registry import KINDS, load

REGISTRY = load()
WORDS = {"tables": "Table", "timings": "Clock readings", "figures": "Figure"}
MOST = 6_000_000 # bytes of a page that still opens quickly and that a mail server accepts
MOST_SVG = 400_000 # an SVG above this holds thousands of points, which browsers draw slowly
NUMBER = re.compile(r"[-+−]?[\d.,]+%?( ± [\d.,]+)?")
MARKDOWN = MarkdownIt("zero").enable(["backticks", "emphasis", "escape", "link", "table"]) # "zero": HTML stays text
TEMPLATES = Path(__file__).resolve().parent/"templates"
SHOWN = 8 # values of a list before it is cut
OTHER = "Other results"


# ------------------------------------------------------------------------------------------------ which results

def names_in(out: Path) -> list:
    "Names of all results in a folder, such as tables/main, sorted"
    return sorted({f"{kind}/{p.stem}" for kind, suffixes in KINDS.items() for p in (out/kind).glob("*")
                   if p.suffix in suffixes and not p.name.startswith(".")})


def check_names(out: Path, names: list):
    "Stop at a name that is not a result, or whose files are not all there"
    for name in names:
        kind, _, stem = name.partition("/")
        if kind not in KINDS or not stem or "/" in stem:
            raise SystemExit(f"A result is called {', '.join(f'{k}/NAME' for k in KINDS)}; got {name!r}")
        missing = [f"{name}{s}" for s in KINDS[kind] if not (out/f"{name}{s}").is_file()]
        if missing: raise SystemExit(f"{name} is incomplete in {out}: {', '.join(missing)} missing")


# ------------------------------------------------------------------------------------------------ markdown

def inline(text: str) -> Markup:
    "Markdown within a line as HTML; a link to a file beside the notebook becomes its text, as the report stands alone"
    return Markup(MARKDOWN.renderInline(re.sub(r"\[([^\[\]]+)\]\((?!https?://|#)[^()]*\)", r"\1", text)))


def plain(text: str) -> str:
    "Markdown as text, for the alternative of a picture"
    return inline(text).striptags()


def parse_table(text: str) -> tuple:
    "A pipe table as (heads, which columns align right, rows)"
    rows, right = [], []
    for token in MARKDOWN.parse(text):
        if token.type == "tr_open": rows.append([])
        if token.type == "th_open": right.append("right" in token.attrs.get("style", ""))
        if token.type == "inline": rows[-1].append(token.content)
    heads, *rows = rows
    return heads, [r or _numeric([row[j] for row in rows]) for j, r in enumerate(right)], rows


def _numeric(cells: list) -> bool:
    "Whether all are numbers once the bold of the best one is off, which the alignment of the column ignores"
    cells = [c.replace("**", "") for c in cells if c]
    return bool(cells) and all(NUMBER.fullmatch(c) for c in cells)


def table(text: str) -> dict:
    "A pipe table for the template; a first column that repeats itself becomes headings between the rows"
    heads, right, rows = parse_table(text)
    runs = [(value, list(group)) for value, group in groupby(rows, lambda r: r[0])]
    distinct = len(runs) == len({value for value, _ in runs})
    grouped = len(heads) > 2 and not right[0] and len(rows) >= 2*len(runs) and distinct
    return grid(heads, right, runs, heads[0]) if grouped else grid(heads, right, [(None, rows)])


def grid(heads: list, right: list, groups: list, label: str | None = None) -> dict:
    "Groups of rows as the template takes them; with a label, the first column is the heading of its group"
    shown = lambda cell: cell.replace(" ± ", "\u00a0±\u00a0") or "–" # a mean and its spread stay on one line
    first = 0 if label is None else 1
    cells = [(name, [[(shown(c), r) for c, r in zip(row, right)][first:] for row in rows]) for name, rows in groups]
    return {"label": label, "heads": list(zip(heads, right))[first:], "groups": cells,
            "blank": any(c == "" for _, rows in groups for row in rows for c in row)}


# ------------------------------------------------------------------------------------------------ pictures

def svg_size(svg: bytes) -> tuple:
    "Width and height of an SVG in CSS pixels, from its first tag, so that the page does not jump while it loads"
    head, units = svg[:4000].decode("utf8", "replace"), {"pt": 4/3, "px": 1, "": 1, "in": 96, "mm": 96/25.4}
    found = [re.search(rf'<svg\b[^>]*?\s{side}="([\d.]+)(pt|px|in|mm|)"', head) for side in ("width", "height")]
    return tuple(round(float(m[1])*units[m[2]]) for m in found) if all(found) else (None, None)


def figure(path: Path) -> dict:
    "A figure for the template, as SVG and PNG; the SVG is used unless it is too large"
    svg, png = (path.with_name(f"{path.name}.{suffix}").read_bytes() for suffix in ("svg", "png"))
    width, height = svg_size(svg)
    return {"svg": svg, "png": png, "use": "svg" if len(svg) <= MOST_SVG else "png", "width": width, "height": height}


def fewer_colors(png: bytes) -> bytes:
    "A PNG with 256 colors, if that is smaller"
    made = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(made, "PNG", optimize=True)
    return min(png, made.getvalue(), key=len)


def data_uri(picture: dict) -> str:
    "The picture as a data: address, so that each SVG keeps its own ids (those of matplotlib clash in one document)"
    kind = {"svg": "image/svg+xml", "png": "image/png"}[picture["use"]]
    return f"data:{kind};base64,{base64.b64encode(picture[picture['use']]).decode()}"


# ------------------------------------------------------------------------------------------------ provenance

def seconds(s: float) -> str:
    "A duration in seconds, and in minutes or hours if it is long"
    text = f"{s:,.0f} s" if s >= 100 else f"{s:.1f} s"
    if s < 600: return text
    minutes = round(s/60)
    return f"{text} ({minutes} min)" if minutes < 100 else f"{text} ({minutes//60} h {minutes%60} min)"


def value(v) -> str:
    "The value of a parameter in a line; long lists are cut"
    if v is None: return "none"
    if isinstance(v, str): return v
    if isinstance(v, list):
        return ", ".join(map(value, v[:SHOWN])) + (f", ... ({len(v)} in all)" if len(v) > SHOWN else "") or "none"
    return json.dumps(v, ensure_ascii=False)


def values(found: list) -> str:
    "The different values of a parameter over several runs; consecutive integers as a range"
    found = list({json.dumps(v, sort_keys=True): v for v in found}.values())
    whole = sorted(v for v in found if type(v) is int)
    if len(whole) == len(found):
        if len(found) > 2 and whole[-1] - whole[0] == len(whole) - 1: return f"{whole[0]} to {whole[-1]}"
        found = whole
    return "; ".join(map(value, found[:SHOWN])) + (f"; ... ({len(found)} values)" if len(found) > SHOWN else "")


def commit(c) -> str:
    "A commit in twelve characters"
    return "unknown" if not c else f"{c[:12]}, with uncommitted changes" if c.endswith("+") else c[:12]


def _counted(found: list) -> str:
    "Values, and how often each occurs if there are several"
    counts = Counter(found)
    return "; ".join(f"{v} ({n} runs)" if len(counts) > 1 else v for v, n in counts.items())


def grouped_sources(sources: list) -> list:
    "Sources by notebook: (name, runs, time, parameters with all their values, commits)"
    done = []
    for name in dict.fromkeys(s["experiment"] for s in sources):
        runs = [s for s in sources if s["experiment"] == name]
        keys = dict.fromkeys(k for s in runs for k in s["parameters"])
        parameters = [(k, values([s["parameters"][k] for s in runs if k in s["parameters"]])) for k in keys]
        time, commits = seconds(sum(s["seconds"] or 0 for s in runs)), _counted([commit(s["commit"]) for s in runs])
        done.append((name, len(runs), time, parameters, commits))
    return done


# ------------------------------------------------------------------------------------------------ the page

def by_group(results: list) -> list:
    "(heading, results) in the order of the registry; results that it does not know come last"
    found = {heading: [r for r in sorted(results, key=lambda r: r["place"]) if r["group"] == heading]
             for heading in (*REGISTRY.groups.values(), OTHER)}
    return [(heading, members) for heading, members in found.items() if members]


def summary_of(out: Path, names: list) -> list:
    "Tables that a reader looks for first: accuracy beside the best other method, and the verdicts on the claims"
    found = []
    main = pd.read_csv(out/"tables"/"main.csv") if "tables/main" in names else pd.DataFrame()
    if {"dataset", "method", "ACC"} <= set(main) and pd.api.types.is_numeric_dtype(main["ACC"]):
        said = lambda mean, std: f"{100*mean:.1f}" + (f" ± {100*std:.1f}" if pd.notna(std) else "")
        gain = lambda r: f"{100*(r['mean'] - r['other_mean']):+.1f}".replace("-", "−")
        other = lambda r: [said(r["other_mean"], r["other_std"]), r["other"], gain(r)]
        none = ["none", "", ""]
        rows = [[data, said(r["mean"], r["std"]), *(other(r) if pd.notna(r["other_mean"]) else none)]
                for data, r in beside_best_other(main).dropna(subset="mean").iterrows()]
        heads = ["data set", "DiEC: accuracy in %", "best other method", "which", "difference"]
        found.append(grid(heads, [False, True, True, False, True], [(None, rows)]))
    if "tables/claims" in names:
        claims = pd.read_csv(out/"tables"/"claims.csv").groupby("verdict", sort=False)["claim"].agg(list)
        rows = [[verdict, str(len(c)), "; ".join(c)] for verdict, c in claims.items()]
        heads = ["verdict", "claims", f"which of the {sum(map(len, claims))} claims"]
        found.append(grid(heads, [False, True, False], [(None, rows)]))
    return found


def result(out: Path, name: str) -> dict:
    "Everything that the template needs of one result"
    kind, _, stem = name.partition("/")
    facts = json.loads((out/f"{name}.json").read_text())
    place, known, dataset = REGISTRY.find(name) or (len(REGISTRY.results()), None, None)
    own_title = known.title.replace("{dataset}", str(dataset)) if known else re.sub("[-_]", " ", stem)
    title = facts.get("title") or own_title
    for key, many in (("data", "data"), ("device", "devices")): # older files have one, not a list
        found = facts.get(many) or facts.get(key) or []
        facts[many] = found if isinstance(found, list) else [found]
    found = {"name": name, "anchor": re.sub(r"[^\w-]+", "-", name), "kind": WORDS[kind],
             "files": [f"{name}{s}" for s in KINDS[kind]], "place": place,
             "group": REGISTRY.groups[known.group] if known else OTHER, "title": title[0].upper() + title[1:],
             "shows": known.shows if known else "", "blank": known and known.blank or "does not apply",
             "caption": facts.get("caption", ""), "facts": facts, "sources": grouped_sources(facts.get("sources", []))}
    if kind == "figures": return found | {"picture": figure(out/name)}
    return found | {"table": table((out/f"{name}.md").read_text())}


def overview(results: list) -> list:
    "(term, text) for the head of the page: its contents and their cost; a run that several results share counts once"
    facts = [r["facts"] for r in results]
    sources = [s for f in facts for s in f.get("sources", [])]
    runs = {json.dumps([s["experiment"], s["parameters"]], sort_keys=True): s for s in sources}.values()
    kinds = Counter(r["kind"] for r in results)
    datasets = sorted({d for s in runs if isinstance(d := s["parameters"].get("dataset"), str)})
    words = {"Table": ("table", "tables"), "Figure": ("figure", "figures"),
             "Clock readings": ("table of clock readings", "tables of clock readings")}
    found = [("Contents", ", ".join(f"{kinds[k]} {w[kinds[k] > 1]}" for k, w in words.items() if k in kinds)),
             ("Data", ", ".join(datasets)),
             ("Made from", f"{len(runs):,} runs, {seconds(sum(s['seconds'] or 0 for s in runs))}" if runs else ""),
             ("Commit", "; ".join(dict.fromkeys(commit(f.get("commit")) for f in facts))),
             ("Device", "; ".join(dict.fromkeys(d for f in facts for d in f["devices"])))]
    return [(term, text) for term, text in found if text]


def page(results: list, title: str, plan=None, summary=None) -> str:
    "The report as HTML"
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= {f.__name__: f for f in (inline, plain, data_uri, seconds, value, commit)}
    return environment.get_template("report.html").render(
        groups=by_group(results), title=title, plan=plan, overview=overview(results), summary=summary)


def small_page(results: list, title: str, plan=None, summary=None) -> str:
    "The report below the limit of size: with PNGs in place of SVGs as necessary, then with PNGs of 256 colors"
    pictures = [r["picture"] for r in results if "picture" in r]
    for reduce in (False, True):
        if reduce:
            for p in pictures: p["png"] = fewer_colors(p["png"])
        larger = [p for p in pictures if p["use"] == "svg" and len(p["svg"]) > len(p["png"])]
        larger.sort(key=lambda p: len(p["svg"]) - len(p["png"]))
        while len((html := page(results, title, plan, summary)).encode()) > MOST and larger: larger.pop()["use"] = "png"
        if len(html.encode()) <= MOST: return html
    raise SystemExit(f"The report takes {len(html.encode()):,} bytes, more than {MOST:,}. "
                     f"The largest pictures are {_largest(results)}")


def _largest(results: list) -> str:
    "The three largest pictures, with their bytes"
    sizes = sorted(((len(data_uri(r["picture"])), r["name"]) for r in results if "picture" in r), reverse=True)
    return ", ".join(f"{name} ({n:,})" for n, name in sizes[:3])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder with tables/, timings/ and figures/, such as results")
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help="results to show, such as tables/main (default: all in OUT)")
    parser.add_argument("--title", default="DiEC: results")
    parser.add_argument("--plan", help="name of the plan, for the head of the page")
    parser.add_argument("--output", type=Path, help="file to write (default: OUT/report.html)")
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
