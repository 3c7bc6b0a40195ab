"""Tables of features, made of the catalogue and of docstrings."""

from __future__ import annotations

import inspect
import re
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from docutils.statemachine import StringList

from secureimg import features

__all__ = ["Catalogue", "Notes", "section", "table"]

_EXECUTORS = ("plain", "ckks", "shares")


def table(names: list[str]) -> str:
    """Return a table of functions in Markdown: what each is, what it runs on, its parameters and their defaults."""
    lines = [
        "| feature | what it gives | ckks | shares | channels | parameters |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        item = features.FEATURES[name]
        runs = " | ".join("yes" if executor in item.executors else "no" for executor in ("ckks", "shares"))
        channels = " or ".join(map(str, item.channels))
        given = ", ".join(f"`{key}={value}`" if value else f"`{key}`" for key, value in item.defaults.items())
        lines.append(f"| {_linked(name)} | {_escaped(item.summary)} | {runs} | {channels} | {given or 'none'} |")
    return "\n".join(lines)


def section(name: str, title: str) -> str:
    """A section of a public function's docstring."""
    doc = inspect.getdoc(getattr(features, name)) or ""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\w[\w ]*\n---+\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def _linked(name: str) -> str:
    return f"{{py:obj}}`~secureimg.features.{name}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


class _Listed(Directive):
    has_content = False
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar = {"all": directives.flag}

    def names(self) -> list[str]:
        return (self.arguments[0] if self.arguments else " ".join(features.FEATURES)).split()

    def parsed(self, text: str) -> list[nodes.Node]:
        node = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), "secureimg.features"), self.content_offset, node)
        return node.children


class Catalogue(_Listed):
    """``{catalogue} NAMES``: a table of these features; of all if none is named."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        return self.parsed(table(self.names()))


class Notes(_Listed):
    """``{feature-notes} NAMES``: what their docstrings say on cost, leakage and deviations."""

    def run(self) -> list[nodes.Node]:
        """Return a definition for each function."""
        found = [(name, section(name, "Notes")) for name in self.names()]
        missing = [name for name, text in found if not text]
        if missing:
            raise self.error(f"no Notes in the docstrings of {', '.join(missing)}")
        entries = []
        for name, text in found:
            lines = text.replace("``", "`").splitlines()
            entries.append("\n".join([_linked(name), f": {lines[0]}", *(f"  {line}".rstrip() for line in lines[1:])]))
        return self.parsed("\n\n".join(entries))
