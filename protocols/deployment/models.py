"""The model of a process: what it is, and how it is compiled for the executor that it runs on."""

from __future__ import annotations

import enum
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from protocols.deployment.model_names import with_files
from protocols.deployment.settings import Config, Model
from protocols.gallery_graphs import GALLERY_PREFIX, gallery_samples, load_graph
from secureimg import ckks, sharing
from secureimg.errors import CompileError, SecureImgError
from secureimg.graph import ActivationFit, Graph, replace_activations
from secureimg.images import load_tensor_npy

__all__ = [
    "BoundsKind",
    "Compiled",
    "Layout",
    "LoadedModel",
    "ModelOptions",
    "Reveal",
    "ShareOptions",
    "compile_model",
    "cores",
]


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
            If it cannot be loaded, or activations are to be replaced without samples.
        """
        original = load_graph(self.model)
        if self.replace is None:
            return LoadedModel(original, original, ())
        if self.samples is None:
            raise CompileError("replace-activations fits polynomials on typical inputs: add samples, a .npy file")
        graph, fits = replace_activations(original, self._read_samples(), self.replace)
        return LoadedModel(graph, original, fits)

    def compile(self, graph: Graph, speed: float = 1.0) -> tuple[ckks.Program, float]:
        """Compile the graph; return the program and the seconds it took."""
        if self.precision is not None and not 0 < self.precision < 1:
            raise CompileError(f"precision {self.precision} is outside (0, 1): it is relative to the largest output")
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

    @classmethod
    def of(cls, model: Model) -> Self:
        """Return the options that a process's file says."""
        assert model.name is not None
        return cls(
            model.name, model.batch, Layout(model.layout), model.precision, model.samples, model.replace_activations,
            model.input_range,
        )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """Return the same options as dotted keys of a process's file, whatever the model runs on."""
        given = {
            "name": with_files(self.model, lambda file: str(Path(file).absolute())),
            "samples": None if self.samples is None else self.samples.absolute(),
            "replace_activations": self.replace,
            "input_range": self.input_range,
        }
        return {f"model.{key}": value for key, value in given.items() if value is not None}

    def ckks_settings(self) -> dict[str, Any]:
        """Return them with those that only matter on ciphertexts."""
        given = {"model.batch": self.batch, "model.layout": self.layout.value, "model.precision": self.precision}
        return self.settings() | {key: value for key, value in given.items() if value is not None}

    def read_samples(self) -> Any:
        """Load the samples, or those that come with a gallery; None if there are none."""
        if self.samples is None and self.model.startswith(GALLERY_PREFIX):
            return gallery_samples(self.model)
        return None if self.samples is None else self._read_samples()

    def _read_samples(self) -> Any:
        assert self.samples is not None
        try:
            return load_tensor_npy(self.samples)
        except SecureImgError as error:
            raise type(error)(f"samples: {error}") from None


@dataclass(frozen=True)
class ShareOptions:
    """How a model is compiled for two parties."""

    reveal: Reveal = Reveal.SCORES
    top: int = 5
    bounds: BoundsKind | None = None
    public_weights: bool = False

    def compile(self, model: ModelOptions) -> sharing.Program:
        """Load a model and compile it for shares."""
        return self.compile_graph(model.load().graph, model)

    def compile_graph(self, graph: Graph, model: ModelOptions) -> sharing.Program:
        """Compile a model that is loaded."""
        return sharing.compile(
            graph,
            input_range=model.input_range,
            samples=model.read_samples(),
            reveal=self.reveal.value,
            top=self.top,
            bounds=(self.bounds or BoundsKind.MEASURED).value,
            weights="public" if self.public_weights else "party 1",
        )

    @classmethod
    def of(cls, model: Model) -> Self:
        """Return the options that a process's file says."""
        return cls(Reveal(model.reveal), model.top, BoundsKind(model.bounds), model.public_weights)

    def settings(self) -> dict[str, Any]:
        """Return the same options as dotted keys of a process's file."""
        return {
            "model.reveal": self.reveal.value,
            "model.top": self.top,
            "model.bounds": (self.bounds or BoundsKind.MEASURED).value,
            "model.public_weights": self.public_weights,
        }


def cores() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, eq=False)
class Compiled:
    """A model, ready to be served.

    Attributes
    ----------
    program
        For the role that asked: on ciphertexts, or on shares.
    seconds : float
        What compiling took.
    """

    graph: Graph
    program: ckks.Program | sharing.Program
    seconds: float

    @property
    def name(self) -> tuple[str, str]:
        """Equal names, equal models: weights and options included."""
        return self.graph.fingerprint, self.program.public.fingerprint

    def facts(self) -> dict[str, Any]:
        """What its operator is told."""
        public = self.program.public
        facts: dict[str, Any] = {"program": public.fingerprint, "seconds": {"compile": self.seconds}}
        if isinstance(public, sharing.PublicProgram):
            cost = sharing.cost_of(public)
            facts |= {
                "model": public.model, "reveal": public.reveal, "rounds": cost.rounds, "online_bytes": cost.online_bytes,
                "offline_bytes": cost.offline_bytes,
            }  # fmt: skip
        else:
            facts["model"] = self.graph.name
        return facts


def compile_model(config: Config) -> Compiled | None:
    """Load and compile what a process serves; None if its role has no model.

    Raises
    ------
    SecureImgError
        If the model cannot be loaded, or not run on the role's executor.
    """
    if config.model.name is None:
        return None
    options = ModelOptions.of(config.model)
    start = time.perf_counter()
    graph = options.load().graph
    program: ckks.Program | sharing.Program
    if config.role == "server":
        program = options.compile(graph)[0]
    else:
        program = ShareOptions.of(config.model).compile_graph(graph, options)
    return Compiled(graph, program, time.perf_counter() - start)
