"""The house in topological order: every module with the first sentence of its docstring, below those that it uses."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import groupby
from pathlib import Path

__all__ = ["Module", "first_sentence", "modules", "page"]

_ROOTS = ("secureimg", "protocols", "benchmarks", "fuzzing", "training")


@dataclass(frozen=True)
class Module:
    """A module of the tree.

    Attributes
    ----------
    name : str
        Dotted.
    floor : str
        The package under which it is listed: secureimg.graph, or benchmarks.
    sentence : str
        The first one of its docstring; empty if it has none.
    uses : frozenset of str
        Names of the modules that it imports when it is loaded.
    """

    name: str
    floor: str
    sentence: str
    uses: frozenset[str]


def modules(root: Path) -> list[Module]:
    """Every module after all that it uses; those of one package stand together where that is possible.

    Raises
    ------
    graphlib.CycleError
        If two modules use each other.
    """
    files = {_name(path.relative_to(root)): path for top in _ROOTS for path in sorted((root / top).rglob("*.py"))}
    packages = {name for name, path in files.items() if path.name == "__init__.py"}
    found = {}
    for name, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        uses = frozenset(_uses(name if name in packages else name.rpartition(".")[0], tree, set(files)) - {name})
        found[name] = Module(name, _floor(name, packages), first_sentence(ast.get_docstring(tree) or ""), uses)
    return _sorted(found, _layers(root))


def first_sentence(doc: str) -> str:
    """Of a docstring, on one line."""
    paragraph = " ".join(doc.partition("\n\n")[0].split())
    sentence, stop, _ = paragraph.partition(". ")
    return sentence + stop.strip()


def page(root: Path) -> str:
    """The page for contributors, in reStructuredText like the docstrings."""
    text = """\
The house, a module a line
==========================

Each module imports only modules above it. The list is made of the modules' docstrings and imports when the site is built.
"""
    for floor, items in groupby(modules(root), lambda module: module.floor):
        text += f"\n{floor}\n{'-' * len(floor)}\n\n.. list-table::\n   :class: names\n\n"
        text += "".join(f"   * - ``{module.name}``\n     - {module.sentence}\n" for module in items)
    return text


def _sorted(found: dict[str, Module], layers: list[str]) -> list[Module]:
    """Roots in order, layers from below, and modules of one package together where that is possible."""
    order: list[Module] = []
    ready: set[str] = set()

    def urgency(name: str) -> tuple[int, int, bool, str, str]:
        module = found[name]
        layer = layers.index(module.floor) if module.floor in layers else 0
        return (
            _ROOTS.index(name.split(".")[0]),
            layer,
            bool(order) and order[-1].floor != module.floor,
            module.floor,
            name,
        )

    sorter = TopologicalSorter({name: module.uses for name, module in found.items()})
    sorter.prepare()
    while sorter.is_active():
        ready |= set(sorter.get_ready())
        name = min(ready, key=urgency)
        ready.remove(name)
        order.append(found[name])
        sorter.done(name)
    return order


def _layers(root: Path) -> list[str]:
    """What import-linter holds, from below."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(item for item in settings["tool"]["importlinter"]["contracts"] if item["type"] == "layers")
    return [name.strip() for layer in reversed(contract["layers"]) for name in re.split("[|:]", layer)]


def _floor(name: str, packages: set[str]) -> str:
    parts = name.split(".")
    second = ".".join(parts[:2])
    return (
        second if parts[0] == "secureimg" and second in packages else parts[0]
    )  # packages of protocols use each other


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _loaded(node: ast.AST) -> Iterator[ast.AST]:
    """All parts of a module but the bodies of its functions and what is for type checkers only."""
    for child in ast.iter_child_nodes(node):
        for_checkers = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not for_checkers and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _loaded(child)


def _uses(package: str, tree: ast.Module, known: set[str]) -> set[str]:
    """Names of the known modules that a module of a package imports when it is loaded."""
    found = set()
    for node in _loaded(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                base = package.split(".")
                source = ".".join([*base[: len(base) - node.level + 1], *filter(None, [source])])
            inner = {f"{source}.{alias.name}" for alias in node.names} & known
            found |= inner or {source}
    return found & known
