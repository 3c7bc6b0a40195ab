"""Finished rows on disk, a line each, so that a run that was interrupted goes on where it stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from secureimg.errors import SecureImgError

from .bench_results import PeerRow, Row

__all__ = ["Journal"]

_NAME: Final = "rows.jsonl"
_MOST_BYTES: Final = 1 << 30


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """One row, or one peer's row with the key that it is found by."""

    row: Row | None = None
    peer: PeerRow | None = None
    key: str = ""


class Journal:
    """The rows of a directory.

    Parameters
    ----------
    directory : Path
        Made if it is not there. If it is, it must be empty or hold a journal: nobody's files are written over.

    Raises
    ------
    SecureImgError
        If the directory is something else.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / _NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()) and not self._path.is_file():
                raise SecureImgError(
                    f"{directory} holds other files than a benchmark's: name another directory with --out"
                )
            self._path.touch(mode=0o600)
            if self._path.stat().st_size > _MOST_BYTES:
                raise SecureImgError(f"{self._path} is larger than any journal: remove it, or name another --out")
            self._rows, self._peers, good = self._read()
            os.truncate(self._path, good)  # a line that an interruption cut is measured again
        except OSError as error:
            raise SecureImgError(f"{directory} cannot be used: {error.strerror}: name another one with --out") from None

    def _read(self) -> tuple[dict[str, Row], dict[str, PeerRow], int]:
        rows: dict[str, Row] = {}
        peers: dict[str, PeerRow] = {}
        good = 0
        for line in self._path.read_bytes().splitlines(keepends=True):
            try:
                found = msgspec.json.decode(line, type=_Line)
            except msgspec.DecodeError:
                if line.endswith(b"\n"):  # another release's: its rows are not ours
                    good += len(line)
                    continue
                break
            if not line.endswith(b"\n"):
                break
            good += len(line)
            if found.row is not None:
                rows[found.row.key] = found.row
            elif found.peer is not None:
                peers[found.key] = found.peer
        return rows, peers, good

    def row(self, key: str) -> Row | None:
        """The row of a key, if it was finished."""
        return self._rows.get(key)

    def peer(self, key: str) -> PeerRow | None:
        """A peer's row, if it was finished."""
        return self._peers.get(key)

    def add(self, row: Row) -> None:
        """Write a finished row; it is on disk when this returns."""
        self._rows[row.key] = row
        self._append(_Line(row=row))

    def add_peer(self, key: str, row: PeerRow) -> None:
        """Write a peer's finished row."""
        self._peers[key] = row
        self._append(_Line(peer=row, key=key))

    def _append(self, line: _Line) -> None:
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())
