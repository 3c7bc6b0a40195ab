"""Options that several commands share: the model and how it is compiled."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from protocols.deployment.models import BoundsKind, Layout, LoadedModel, ModelOptions, Reveal, ShareOptions, cores
from secureimg.errors import SecureImgError

__all__ = [
    "Batch",
    "BoundsKind",
    "BoundsOption",
    "DealerKind",
    "DealerOption",
    "Executor",
    "InputRange",
    "Json",
    "Layout",
    "LoadedModel",
    "ModelName",
    "ModelOptions",
    "Precision",
    "PublicWeights",
    "Replace",
    "Reveal",
    "RevealOption",
    "Samples",
    "ShareOptions",
    "Top",
    "Workers",
    "cores",
    "parse_address",
]


class Executor(enum.StrEnum):
    """What a graph can run on."""

    PLAIN = "plain"
    CKKS = "ckks"
    SHARES = "shares"


class DealerKind(enum.StrEnum):
    """Who makes the correlations of a run on shares."""

    CLIENT_AIDED = "client-aided"
    DEALER = "dealer"


ModelName = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="An .onnx file, a shipped model, feature:NAME:HxW, or gallery:DECISION:FILE."),
]
Batch = Annotated[int, typer.Option(min=1, help="Images in one evaluation (a power of two).")]
LayoutOption = Annotated[
    Layout, typer.Option(help="'slots': lowest latency; 'throughput': one image a slot, for thousands of images.")
]
Precision = Annotated[
    float | None, typer.Option(help="Largest acceptable predicted error, relative to the largest output.")
]
Samples = Annotated[
    Path | None, typer.Option(metavar="FILE.npy", help="Typical inputs (N, C, H, W), to measure ranges on.")
]
Replace = Annotated[
    int | None,
    typer.Option(min=2, max=32, metavar="DEGREE", help="Replace ReLU and the like by polynomials fitted on --samples."),
]
InputRange = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="LOW HIGH", help="Smallest and largest input value. Public. Default: the model's pictures'."),
]
DealerOption = Annotated[
    DealerKind | None,
    typer.Option("--dealer", help="On shares, required: the owner deals for its own image, or a third process does."),
]
RevealOption = Annotated[Reveal, typer.Option(help="On shares: what the owner learns.")]
Top = Annotated[int, typer.Option(min=1, max=10_000, metavar="K", help="How many places `--reveal top-k` tells.")]
BoundsOption = Annotated[
    BoundsKind | None,
    typer.Option(help="On shares: room for 8 times what samples show (default), or for every possible input."),
]
PublicWeights = Annotated[
    bool,
    typer.Option("--public-weights", help="On shares: both parties know the model. No weights are masked: faster."),
]
Workers = Annotated[int | None, typer.Option(min=1, max=256, help="Processes to evaluate with. Default: one a core.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")]


def parse_address(text: str, option: str) -> tuple[str, int]:
    """Read HOST:PORT."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise SecureImgError(f"{option} {text!r} is not HOST:PORT: write it like 192.0.2.7:7443")
    return host.strip("[]"), int(port)
