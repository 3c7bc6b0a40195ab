"""What is public: every package with an ``__all__``, and what each of its names is."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["MODULES", "PublicName", "names", "packages"]

ROOTS = ("secureimg", "protocols")
MODULES = ("secureimg.errors",)
"""Public modules that are no packages."""


@dataclass(frozen=True)
class PublicName:
    """One name of an ``__all__``.

    Attributes
    ----------
    package, name : str
    kind : str
        "class", "exception", "function" or "data".
    doc : str
        Its docstring; of data the text below its assignment.
    value : str
        Of data: what stands behind the ``=``.
    home : str
        Package in which it is public, too, and which stands above: it is described there.
    """

    package: str
    name: str
    kind: str
    doc: str
    value: str = ""
    home: str = ""


def packages() -> list[str]:
    """Dotted names of all public packages and modules, those above before those below."""
    found = list(MODULES)
    for root in ROOTS:
        top = importlib.import_module(root)
        below = pkgutil.walk_packages(top.__path__, f"{root}.")
        found += [name for name in (root, *(item.name for item in below if item.ispkg)) if _exported(name)]
    return found


def names(package: str) -> list[PublicName]:
    """All names of a package's ``__all__``."""
    module = importlib.import_module(package)
    return [_public_name(module, name) for name in _exported(package)]


def _exported(package: str) -> list[str]:
    module = importlib.import_module(package)
    exported = list(getattr(module, "__all__", ()))
    return exported or ([] if package not in MODULES else _classes(module))


def _classes(module: ModuleType) -> list[str]:
    return [
        name for name, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module.__name__
    ]


def _public_name(module: ModuleType, name: str) -> PublicName:
    thing, package = getattr(module, name), module.__name__
    above = package.rpartition(".")[0]
    home = (
        above
        if above and getattr(importlib.import_module(above), name, None) is thing and name in _exported(above)
        else ""
    )
    if inspect.isclass(thing):
        kind = "exception" if issubclass(thing, BaseException) else "class"
        return PublicName(package, name, kind, _own_docstring(thing), home=home)
    if inspect.isroutine(thing) or hasattr(thing, "__wrapped__"):
        return PublicName(package, name, "function", inspect.getdoc(thing) or "", home=home)
    doc, value = _assignment(module, name)
    return PublicName(package, name, "data", doc, value, home)


def _own_docstring(thing: type[Any]) -> str:
    doc = vars(thing).get("__doc__") or ""
    return "" if doc.startswith(f"{thing.__name__}(") else inspect.cleandoc(doc)  # a dataclass writes one itself


def _assignment(module: ModuleType, name: str) -> tuple[str, str]:
    """The text below the assignment of a name, and what is assigned; follows imports to where that stands."""
    body = _tree(module).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    source = "." * node.level + node.module
                    return _assignment(importlib.import_module(source, module.__name__), alias.name)
        if name in _targets(node):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            value = getattr(node, "value", None)
            return inspect.cleandoc(str(text)), ast.unparse(value) if value is not None else ""
    return "", ""


def _targets(node: ast.stmt) -> Iterator[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in targets:
        if isinstance(target, ast.Name):
            yield target.id


@cache
def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
