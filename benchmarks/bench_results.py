"""The report of ``secureimg bench`` as JSON: one schema, with its version. Everything that is shown is made from it.

Times are seconds, sizes bytes, for one picture, if nothing else is said.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from secureimg.errors import BlobError

from .results import Spread

__all__ = [
    "SCHEMA",
    "Errors",
    "Layer",
    "Link",
    "PeerRow",
    "Picture",
    "Report",
    "Row",
    "Seen",
    "Shown",
    "Subject",
    "Table",
    "load_report",
    "report_bytes",
]

SCHEMA: Final = "secureimg-bench/1"
_MOST_BYTES: Final = 256 << 20


class _Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Layer(_Struct, frozen=True):
    """One layer on one executor.

    Attributes
    ----------
    name, kind : str
        Of the graph's node, and what it is made of there.
    seconds : Spread
        Measured, all roles in one process and without a network.
    predicted : float or None
        What the compiler says for this machine; None where it says nothing.
    primes : int or None
        CKKS: data primes left at its start.
    rotations, products : int or None
        CKKS: how many.
    rounds, sent, dealt : int or None
        Shares: messages that wait for each other, bytes between the parties, bytes from the dealer.
    """

    name: str
    kind: str
    seconds: Spread
    predicted: float | None = None
    primes: int | None = None
    rotations: int | None = None
    products: int | None = None
    rounds: int | None = None
    sent: int | None = None
    dealt: int | None = None


class Link(_Struct, frozen=True):
    """Bytes that go one way over one link: `when` is "once" (an owner or model), "offline" or "online" (a picture)."""

    source: str
    sink: str
    when: str
    bytes: int


class Errors(_Struct, frozen=True):
    """How far answers are from the plain model's.

    Attributes
    ----------
    largest, relative : float or None
        Largest over all outputs of all pictures; and over the plain model's largest output. None if a label is revealed.
    bound : float or None
        What the compiler predicts at most.
    edges, counts : tuple
        A histogram of log10 of the error over the largest output; the first bar also holds what is smaller.
    labels_equal, labels_total : int
    """

    largest: float | None
    relative: float | None
    bound: float | None
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    labels_equal: int
    labels_total: int


class Seen(_Struct, frozen=True):
    """What one role saw of the first picture: its size, and as many of its values as fit, as a PNG in base64."""

    who: str
    what: str
    bytes: int
    png: str


class Row(_Struct, frozen=True):
    """A subject on an executor over a network.

    Attributes
    ----------
    key : str
        Digest of the model, the pictures, the settings, the machine and the versions: an equal key need not run again.
    phases : dict of str to Spread
        Of each picture: plain "evaluate"; CKKS "encrypt", "evaluate", "carry" (sending, queueing, receiving), "decrypt";
        shares "offline", "online".
    total : Spread
        Of a whole picture.
    once : dict of str to float
        Of an owner or model: "compile", "keygen", "keys sent", "session".
    overhead : float or None
        Median total over the plain one's.
    predicted : float or None
        Total from the loopback row's times and this network's rate and round trip.
    """

    key: str
    subject: str
    executor: str
    network: str
    shaped_by: str
    phases: dict[str, Spread]
    total: Spread
    once: dict[str, float]
    peak_rss: dict[str, int]
    links: tuple[Link, ...] = ()
    overhead: float | None = None
    predicted: float | None = None
    rounds: int | None = None
    levels: int | None = None
    rotations: int | None = None
    galois_keys: int | None = None
    errors: Errors | None = None
    layers: tuple[Layer, ...] = ()
    parameters: dict[str, Any] = {}
    answers: tuple[str, ...] = ()
    seen: tuple[Seen, ...] = ()

    @property
    def title(self) -> str:
        """Name of the row in tables."""
        return f"{self.subject}, {self.executor}" + (f", {self.network}" if self.network != "loopback" else "")


class Picture(_Struct, frozen=True):
    """A picture that was measured, small, as a PNG in base64."""

    name: str
    png: str


class Subject(_Struct, frozen=True):
    """What was measured: a model and its pictures.

    Attributes
    ----------
    digest : str
        The graph's fingerprint.
    pictures : tuple of Picture
        The first few of them.
    """

    name: str
    about: str
    digest: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    nodes: int
    weights: int
    images: int
    pictures: tuple[Picture, ...]


class PeerRow(_Struct, frozen=True):
    """Another system on a subject; `failure` says why there are no figures."""

    peer: str
    subject: str
    beside: str
    network: str
    seconds: Spread | None
    bytes: int | None
    rounds: int | None
    error: float | None
    ratio: float | None
    failure: str | None = None


class Table(_Struct, frozen=True):
    """A table as it is shown: `group` is the section, `note` is what is needed to read it."""

    group: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Shown(_Struct, frozen=True):
    """Every text of the page that holds a figure.

    Attributes
    ----------
    figures : dict of str to str
        From the place of a value in this file (``rows.0.total.median``) to the text that stands for it.
    """

    title: str
    subtitle: str
    summary: tuple[str, ...]
    how: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    subjects: dict[str, str]
    answers: dict[str, tuple[tuple[str, ...], ...]]
    seen: dict[str, tuple[str, ...]]
    tables: tuple[Table, ...]
    captions: dict[str, str]
    figures: dict[str, str]


class Report(_Struct, frozen=True):
    """Everything that one run measured, with what is needed to judge it, and the texts that are shown."""

    made: str
    command: str
    settings: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]
    subjects: tuple[Subject, ...]
    rows: tuple[Row, ...]
    peers: tuple[PeerRow, ...] = ()
    failures: tuple[str, ...] = ()
    seconds: float = 0.0
    shown: Shown | None = None
    schema: str = SCHEMA


def report_bytes(report: Report) -> bytes:
    """Return the JSON file of a report."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def load_report(path: Path) -> Report:
    """Read a JSON file.

    Raises
    ------
    BlobError
        If it cannot be read, is too large, or is not a report of this schema.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BlobError(f"{path} has {path.stat().st_size:,} bytes, more than any report: is it the right file?")
        report = msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise BlobError(f"{path} cannot be read: {error.strerror}: give a bench.json") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise BlobError(f"{path} is not a report of `secureimg bench` ({error}): give a bench.json") from None
    if report.schema != SCHEMA:
        raise BlobError(f"{path} has the schema {report.schema!r}, this release reads {SCHEMA!r}: measure again")
    return report
