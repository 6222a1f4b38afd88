"""How the site shows what others make: formulas, notebooks and constants (tools/docs.py)."""
import logging
import re
from html import unescape

import griffe
from latex2mathml.converter import convert

log = logging.getLogger("mkdocs.hooks.docs")  # with --strict, a warning fails the build
NOTEBOOK = re.compile(r'<div class="jp-Notebook".*</div>(?= <!-- jp-Notebook)', re.S)  # without styles and scripts
COPY = re.compile(r'<div class="zeroclipboard.*?</clipboard-copy>\s*</div>|<div [^>]*clipboard-copy-txt.*?</div>', re.S)
STYLE = re.compile(r"<style.*?</style>", re.S)
CODE = re.compile(r'<div class="(?:highlight|codehilite)[^"]*"><pre>(.*?)</pre></div>', re.S)
ARITHMATEX = re.compile(r'<(div|span) class="arithmatex">\\[\[(](.+?)\\[\])]</\1>', re.S)


def mathml(formula: str, display: str) -> str:
    "A formula in LaTeX as MathML; one with a command that the converter does not know fails the build."
    formula = re.sub(r"\\(mathbb|mathcal) (\w)", r"\\\1{\2}", formula)  # in this form browsers show it
    html = convert(formula.replace(r"\arg", r"\operatorname{arg}"), display=display)
    if "\\" in html: log.warning(f"unknown command in the formula {formula}")
    html = html.replace("<mo>&#x02016;", '<mo stretchy="false">&#x02016;')  # norms as high as a letter
    return re.sub(r"([\[(,=]</mo>)<mo>&#x02212;", r'\1<mo form="prefix">&#x02212;', html)  # a sign, not a difference


def code(match: re.Match) -> str:
    "Code in the theme's markup; nothing for a cell that shows its outputs only."
    text = re.sub("<span></span>|</?code>", "", match[1])
    return f'<div class="highlight"><pre><code>{text}</code></pre></div>' if text.strip() else ""


def in_theme(html: str, title: str) -> str:
    "What mkdocs-jupyter makes of a notebook, in the theme's own markup."
    html = STYLE.sub("", COPY.sub("", NOTEBOOK.search(html)[0]))
    html = re.sub("<table[^>]*>", "<table>", CODE.sub(code, html)).replace('class="anchor-link"', 'class="headerlink"')
    return html.replace("No description has been provided for this image", f"A figure of this notebook, {title}")


def with_formulas(html: str) -> str:
    "A page made from Markdown, with its formulas as MathML."
    return ARITHMATEX.sub(lambda m: mathml(unescape(m[2]), "block" if m[1] == "div" else "inline"), html)


def with_choices(docstring: griffe.Docstring | None):
    "Show the choices of a parameter as they are written; parsed as an expression they lose their quotes."
    sections = docstring.parsed if docstring else []
    for p in (p for section in sections if section.kind.value == "parameters" for p in section.value):
        found = re.search(rf"^ *{re.escape(p.name)} : (\{{.+?\}}.*?)(?:, default.*)?$", docstring.value, re.M)
        if found: p.annotation = found[1]


class Comments(griffe.Extension):
    "What Griffe does not read: comments on constants, and choices such as {\"pca\", \"tsne\"} as types."

    def on_function(self, *, func, **_):
        "Called for each function and method."
        with_choices(func.docstring)

    def on_class(self, *, cls, **_):
        "Called for each class."
        with_choices(cls.docstring)

    def on_attribute(self, *, attr, **_):
        "Called for each attribute of a module or class that is not a method."
        if "property" in attr.labels: return
        code = attr.module.filepath.read_text(encoding="utf-8")
        found = re.search(rf"^(?:# (?!%)(.+)\n)?{re.escape(attr.name)}\b[^=\n]*=[^#\n]*(?:# (.+))?$", code, re.M)
        text = found and attr.parent.is_module and (found[2] or found[1])
        if str(attr.value).startswith("_tuplegetter"): attr.value = None  # a field of a named tuple
        attr.docstring = griffe.Docstring(text, parent=attr) if text else None
