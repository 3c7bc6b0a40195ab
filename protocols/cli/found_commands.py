"""Commands that other installed parts bring along, as entry points of the group ``secureimg.commands``.

So what lies above this package in the layers, like the benchmarks, has its command here without being imported from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Final

import typer

__all__ = ["GROUP", "add_found"]

GROUP: Final = "secureimg.commands"
_PANEL: Final = "What it costs"


def add_found(app: typer.Typer, words: Sequence[str]) -> None:
    """Add the commands that are found, unless the words on the command line begin with one of our own.

    An entry is a function, or a `typer.Typer` with commands of its own. Our own commands are never replaced.

    Parameters
    ----------
    app : typer.Typer
    words : sequence of str
        Without the program's name.
    """
    own = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    if words and words[0] in own:
        return  # looking for entry points and loading them takes time
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry.name in own:
            continue
        found = entry.load()
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=entry.name, rich_help_panel=_PANEL)
        else:
            app.command(entry.name, rich_help_panel=_PANEL)(found)
