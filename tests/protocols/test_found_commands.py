"""Commands of other installed parts are found; they cannot take the place of our own."""

from __future__ import annotations

import tomllib
from importlib import import_module, metadata
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from protocols.cli import found_commands
from protocols.cli.found_commands import GROUP, add_found


class Entry:
    def __init__(self, name: str, found: object) -> None:
        self.name, self._found = name, found

    def load(self) -> object:
        return self._found


def say(word: str) -> None:
    """Say a word."""
    typer.echo(f"found: {word}")


def app_with(monkeypatch: pytest.MonkeyPatch, *entries: Entry, words: tuple[str, ...] = ()) -> typer.Typer:
    app = typer.Typer()
    app.command("run")(lambda: typer.echo("our own"))
    app.command("other")(lambda: None)
    monkeypatch.setattr(found_commands.metadata, "entry_points", lambda group: [*entries] if group == GROUP else [])
    add_found(app, words)
    return app


def test_a_function_and_a_group_become_commands(monkeypatch):
    group = typer.Typer()
    group.command("say")(say)
    group.command("other")(lambda: None)
    app = app_with(monkeypatch, Entry("say", say), Entry("group", group))
    assert "found: a" in CliRunner().invoke(app, ["say", "a"]).output
    assert "found: b" in CliRunner().invoke(app, ["group", "say", "b"]).output


def test_our_own_command_stays_whatever_another_part_brings(monkeypatch):
    app = app_with(monkeypatch, Entry("run", say))
    assert "our own" in CliRunner().invoke(app, ["run"]).output


def test_nothing_is_looked_for_when_the_command_is_our_own(monkeypatch):
    app = app_with(monkeypatch, Entry("say", say), words=("run",))
    assert {command.name for command in app.registered_commands} == {"run", "other"}


def test_what_the_project_declares_is_there():
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["entry-points"]
    for name, text in declared[GROUP].items():
        entry = metadata.EntryPoint(name, text, GROUP)
        assert isinstance(entry.load(), typer.Typer)
        assert import_module(entry.module).__all__ == [entry.attr]
