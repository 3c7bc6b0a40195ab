"""How near `secureimg advise` comes: forecasts beside measured runs, on models that no calibration has seen.

``python -m benchmarks.advice_accuracy [NAME...] [--repeats N] [--json FILE]``. Each repeat calibrates anew and then runs
every model with `secureimg run` on four pictures, so that both see the same machine. The first picture of a
session has columns of its own: caches and buffers are cold.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from protocols.advice import Calibration, forecast_ckks, forecast_shares
from protocols.deployment.models import ModelOptions, ShareOptions, cores
from secureimg import ckks, sharing
from secureimg.graph import Graph, GraphBuilder

from .nets import cryptonets, lenet, pictures, tutorial4
from .share_nets import lenet_relu, minionn, random_images, resnet18, squeezenet
from .share_onnx import save_onnx

__all__ = ["main", "random_cnn"]

_PICTURES = 4


@dataclass(frozen=True)
class _Subject:
    name: str
    model: str | Callable[[], Graph]
    executors: tuple[str, ...]


@dataclass
class _Row:
    name: str
    executor: str
    measured_seconds: list[float] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)
    predicted_seconds: list[float] = field(default_factory=list)
    predicted_first_seconds: list[float] = field(default_factory=list)
    offline_seconds: list[float] = field(default_factory=list)
    predicted_offline_seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    predicted_peak_bytes: int = 0


def random_cnn(seed: int = 11) -> Graph:
    """Return a network of random layers: plain, strided, depthwise and one-pixel convolutions, ReLU, sums, a pool."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(f"random-{seed}", (3, 48, 48))
    value, channels = builder.input, 3

    def conv(x: str, given: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        weight = rng.standard_normal((out, given // groups, kernel, kernel)) * np.sqrt(2 * groups / (given * kernel**2))
        pads = (kernel // 2,) * 4
        return builder.conv(x, weight, rng.normal(0, 0.05, out), strides=(stride, stride), pads=pads, groups=groups)

    for _ in range(5):
        out = int(rng.choice([16, 24, 40]))
        value = builder.relu(conv(value, channels, out, int(rng.choice([1, 3, 5])), int(rng.choice([1, 2]))))
        channels = out
        if rng.random() < 0.6:
            value = builder.relu(conv(value, channels, channels, 3, groups=channels))
        if rng.random() < 0.4:
            value = builder.add(value, builder.relu(conv(value, channels, channels, 3)))
    value = builder.max_pool(value, (2, 2))
    value = builder.flatten(value)
    terms = builder.shape(value)[0]
    return builder.build(builder.dense(value, rng.standard_normal((12, terms)) / np.sqrt(terms)))


_BOTH, _SHARES = ("ckks", "shares"), ("shares",)
_SUBJECTS = (
    _Subject("mnist-cnn", "mnist-cnn", _BOTH),
    _Subject("mnist-lenet", "mnist-lenet", _BOTH),
    _Subject("xray-pneumonia", "xray-pneumonia", _BOTH),
    _Subject("T4", lambda: tutorial4(pictures(16)).graph, _BOTH),
    _Subject("CryptoNets", lambda: cryptonets(pictures(16)).graph, _BOTH),
    _Subject("LeNet", lambda: lenet(pictures(16)).graph, _BOTH),
    _Subject("LeNet-5-ReLU", lenet_relu, _SHARES),
    _Subject("MiniONN", minionn, _SHARES),
    _Subject("ResNet-18-64", lambda: resnet18(64), _SHARES),
    _Subject("ResNet-18-224", resnet18, _SHARES),
    _Subject("SqueezeNet-224", squeezenet, _SHARES),
    _Subject("random-CNN", random_cnn, _SHARES),
    _Subject("sobel", "feature:sobel:128x128", _SHARES),
    _Subject("gaussian", "feature:gaussian:128x128", _BOTH),
    _Subject("hog", "feature:hog:96x96", _SHARES),
)


class _Model:
    """A subject on disk, with pictures, and compiled."""

    def __init__(self, subject: _Subject, home: Path) -> None:
        self.subject, self.model = subject, subject.model if isinstance(subject.model, str) else ""
        if not isinstance(subject.model, str):
            self.model = str(home / f"{subject.name}.onnx")
            save_onnx(subject.model(), Path(self.model))
        self.options = ModelOptions(self.model)
        graph = self.options.load().graph
        low, high = graph.preprocessing.range if graph.preprocessing else (0.0, 1.0)
        values = low + (high - low) * random_images(graph, _PICTURES)
        values[:, 0, 0, 0], values[:, 0, 0, 1] = low, high  # the range is the data's own
        self.pictures = home / f"{subject.name}.npy"
        np.save(self.pictures, values)
        self.programs: dict[str, ckks.Program | sharing.Program] = {}
        options = ModelOptions(self.model, input_range=(low, high))
        for executor in subject.executors:
            self.programs[executor] = (
                options.compile(graph)[0] if executor == "ckks" else ShareOptions().compile_graph(graph, options)
            )

    def run(self, executor: str) -> dict[str, Any]:
        """What `secureimg run` says."""
        command = [
            sys.executable,
            "-m",
            "protocols.cli",
            "run",
            self.model,
            str(self.pictures),
            "--on",
            executor,
            "--json",
        ]
        command += ["--dealer", "dealer"] if executor == "shares" else []
        done = subprocess.run(command, capture_output=True, check=False)
        found: dict[str, Any] = json.loads(done.stdout)
        if "error" in found:
            raise RuntimeError(f"{self.subject.name}: {found['error']['message']}")
        return found


def _measure(model: _Model, executor: str, calibration: Calibration, row: _Row) -> None:
    program = model.programs[executor]
    found = model.run(executor)
    if isinstance(program, ckks.Program):
        times, _ = calibration.for_ckks(program.public.parameters, cores())
        forecast = forecast_ckks(program, times, cores())
        calls = found["evaluate_calls"]
        row.predicted_seconds.append(forecast.evaluate_seconds)
        row.predicted_first_seconds.append(forecast.first_seconds)
        row.offline_seconds.append(found["seconds"]["keygen"])
        row.predicted_offline_seconds.append(forecast.keygen_seconds)
        row.peak_bytes, row.predicted_peak_bytes = found["peak_rss"]["server"], forecast.server_peak_bytes
    else:
        shares = forecast_shares(program, calibration)
        calls = found["run_seconds"]
        row.predicted_seconds.append(shares.online_seconds)
        row.predicted_first_seconds.append(shares.first_seconds)
        row.offline_seconds.append(found["seconds_per_image"]["offline"])
        row.predicted_offline_seconds.append(shares.offline_seconds)
        row.peak_bytes, row.predicted_peak_bytes = max(found["peak_rss"].values()), shares.party_peak_bytes
    row.first_seconds.append(calls[0])
    row.measured_seconds.append(float(np.median(calls[1:])))


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(prog="benchmarks.advice_accuracy", description=__doc__)
    parser.add_argument("names", nargs="*", help="models; default: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    console = Console(stderr=True)
    chosen = [subject for subject in _SUBJECTS if not given.names or subject.name in given.names]
    rows = {(s.name, executor): _Row(s.name, executor) for s in chosen for executor in s.executors}
    with tempfile.TemporaryDirectory(prefix="secureimg-") as directory:
        models = [_Model(subject, Path(directory)) for subject in chosen]
        for _ in range(given.repeats):
            start = time.perf_counter()
            calibration = Calibration.empty()
            calibration.for_shares()
            console.print(f"calibrated in {time.perf_counter() - start:.1f} s")
            for model in models:
                for executor in model.subject.executors:
                    row = rows[model.subject.name, executor]
                    _measure(model, executor, calibration, row)
                    console.print(
                        f"  {row.name} {executor}: {row.measured_seconds[-1] * 1e3:.2f} ms, first "
                        f"{row.first_seconds[-1] * 1e3:.2f}, predicted {row.predicted_seconds[-1] * 1e3:.2f}"
                    )
    _show(list(rows.values()))
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows.values()], indent=1) + "\n")


def _show(rows: list[_Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (
        "model", "on", "measured ms", "predicted ms", "ratio", "first ms", "first predicted", "offline or keys ms",
        "predicted", "peak MB", "predicted MB",
    ):  # fmt: skip
        table.add_column(title, justify="left" if title in ("model", "on") else "right")
    for row in rows:
        middle = {name: float(np.median(values)) for name, values in asdict(row).items() if isinstance(values, list)}
        measured, predicted = middle["measured_seconds"], middle["predicted_seconds"]
        table.add_row(
            row.name, row.executor, f"{measured * 1e3:.1f}", f"{predicted * 1e3:.1f}", f"{predicted / measured:.2f}",
            f"{middle['first_seconds'] * 1e3:.1f}", f"{middle['predicted_first_seconds'] * 1e3:.1f}",
            f"{middle['offline_seconds'] * 1e3:.1f}", f"{middle['predicted_offline_seconds'] * 1e3:.1f}",
            f"{row.peak_bytes / 1e6:.0f}", f"{row.predicted_peak_bytes / 1e6:.0f}",
        )  # fmt: skip
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
