"""Options that several commands share: the model and how it is compiled."""

from __future__ import annotations

import enum
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from protocols.cli.gallery_graphs import GALLERY_PREFIX, gallery_samples, load_graph
from secureimg import ckks, sharing
from secureimg.errors import CompileError, SecureImgError
from secureimg.graph import ActivationFit, Graph, replace_activations
from secureimg.images import load_tensor_npy

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


class Reveal(enum.StrEnum):
    """What a run on shares tells the owner."""

    SCORES = "scores"
    LABEL = "label"
    TOP_K = "top-k"


class BoundsKind(enum.StrEnum):
    """How much room values get on shares."""

    MEASURED = "measured"
    PROVED = "proved"


class Layout(enum.StrEnum):
    """How images lie in ciphertexts."""

    SLOTS = "slots"
    THROUGHPUT = "throughput"


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


def cores() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model as it will run, and as it was before activations were replaced."""

    graph: Graph
    original: Graph
    fits: tuple[ActivationFit, ...]


@dataclass(frozen=True)
class ModelOptions:
    """A model and how to compile it: equal options give equal programs, on any machine."""

    model: str
    batch: int = 1
    layout: Layout = Layout.SLOTS
    precision: float | None = None
    samples: Path | None = None
    replace: int | None = None
    input_range: tuple[float, float] | None = None

    def load(self) -> LoadedModel:
        """Load the model and replace its activations, if asked to.

        Raises
        ------
        SecureImgError
            If it cannot be loaded, or --replace-activations lacks its samples.
        """
        original = load_graph(self.model)
        if self.replace is None:
            return LoadedModel(original, original, ())
        if self.samples is None:
            raise CompileError("--replace-activations fits polynomials on typical inputs: add --samples FILE.npy")
        graph, fits = replace_activations(original, self._read_samples(), self.replace)
        return LoadedModel(graph, original, fits)

    def compile(self, graph: Graph, speed: float = 1.0) -> tuple[ckks.Program, float]:
        """Compile the graph; return the program and the seconds it took."""
        if self.precision is not None and not 0 < self.precision < 1:
            raise CompileError(f"--precision {self.precision} is outside (0, 1): it is relative to the largest output")
        given: dict[str, Any] = {} if self.precision is None else {"precision": self.precision}
        layout: Literal["slots", "throughput"] = "slots" if self.layout is Layout.SLOTS else "throughput"
        samples = None if self.samples is None else self._read_samples()
        start = time.perf_counter()
        program = ckks.compile(
            graph,
            input_range=self.input_range,
            samples=samples,
            batch=self.batch,
            layout=layout,
            speed=speed,
            **given,
        )
        return program, time.perf_counter() - start

    def arguments(self) -> list[str]:
        """Return the same options as command-line arguments, for a server process."""
        words = ["--batch", str(self.batch), "--layout", self.layout.value]
        if self.precision is not None:
            words += ["--precision", repr(self.precision)]
        return words + self.model_arguments()

    def model_arguments(self) -> list[str]:
        """Return those of them that say what the model is, whatever it runs on."""
        words = []
        if self.samples is not None:
            words += ["--samples", str(self.samples)]
        if self.replace is not None:
            words += ["--replace-activations", str(self.replace)]
        if self.input_range is not None:
            words += ["--input-range", *map(repr, self.input_range)]
        return words

    def read_samples(self) -> Any:
        """Load --samples, or those that come with a gallery; None if there are none."""
        if self.samples is None and self.model.startswith(GALLERY_PREFIX):
            return gallery_samples(self.model)
        return None if self.samples is None else self._read_samples()

    def _read_samples(self) -> Any:
        assert self.samples is not None
        try:
            return load_tensor_npy(self.samples)
        except SecureImgError as error:
            raise type(error)(f"--samples: {error}") from None


@dataclass(frozen=True)
class ShareOptions:
    """How a model is compiled for two parties."""

    reveal: Reveal = Reveal.SCORES
    top: int = 5
    bounds: BoundsKind | None = None
    public_weights: bool = False

    def compile(self, model: ModelOptions) -> sharing.Program:
        """Load a model and compile it for shares."""
        return sharing.compile(
            model.load().graph,
            input_range=model.input_range,
            samples=model.read_samples(),
            reveal=self.reveal.value,
            top=self.top,
            bounds=(self.bounds or BoundsKind.MEASURED).value,
            weights="public" if self.public_weights else "party 1",
        )

    def arguments(self) -> list[str]:
        """Return the same options as command-line arguments."""
        words = ["--reveal", self.reveal.value, "--top", str(self.top)]
        if self.bounds is not None:
            words += ["--bounds", self.bounds.value]
        if self.public_weights:
            words.append("--public-weights")
        return words
