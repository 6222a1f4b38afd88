"The page of all results: complete, in one file, and the same for the same files."

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from diec.evaluation.results import Provenance, keep_figure, save_table
from workflow import report


@pytest.fixture
def out(tmp_path):
    "A folder with a table and a figure"
    provenance = Provenance("made", {"seed": 0})
    sources = [
        {"provenance": provenance.facts() | {"parameters": {"dataset": "digits", "seed": s}, "seconds": 400.0}}
        for s in range(5)
    ]
    shown = [
        {"data": d, "method": m, "ACC": "**97.9 ± 0.1**" if m == "**a|b**" else "9.0 ± 0.1"}
        for d in ("digits", "usps")
        for m in ("k-means at t*", "**a|b**")
    ]
    save_table(
        tmp_path / "tables" / "main", shown, shown, "What <b> and *a* reach at t*, see `x_y`.", provenance, sources
    )
    fig, ax = plt.subplots()
    ax.plot([1, 2])
    keep_figure(fig, tmp_path / "figures" / "curve", 'A "curve".', provenance)
    plt.close(fig)
    return tmp_path


def made(out, *more):
    report.main([str(out), *more])
    return (out / "report.html").read_text()


def test_the_same_files_give_the_same_page_which_needs_no_other(out):
    html = made(out)
    assert made(out) == html
    assert not re.search(r'(src|href)="(?!data:|#)', html) and "url(" not in html and "<script" not in html
    assert sorted(p.name for p in out.iterdir()) == ["figures", "report.html", "tables"]


def test_a_table_keeps_its_cells_and_its_data_sets_become_headings(out):
    html = made(out)
    row = '<th scope="row"><strong>a|b</strong></th><td class="right"><strong>97.9\u00a0±\u00a00.1</strong></td>'
    assert row in html
    assert html.count('scope="rowgroup"') == 2 and "<i>data</i> usps" in html
    assert "What &lt;b&gt; and <em>a</em> reach at t*, see <code>x_y</code>." in html
    assert "<code>made</code>: 5 runs, 2,000 s (33 min) in all" in html and "seed: <b>0 to 4</b>" in html


def test_names_choose_and_order(out):
    html = made(out, "--plan", "tiny", "tables/main", "figures/curve")
    assert re.findall(r'<section id="(.*?)"', html) == ["tables-main", "figures-curve"]
    assert re.findall(r'<section id="(.*?)"', made(out, "figures/curve")) == ["figures-curve"]


def test_results_stand_in_parts_in_the_order_of_the_registry(out):
    names = [
        "tables/new",
        "timings/main",
        "figures/map-digits",
        "tables/hierarchy-update",
        "tables/claims",
        "figures/map-usps",
        "tables/main",
        "tables/ablation-terms",
        "figures/hierarchy-digits",
    ]
    for name in names:
        if name.startswith("figures"):
            keep_figure(plt.figure(), out / name, "A figure.", Provenance("made", {}))
        else:
            save_table(out / name, [{"a": 1}], [{"a": 1}], "A table.", Provenance("made", {}))
    plt.close("all")
    results = [report.result(out, name) for name in names]
    assert {group: [r["name"] for r in members] for group, members in report.by_group(results)} == {
        "Clustering quality": ["tables/main"],
        "Finding the layer and timestep": ["figures/map-digits", "figures/map-usps"],
        "What each part contributes": ["tables/ablation-terms"],
        "Hierarchies": ["tables/hierarchy-update", "figures/hierarchy-digits"],
        "Time and memory": ["timings/main"],
        "Reproduction and reliability": ["tables/claims"],
        "Other results": ["tables/new"],
    }


def test_the_summary_says_accuracy_by_data_set_and_verdicts(out):
    scores = (("digits", "DiEC", 0.9), ("digits", "k-means", 0.7), ("digits", "DEC <b>", 0.8), ("usps", "DiEC", 0.5))
    rows = [{"dataset": d, "method": m, "seed": s, "ACC": a + s / 100} for d, m, a in scores for s in (0, 2)]
    save_table(out / "tables" / "main", rows, rows, "The main table.", Provenance("made", {}))
    verdicts = ("holds", "holds", "fails here")
    claims = [{"claim": f"claim {i}", "verdict": v} for i, v in enumerate(verdicts)]
    save_table(out / "tables" / "claims", claims, claims, "Claims.", Provenance("made", {}))
    html = made(out)
    text = re.sub(r"\s+", " ", html[html.index('id="summary"') : html.index("<nav")])  # \s: also the space within a ±
    assert (
        '<th scope="row">digits</th><td class="right">91.0 ± 1.4</td><td class="right">81.0 ± 1.4</td>'
        '<td>DEC &lt;b&gt;</td><td class="right">+10.0</td>'
    ) in text
    assert '<th scope="row">usps</th><td class="right">51.0 ± 1.4</td><td class="right">none</td>' in text
    assert '<th scope="row">holds</th><td class="right">2</td><td>claim 0; claim 1</td>' in text
    assert "which of the 3 claims" in text and 'id="summary"' not in made(out, "figures/curve")


