"""The API reference: a page for each public package, made of its ``__all__``."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Container
from typing import Any

from docs.making import public

__all__ = ["escape", "missing", "pages", "restore", "shorten"]

_LONGEST_VALUE = 70
_VALUES = ("attribute", "data", "property")
_KEPT: dict[str, list[str]] = {}
_LIKE = re.compile(r"~numpy\._typing\._array_like\._Buffer \| .*?_NestedSequence\[complex \| bytes \| str\]")
_ARRAY = re.compile(r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[~(?:numpy|typing)\.(\w+)\]\]")


def pages() -> dict[str, str]:
    """Pages by name: ``api/index`` and one for each package."""
    packages = [package for package in public.packages() if not all(item.home for item in public.names(package))]
    made = {f"api/{package}": _page(package) for package in packages}
    lines = "\n".join(f"   {package}" for package in packages)
    made["api/index"] = f"""\
API reference
=============

Every public name: what the ``__all__`` of each package holds. Names are imported from the package whose page they are on.

.. toctree::
   :maxdepth: 1

{lines}
"""
    return made


def missing(described: Container[str]) -> list[str]:
    """Return what is wrong if not every public name is in the index of the built pages."""
    items = [item for package in public.packages() for item in public.names(package)]
    full = [f"{item.home or item.package}.{item.name}" for item in items]
    return [f"{name} is public and on no page" for name in full if name not in described]


def escape(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Let stars, bars and underscores of formulas in docstrings mean themselves."""
    lines[:] = [_escaped(line) for line in lines]
    if what in _VALUES:
        _KEPT[name] = lines[:]


def restore(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Undo what napoleon makes of an attribute's text: it takes the words before a colon for a type."""
    if what in _VALUES:
        lines[:] = _KEPT.pop(name, lines)


def shorten(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """Write numpy's types as the source has them: ArrayLike, NDArray[float64]."""
    short = [text and _ARRAY.sub(r"NDArray[\1]", _LIKE.sub("ArrayLike", text)) for text in (signature, result)]
    return short[0], short[1]


def _escaped(line: str) -> str:
    parts = re.split(r"(``.+?``|`.+?`)", line)
    for place in range(0, len(parts), 2):
        parts[place] = re.sub(r"\*(?=\w)|\|(?=\S)|(?<=\w)_(?!\w)", r"\\\g<0>", parts[place])
    return "".join(parts)


def _page(package: str) -> str:
    doc = inspect.getdoc(importlib.import_module(package)) or ""
    found = sorted(public.names(package), key=lambda item: item.name.lower())
    blocks = [f"{package}\n{'=' * len(package)}\n", f".. py:module:: {package}\n   :no-typesetting:\n", f"{doc}\n"]
    blocks.append(_list(found))
    blocks += [_block(item) for item in found if not item.home]
    return "\n".join(blocks)


def _list(found: list[public.PublicName]) -> str:
    rows = [".. list-table::\n   :widths: auto\n   :class: names\n"]
    for item in found:
        where = item.home or item.package
        rows.append(f"   * - `~{where}.{item.name}`\n     - {_first_line(item.doc)}")
    return "\n".join(rows) + "\n"


def _first_line(doc: str) -> str:
    paragraph = " ".join(doc.partition("\n\n")[0].split())
    return _escaped(paragraph) or "."


def _block(item: public.PublicName) -> str:
    full = f"{item.package}.{item.name}"
    if item.kind == "data":
        value = item.value if len(item.value) <= _LONGEST_VALUE else ""
        shown = f"   :value: {value}\n" if value else ""
        text = "\n".join(f"   {line}".rstrip() for line in item.doc.splitlines())
        return f".. py:data:: {item.name}\n   :module: {item.package}\n{shown}\n{text}\n"
    if item.kind == "function":
        return f".. autofunction:: {full}\n"
    bases = "   :show-inheritance:\n" if item.kind == "exception" else ""
    return f".. auto{item.kind}:: {full}\n   :members:\n{bases}"
