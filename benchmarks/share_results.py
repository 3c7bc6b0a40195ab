"""What a run on shares returns, and how it is written to and read from JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .results import Spread

__all__ = ["SCHEMA", "PeerFigure", "ShareRow", "ShareRun"]

SCHEMA = "secureimg-benchmark-shares/1"


@dataclass(frozen=True)
class PeerFigure:
    """What a peer took for the same row, preprocessing included; all None but `failure` if it failed."""

    seconds: Spread | None
    bytes: int | None
    rounds: int | None
    error: float | None
    failure: str | None = None


@dataclass(frozen=True)
class ShareRow:
    """One row on one network. Times in seconds, sizes in bytes.

    `offline` is from asking for correlations to both parties being ready; `online` from splitting the image to having the
    result, the owner's two links included; `total` their sum for one image. `online_bytes` go between the parties,
    `dealt_bytes` from dealer to parties, `weight_bytes` once for a model and dealer, `owner_bytes` from and to the owner.
    `error` is the largest one over the largest output (None where a label is revealed: then `labels_equal` counts);
    `image_effect` is how far the plain answers to two images are apart, over the largest output: an error means little
    where a model answers all images alike.
    """

    work: str
    network: str
    dealer: str
    online: Spread
    offline: Spread
    total: Spread
    first: float
    plain: Spread
    compile: float
    online_bytes: int
    dealt_bytes: int
    weight_bytes: int
    owner_bytes: int
    rounds: int
    error: float | None
    image_effect: float
    labels_equal: int
    labels_total: int
    peak_rss: dict[str, int]
    shaped_by: str
    peers: dict[str, PeerFigure]

    @property
    def overhead(self) -> float:
        """Offline and online over plain numpy."""
        return self.total.median / self.plain.median

    def peer_ratio(self, peer: str) -> float | None:
        """Return the peer's time over ours with offline; None without the peer."""
        figure = self.peers.get(peer)
        return figure.seconds.median / self.total.median if figure and figure.seconds else None

    @property
    def title(self) -> str:
        """Name of the row in tables and plots."""
        return self.work if self.network == "loopback" else f"{self.work}, {self.network.upper()}"

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """Read back what the JSON file holds of a row."""
        values = {field.name: plain[field.name] for field in dataclasses.fields(cls)}
        for name in ("online", "offline", "total", "plain"):
            values[name] = Spread(**values[name])
        values["peers"] = {
            name: PeerFigure(**(figure | {"seconds": Spread(**figure["seconds"]) if figure["seconds"] else None}))
            for name, figure in values["peers"].items()
        }
        return cls(**values)


@dataclass(frozen=True)
class ShareRun:
    """Everything that one run measured, with what is needed to judge it."""

    rows: tuple[ShareRow, ...]
    settings: dict[str, Any]
    trust: str
    machine: dict[str, Any]
    versions: dict[str, str]

    @property
    def peers(self) -> tuple[str, ...]:
        """Names of the peers in the order given."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.peers))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in the JSON file."""
        plain = dataclasses.asdict(self)
        for values, row in zip(plain["rows"], self.rows, strict=True):
            values["overhead"] = row.overhead
            values["peer_ratios"] = {name: row.peer_ratio(name) for name in row.peers}
        return {"schema": SCHEMA, **plain}

    def save(self, path: Path) -> None:
        """Write the JSON file."""
        path.write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")
