"""Figures from the page of measurements, by table and row: written once, and never without the command behind them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from docutils.statemachine import StringList

__all__ = ["Measured", "Table", "read"]

PAGE = Path(__file__).parent.parent / "measured.md"


@dataclass(frozen=True)
class Table:
    """A table of the page of measurements.

    Attributes
    ----------
    name : str
        Of the anchor above it, without "measured-".
    command : str
        What makes the figures again.
    head : tuple of str
        Names of the columns.
    rows : tuple of tuple of str
    """

    name: str
    command: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def part(self, rows: list[str], columns: list[str]) -> str:
        """Return some rows and columns as Markdown; all if none are named.

        Raises
        ------
        LookupError
            If the table has no such row or column.
        """
        unknown = [*(set(rows) - {row[0] for row in self.rows}), *(set(columns) - set(self.head))]
        if unknown:
            raise LookupError(f"the table {self.name!r} of docs/measured.md has no {', '.join(sorted(unknown))}")
        places = [0, *(self.head.index(column) for column in columns)] if columns else list(range(len(self.head)))
        chosen = [row for row in self.rows if not rows or row[0] in rows]
        lines = [self.head, ("---", *["---:"] * (len(self.head) - 1)), *chosen]
        return "\n".join("| " + " | ".join(line[place] for place in places) + " |" for line in lines)


def read(page: str) -> dict[str, Table]:
    """All tables of the page: an anchor, then a command, then the table."""
    found = {}
    for section in re.split(r"^\(measured-", page, flags=re.MULTILINE)[1:]:
        name = section.partition(")=")[0]
        command = re.search(r"^```sh\n(.+?)\n```", section, re.MULTILINE | re.DOTALL)
        lines = re.findall(r"^\|(.+)\|$", section, re.MULTILINE)
        if command is None or len(lines) < 3:
            raise LookupError(f"docs/measured.md: {name!r} needs a command in a sh block, then a table")
        cells = [tuple(cell.strip() for cell in line.split("|")) for line in lines]
        found[name] = Table(name, command[1].splitlines()[0], cells[0], tuple(cells[2:]))
    return found


class Measured(Directive):
    """``{measured} TABLE``: rows of it, and the command; options rows and columns, with semicolons between."""

    required_arguments = 1
    has_content = False
    option_spec: ClassVar = {"rows": directives.unchanged, "columns": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Return the table and its command."""
        self.state.document.settings.env.note_dependency(str(PAGE))
        tables = read(PAGE.read_text(encoding="utf-8"))
        try:
            table = tables[self.arguments[0]]
            text = table.part(*(_listed(self.options.get(name, "")) for name in ("rows", "columns")))
        except LookupError as error:
            raise self.error(str(error)) from None
        text += f"\n\nMeasured by `{table.command}`; [all rows, and on which machine](#measured-{table.name}).\n"
        node = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), str(PAGE)), self.content_offset, node)
        return node.children


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]
