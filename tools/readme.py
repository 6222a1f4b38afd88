"""Write README.md and its figures in readme_files/ from nbs/index.ipynb. With --check: report whether they match."""
import argparse
import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT, FILES = Path(__file__).resolve().parent.parent, "readme_files"


def hide_directives(notebook: nbformat.NotebookNode):
    "Take away what is for nbdev and not for readers: hidden cells, code whose output alone is shown, and directives"
    notebook.cells = [c for c in notebook.cells if not re.search(r"^#\|\s*hide\b", c.source, re.M)]
    for cell in notebook.cells:
        if re.search(r"^#\|\s*echo:\s*false", cell.source, re.M): cell.source = ""
        if cell.cell_type == "code": cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)


def convert() -> dict:
    "Path below the root -> bytes, for the README and each of its figures"
    notebook = nbformat.read(ROOT/"nbs"/"index.ipynb", as_version=4)
    hide_directives(notebook)
    notebook.metadata["language_info"] = {"name": "python"} # names the code fences; nbdev_clean removes it
    where = {"output_files_dir": FILES, "unique_key": "figure"}
    text, resources = MarkdownExporter().from_notebook_node(notebook, where)
    text = re.sub(r"```python\s*```\n", "", text)
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    text = re.sub(r"!\[(png|svg)\]", "![figure]", text)
    link = r"\]\((?!https?:|#|" + FILES + r"/)([^)\s]+)\)" # relative to nbs/ in the notebook, to the root in the README
    text = re.sub(link, lambda m: f"]({os.path.normpath(f'nbs/{m[1]}')})", text)
    return {"README.md": text.encode()} | {name: data for name, data in sorted(resources.get("outputs", {}).items())}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with status 1 if out of step")
    check, made = parser.parse_args().check, convert()
    if check:
        stale = [name for name, data in made.items() if not (ROOT/name).is_file() or (ROOT/name).read_bytes() != data]
        stale += [str(p.relative_to(ROOT)) for p in (ROOT/FILES).glob("*") if str(p.relative_to(ROOT)) not in made]
        if stale: sys.exit(f"out of step with nbs/index.ipynb: {', '.join(stale)}; run 'make readme'")
        print("in step")
        return
    shutil.rmtree(ROOT/FILES, ignore_errors=True)
    for name, data in made.items():
        (ROOT/name).parent.mkdir(exist_ok=True)
        (ROOT/name).write_bytes(data)
    print("wrote", ", ".join(made))


if __name__ == "__main__":
    main()
