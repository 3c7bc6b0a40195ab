"""Passphrases: asked on the terminal or read from a file, never an argument that other users could see."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from secureimg.errors import KeyMaterialError

__all__ = ["PassphraseFile", "PassphrasePrompt", "read_passphrase"]

PassphrasePrompt = Annotated[bool, typer.Option("--passphrase", help="Ask for the passphrase that seals the key file.")]
PassphraseFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Read the passphrase from the first line of a file.")
]

_LONGEST = 4096


def read_passphrase(prompt: bool, file: Path | None, *, confirm: bool = False) -> str | None:
    """Return the passphrase, or None if none was asked for.

    Raises
    ------
    KeyMaterialError
        If both ways are given, the file cannot be read, there is no terminal to ask on, or the passphrase is empty.
    """
    if file is not None:
        if prompt:
            raise KeyMaterialError("--passphrase and --passphrase-file exclude each other: give one")
        try:
            with file.open("rb") as stream:
                text = stream.read(_LONGEST).decode().partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError):
            raise KeyMaterialError(f"{file} cannot be read as text: check --passphrase-file") from None
    elif prompt:
        if not sys.stdin.isatty():
            raise KeyMaterialError("there is no terminal to ask for a passphrase on: use --passphrase-file")
        text = getpass.getpass("passphrase: ")
        if confirm and getpass.getpass("again: ") != text:
            raise KeyMaterialError("the two passphrases differ: try again")
    else:
        return None
    if not text:
        raise KeyMaterialError("the passphrase is empty: choose one, or leave the option out")
    return text