def test_a_sentence_stands_above_each_result_and_blank_cells_are_explained(out):
    rows = [{"method": m, "digits, s": v} for m, v in (("k-means", ""), ("DiEC", "15.0"))]
    save_table(out / "timings" / "main", rows, rows, "Seconds.", Provenance("made", {}))
    html = made(out)
    assert '<p class="shows">The time that each method needs to cluster each data set.</p>' in html
    assert '<td class="right">–</td>' in html and "–: the method was not run" in html
    assert html.count("does not apply") == 0


def test_every_committed_result_has_a_title_of_its_own_and_a_sentence():
    folder = report.TEMPLATES.parents[1] / "results"
    found = [report.result(folder, name) for name in report.names_in(folder)]
    titles = [r["title"] for r in found] + list(report.REGISTRY.groups.values())
    assert len(titles) == len(set(titles)) and all(r["shows"] for r in found)
    plain = {r["name"] for r in found if r.get("table", {}).get("blank") and r["blank"] == "does not apply"}
    assert plain <= {"tables/hierarchy-counts"}, plain  # all others say more


def test_what_is_missing_is_named(out):
    with pytest.raises(SystemExit, match="tables/absent.md"):
        made(out, "tables/absent")
    (out / "figures" / "curve.png").unlink()
    with pytest.raises(SystemExit, match="figures/curve.png"):
        made(out)
    with pytest.raises(SystemExit, match="results/main"):
        made(out, "results/main")
    assert not (out / "report.html").exists()


def test_a_picture_of_many_points_comes_as_pixels(out, monkeypatch):
    assert "data:image/svg+xml;base64," in made(out)
    monkeypatch.setattr(report, "MOST_SVG", 100)
    html = made(out)
    assert "data:image/png;base64," in html and "svg+xml" not in html and 'alt="A &#34;curve&#34;."' in html


def test_a_page_that_is_too_large_gets_fewer_colors(out, monkeypatch):
    monkeypatch.setattr(report, "MOST_SVG", 100)
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    Image.fromarray(noise).save(out / "figures" / "curve.png")
    large = len(made(out).encode())
    monkeypatch.setattr(report, "MOST", large - 2000)
    assert len(made(out).encode()) <= large - 2000


def test_a_page_that_stays_too_large_is_refused(out, monkeypatch):
    monkeypatch.setattr(report, "MOST", 1000)
    with pytest.raises(SystemExit, match="figures/curve"):
        made(out)


@pytest.mark.parametrize(
    "text, html",
    [
        ("t* and k*", "t* and k*"),
        ("**t here**", "<strong>t here</strong>"),
        ("`a*b*`", "<code>a*b*</code>"),
        ("2 * 3 * 4", "2 * 3 * 4"),
        (r"a \| b", "a | b"),
        ("a & <b>", "a &amp; &lt;b&gt;"),
        ("a_b and c_d", "a_b and c_d"),
        ("[`x`](https://a.b/c)", '<a href="https://a.b/c"><code>x</code></a>'),
        ("[x](../y.ipynb)", "x"),
        ("[x](javascript:y)", "x"),
        ("[x](https://a.b 'onclick=y')", '<a href="https://a.b" title="onclick=y">x</a>'),
        ("![x](https://a.b/c.png)", '!<a href="https://a.b/c.png">x</a>'),
        ("<https://a.b>", "&lt;https://a.b&gt;"),
    ],
)
def test_markdown_within_a_line(text, html):
    assert report.inline(text) == html


def test_what_a_result_says_is_text_on_the_page(out):
    "Titles, heads, cells, headings between rows, captions and parameters cannot add HTML"
    hostile = lambda where: f'<img src=x onerror="{where}()">'
    provenance = Provenance(hostile("notebook"), {hostile("key"): hostile("parameter"), "seed": 0})
    shown = [
        {hostile("label"): hostile("group"), hostile("head"): hostile("cell"), "ACC": hostile(f"number{i}")}
        for i in range(4)
    ]
    save_table(out / "tables" / "hostile", shown, shown, hostile("caption"), provenance)
    facts = json.loads((out / "tables" / "hostile.json").read_text())
    (out / "tables" / "hostile.json").write_text(json.dumps(facts | {"title": hostile("title")}))
    facts = json.loads((out / "figures" / "curve.json").read_text())
    caption = f'A curve">{hostile("alt")}'
    (out / "figures" / "curve.json").write_text(json.dumps(facts | {"title": hostile("figure"), "caption": caption}))
    html = made(out, "--title", hostile("page"), "--plan", hostile("plan"))
    assert "<img src=x" not in html and html.count("<img ") == 1  # the picture
    places = "notebook key parameter label group head cell number3 caption title figure page plan"
    for where in places.split():
        assert f"{where}()" in html, where
    for tag in re.findall(r"<[^>]*>", html):
        assert "onerror" not in tag.split("=")[0] and not re.search(r"\sonerror=", re.sub(r'"[^"]*"', "", tag))
