"""A report of ``secureimg bench`` with made-up figures, for tests of what is done with one."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.bench_results import Errors, Layer, Link, PeerRow, Picture, Report, Row, Seen, Subject
from benchmarks.results import Spread


def spread(median: float, wide: float = 1.1) -> Spread:
    return Spread(median, median / wide, median * wide, 5)


def picture() -> str:
    stream = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def rows(subject: str, scale: float) -> list[Row]:
    edges = tuple(float(edge) for edge in np.arange(-12, 0.25, 0.5))
    errors = Errors(
        largest=3.25e-4 * scale, relative=4.5e-5, bound=7.75e-3, edges=edges,
        counts=tuple(range(len(edges) - 1)), labels_equal=3, labels_total=4,
    )  # fmt: skip
    answers = ("seven", "nine")
    plain = Row(
        key=f"{subject} plain", subject=subject, executor="plain", network="loopback", shaped_by="nothing",
        phases={"evaluate": spread(3.1e-5 * scale)}, total=spread(3.1e-5 * scale), once={}, peak_rss={"owner": 123_456_789},
        layers=(Layer(name="conv1", kind="Conv", seconds=spread(2.2e-5)),), answers=answers,
    )  # fmt: skip
    ckks = Row(
        key=f"{subject} ckks", subject=subject, executor="ckks", network="loopback", shaped_by="nothing",
        phases={name: spread(value * scale) for name, value in (("encrypt", 0.011), ("evaluate", 0.12), ("decrypt", 0.002))},
        total=spread(0.133 * scale), once={"compile": 0.71, "keygen": 0.43},
        peak_rss={"server": 876_000_000, "owner": 54_321_000},
        links=(
            Link(source="owner", sink="server", when="once", bytes=10_123_456),
            Link(source="owner", sink="server", when="online", bytes=188_001),
            Link(source="server", sink="owner", when="online", bytes=81_002),
        ),
        overhead=4290.3, rounds=1, levels=3, rotations=27, galois_keys=13, errors=errors,
        layers=tuple(
            Layer(name=f"layer{place}", kind="dense, 8 a copy", seconds=spread(0.001 * (place + 1)), predicted=0.0017,
                  primes=4, rotations=7, products=9)
            for place in range(20)
        ),
        parameters={"ring degree": 8192, "data prime bits": [33, 51]}, answers=answers,
        seen=(Seen(who="server", what="bytes of the encrypted picture", bytes=188_001, png=picture()),),
    )  # fmt: skip
    shares = Row(
        key=f"{subject} shares", subject=subject, executor="shares", network="wan", shaped_by="relay processes",
        phases={"offline": spread(0.6), "online": spread(1.4)}, total=spread(2.04), once={"session": 0.2},
        peak_rss={"party 0": 77_000_000}, rounds=9, predicted=1.96, errors=errors,
        links=(
            Link(source="party 1", sink="party 0", when="once", bytes=202_345),
            Link(source="dealer", sink="parties", when="offline", bytes=12_700),
            Link(source="party 0", sink="party 1", when="online", bytes=13_900),
        ),
    )  # fmt: skip
    return [plain, ckks, shares]


@pytest.fixture
def made_report() -> Report:
    names = ("digits & more", "<other>")
    subjects = [
        Subject(
            name=name, about="made up", digest="ab" * 32, input_shape=(1, 28, 28), output_shape=(10,), nodes=6,
            weights=33_882, images=17,
            pictures=tuple(Picture(name=name, png=picture()) for name in ("one.png", "two.png")),
        )
        for name in names
    ]  # fmt: skip
    return Report(
        made="2026-01-02 03:04 UTC", command="bench --quick 'a b'",
        settings={"repeat": 5, "cores": 2, "trust": "Nobody colludes.",
                  "networks": {"wan": "wan: 100 Mbit/s, 40 ms round trip"}},
        machine={"cpu": "Some CPU 9000", "cores": 2, "memory_bytes": 2**34, "system": "Linux", "python": "3.11.7"},
        versions={"secureimg": "0.1.0", "numpy": "2.4.6"}, subjects=tuple(subjects),
        rows=tuple(row for place, name in enumerate(names) for row in rows(name, 1 + place)),
        peers=(
            PeerRow(peer="tenseal", subject=names[0], beside="ckks", network="loopback", seconds=spread(3.17), bytes=477_000,
                    rounds=None, error=5.1e-3, ratio=26.4),
            PeerRow(peer="spu", subject=names[0], beside="shares", network="loopback", seconds=None, bytes=None, rounds=None,
                    error=None, ratio=None, failure="status 3: no module named spu"),
        ),
        failures=("<other> on ckks: 2 layers are not polynomials",), seconds=98.7,
    )  # fmt: skip
