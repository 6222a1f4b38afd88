"""Public functions and classes (those in a module's `__all__`) have typed signatures and complete numpydoc docstrings."""

import importlib
import inspect
from pathlib import Path

import pytest
from numpydoc.validate import validate

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    ".".join(p.relative_to(ROOT).with_suffix("").parts)
    for p in (ROOT / "diec").rglob("*.py")
    if p.stem not in ("__init__", "_modidx")
)
# ES01 extended summary, SA01 "See Also", EX01 examples: where they help. GL01 to GL03: where line breaks stand. SS06: a summary of one line.
# YD01: generators say what they yield under Returns or Yields. PR02, PR10: numpydoc cannot read keyword-only dataclass fields.
OPTIONAL = {"ES01", "SA01", "EX01", "GL01", "GL02", "GL03", "SS06"}


def public(module: str) -> list:
    "Names of the functions and classes that a module defines for users"
    found = importlib.import_module(module)
    members = {name: getattr(found, name) for name in found.__all__}
    return [
        name for name, m in members.items() if (inspect.isfunction(m) or inspect.isclass(m)) and m.__module__ == module
    ]


NAMES = [f"{module}.{name}" for module in MODULES for name in public(module)]


@pytest.mark.parametrize("name", NAMES)
def test_docstring_is_numpydoc(name):
    assert [f"{code}: {text}" for code, text in validate(name)["errors"] if code not in OPTIONAL] == []


@pytest.mark.parametrize("name", NAMES)
def test_signature_is_typed(name):
    module, _, attribute = name.rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), attribute)).parameters.values()
    assert [p.name for p in parameters if p.annotation is p.empty] == []
