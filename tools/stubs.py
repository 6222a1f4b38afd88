"""Write the type stubs of the modules whose classes grow by `@patch`, which type checkers cannot follow: diec/**/*.pyi.

With --check: change nothing, and exit with status 1 if a stub is out of step with its module.
"""

import argparse
import ast
import copy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = (
    "# Made from {} by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.\n\n"
)


def name_of(decorator: ast.expr) -> str:
    "The name of a decorator, called or not"
    return ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)


def without_body(function: ast.FunctionDef) -> ast.FunctionDef:
    "A function's signature: neither body nor docstring, and no decorator but those that change its type"
    typed = ("property", "staticmethod", "classmethod", "contextmanager")
    kept = [d for d in function.decorator_list if name_of(d) in typed]
    function.decorator_list, function.body = kept, [ast.Expr(ast.Constant(...))]
    return function


def as_method(function: ast.FunctionDef) -> ast.FunctionDef:
    "A patched function as it would stand inside its class"
    patch = next(ast.unparse(d) for d in function.decorator_list if name_of(d) == "patch")
    kind = "property" if "as_prop=True" in patch else "classmethod" if "cls_method=True" in patch else None
    method = without_body(function)
    method.args.args[0].annotation = None
    if kind:
        method.decorator_list = [ast.Name(kind)]
    return method


def owner_of(node: ast.stmt) -> str | None:
    "The name of the class that a patched function becomes a method of; None for everything else"
    if not isinstance(node, ast.FunctionDef) or "patch" not in map(name_of, node.decorator_list):
        return None
    return ast.unparse(node.args.args[0].annotation)


def imports_of(module: ast.Module, without: set = frozenset()) -> list:
    "The imports of a module, those for type checkers included, but for names in `without`"
    guarded = [n for n in module.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    found = [
        n for n in [*module.body, *(n for g in guarded for n in g.body)] if isinstance(n, (ast.Import, ast.ImportFrom))
    ]
    for node in found:
        node.names = [a for a in node.names if (a.asname or a.name) not in without]
    return [node for node in found if node.names]


def stub(module: ast.Module, others: list) -> str | None:
    "The stub of a module, to whose classes it and the others may add methods; None if none does"
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    sources = [m for m in (module, *others) if any(owner_of(node) in classes for node in m.body)]
    if not sources:
        return None
    for cls in classes.values():
        cls.body = [without_body(n) if isinstance(n, ast.FunctionDef) else n for n in cls.body]
    methods = [(owner_of(node), node) for m in sources for node in m.body if owner_of(node) in classes]
    for owner, function in methods:
        classes[owner].body.append(as_method(copy.deepcopy(function)))
    definitions = ast.Assign, ast.AnnAssign, ast.ClassDef, ast.FunctionDef
    own = [n for n in module.body if owner_of(n) is None and isinstance(n, definitions)]
    own = [without_body(n) if isinstance(n, ast.FunctionDef) else n for n in own]
    defined = {n.name for n in own if isinstance(n, (ast.ClassDef, ast.FunctionDef))}
    body = [*imports_of(module), *(i for m in sources if m is not module for i in imports_of(m, defined)), *own]
    return ast.unparse(ast.fix_missing_locations(ast.Module(body, []))) + "\n"


def stub_of_package(source: str) -> str:
    "The stub of `diec/__init__.py`, which imports its names on first use"
    assigned = [n for n in ast.parse(source).body if isinstance(n, ast.Assign)]
    modules = next(ast.literal_eval(n.value) for n in assigned if ast.unparse(n.targets[0]) == "_MODULE_OF")
    return "".join(f"from .{module} import {name} as {name}\n" for name, module in modules.items())


def stubs() -> dict:
    "Path -> text of every stub that the package needs"
    texts = {path: path.read_text() for path in sorted((ROOT / "diec").rglob("*.py"))}
    made = {}
    for path, text in texts.items():  # parsed for each module, because making a stub takes its functions apart
        others = [ast.parse(t) for p, t in texts.items() if p.parent == path.parent and p != path]
        made[path.with_suffix(".pyi")] = stub(ast.parse(text), others)
    made[ROOT / "diec" / "__init__.pyi"] = (
        stub_of_package((ROOT / "diec" / "__init__.py").read_text()) + "__version__: str\n"
    )
    return {path: HEADER.format(path.with_suffix(".py").name) + text for path, text in made.items() if text}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit with status 1 if a stub is out of step"
    )
    check, made, present = parser.parse_args().check, stubs(), set((ROOT / "diec").rglob("*.pyi"))
    if check:
        stale = [p for p in {*made, *present} if p not in made or not p.exists() or p.read_text() != made[p]]
        if stale:
            names = ", ".join(str(p.relative_to(ROOT)) for p in sorted(stale))
            sys.exit(f"Type stubs are out of step: {names}. Run: python -m tools.stubs")
        return
    for path in present - set(made):
        path.unlink()
    for path, text in made.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
