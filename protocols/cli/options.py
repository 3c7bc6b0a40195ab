"""Options that several commands share: the model and how it is compiled."""

from __future__ import annotations

import enum
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from secureimg import ckks
from secureimg.errors import CompileError, SecureImgError
from secureimg.graph import ActivationFit, Graph, load_model, replace_activations
from secureimg.images import load_tensor_npy

__all__ = [
    "Batch",
    "Executor",
    "InputRange",
    "Json",
    "Layout",
    "LoadedModel",
    "ModelName",
    "ModelOptions",
    "Precision",
    "Replace",
    "Samples",
    "Workers",
    "cores",
]


class Executor(enum.StrEnum):
    """What a graph can run on."""

    PLAIN = "plain"
    CKKS = "ckks"


class Layout(enum.StrEnum):
    """How images lie in ciphertexts."""

    SLOTS = "slots"
    THROUGHPUT = "throughput"


ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="An .onnx file, or the name of a shipped model.")]
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
Workers = Annotated[int | None, typer.Option(min=1, max=256, help="Processes to evaluate with. Default: one a core.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")]


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
        original = load_model(self.model)
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
        if self.samples is not None:
            words += ["--samples", str(self.samples)]
        if self.replace is not None:
            words += ["--replace-activations", str(self.replace)]
        if self.input_range is not None:
            words += ["--input-range", *map(repr, self.input_range)]
        return words

    def _read_samples(self) -> Any:
        assert self.samples is not None
        try:
            return load_tensor_npy(self.samples)
        except SecureImgError as error:
            raise type(error)(f"--samples: {error}") from None
