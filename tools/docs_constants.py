"""An extension of Griffe, which reads the modules for the reference pages of the site."""
import re

import griffe


class Constants(griffe.Extension):
    "The comment on a constant is its description; without this it would be the one of its type."

    def on_attribute(self, *, attr, **_):
        "Called for each attribute of a module or class that is not a method."
        if "property" in attr.labels: return
        code = attr.module.filepath.read_text(encoding="utf-8")
        found = re.search(rf"^(?:# (?!%)(.+)\n)?{re.escape(attr.name)}\b[^=\n]*=[^#\n]*(?:# (.+))?$", code, re.M)
        text = found and attr.parent.is_module and (found[2] or found[1])
        attr.docstring = griffe.Docstring(text, parent=attr) if text else None
