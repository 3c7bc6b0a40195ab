"""What a run of the benchmark returns, and how it is written to JSON."""

from __future__ import annotations

import dataclasses
import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self

__all__ = ["SCHEMA", "Bytes", "Peer", "Row", "Run", "Spread", "machine", "versions"]

SCHEMA = "secureimg-benchmark-ckks/1"
_PACKAGES = ("secureimg", "tenseal", "numpy", "scipy", "numba", "onnx", "zstandard")


@dataclass(frozen=True)
class Spread:
    """Median, least and largest of a repeated measurement, and how often it was repeated."""

    median: float
    min: float
    max: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Summarise at least one value."""
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Bytes:
    """Bytes on the wire: evaluation keys (once an owner), the encrypted picture, the encrypted answer."""

    evaluation_keys: int
    up: int
    down: int


@dataclass(frozen=True)
class Row:
    """One network in one case. Times in seconds, memory in bytes, errors in the model's own output units.

    `evaluate` is one evaluation of `images` pictures, from the blob that came in to the blob that goes out; `overhead`
    is its time over the plain model's for the same pictures; `peer_ratio` is the peer's tutorial evaluation over ours
    per picture, both medians over the turns that the two took (None without the peer).
    """

    net: str
    layout: str
    workers: int
    images: int
    evaluate: Spread
    first_evaluate: float
    plain: Spread
    overhead: float
    peer_evaluate: Spread | None
    peer_ratio: float | None
    compile: float
    keygen: float
    encrypt: Spread
    decrypt: Spread
    bytes: Bytes
    server_peak_rss: int
    owner_peak_rss: int
    error_max: float
    error_relative: float
    error_predicted: float
    largest_output: float
    labels_equal: int
    labels_total: int
    ring_degree: int
    prime_bits: tuple[int, ...]
    rotations: int
    galois_keys: int
    products: int
    multiplications: int
    levels: int
    predicted_evaluate: float

    @property
    def per_image(self) -> float:
        """Seconds of evaluation for one picture."""
        return self.evaluate.median / self.images

    @property
    def title(self) -> str:
        """Name of the row in tables and plots."""
        cores = "" if self.workers == 1 else f", {self.workers} cores"
        if self.layout == "throughput":
            return f"{self.net}, an image a slot{cores}"
        return f"{self.net}{f', {self.images} images' if self.images > 1 else ''}{cores}"


@dataclass(frozen=True)
class Peer:
    """The peer's own figures on its tutorial network, over the whole run."""

    name: str
    evaluate: Spread
    facts: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """Everything that one run measured, with what is needed to judge it."""

    rows: tuple[Row, ...]
    peer: Peer | None
    settings: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in the JSON file."""
        plain = dataclasses.asdict(self)
        for values, row in zip(plain["rows"], self.rows, strict=True):
            values["per_image"] = row.per_image
        return {"schema": SCHEMA, **plain}

    def save(self, path: Path) -> None:
        """Write the JSON file."""
        path.write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Name of the processor, cores, memory, system and Python of this machine."""
    cpu = _proc_field(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine()
    memory = _proc_field(Path("/proc/meminfo"), "MemTotal") or "0 kB"
    cores = sum(line.startswith("processor") for line in Path("/proc/cpuinfo").read_text().splitlines())
    return {
        "cpu": cpu,
        "cores": cores,
        "memory_bytes": int(memory.split()[0]) * 1024,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Return the releases of what does the work."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a work tree that is not installed
            found[name] = "not installed"
    return found


def _proc_field(path: Path, field: str) -> str | None:
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return None
