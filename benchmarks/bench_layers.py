"""Time layer by layer, measured: all roles in one process, without a network."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.cli.options import ModelOptions, ShareOptions
from secureimg import ckks, sharing
from secureimg.ckks.evaluation_keys import LoadedKeys
from secureimg.ckks.runtime import Machine, read_input
from secureimg.ckks.text import Instruction
from secureimg.ckks.workers import run_share
from secureimg.graph import Node, run_op, simplify

from .bench_results import Layer
from .results import Spread

__all__ = ["CkksLayers", "LayerSide", "PlainLayers", "ShareLayers"]

Array = NDArray[np.float64]
_PLAIN_CALLS = 5  # a layer in the clear is so fast that one call is mostly the clock's and the caches' doing


class LayerSide:
    """Measures layers for one row after another, in a process of its own."""

    def measure(self, executor: str, model: ModelOptions, options: ShareOptions, images: Array) -> tuple[Layer, ...]:
        """Measure the layers of a model on an executor."""
        if executor == "plain":
            return PlainLayers(model).measure(images)
        return CkksLayers(model).measure(images) if executor == "ckks" else ShareLayers(model, options).measure(images)


class PlainLayers:
    """The model in the clear, a node at a time."""

    def __init__(self, model: ModelOptions) -> None:
        self._body = simplify(model.load().graph.body_and_tail()[0])

    def measure(self, images: Array) -> tuple[Layer, ...]:
        """Run each image, after one run that does not count; of some calls the fastest counts."""
        taken: dict[str, list[float]] = defaultdict(list)
        kinds: dict[str, str] = {}

        def compute(node: Node, *inputs: Array) -> Array:
            least, found = math.inf, inputs[0]
            for _ in range(_PLAIN_CALLS):
                started = time.perf_counter()
                found = run_op(node.op, *inputs)
                least = min(least, time.perf_counter() - started)
            taken[node.name].append(least)
            kinds[node.name] = node.op.kind
            return found

        for image in (images[0], *images):
            for _ in self._body.walk(image[None], compute):
                pass
        return tuple(Layer(name=name, kind=kinds[name], seconds=Spread.of(times[1:])) for name, times in taken.items())


class _Timed(Machine):
    """A machine that adds up what the instructions of each layer take."""

    def __init__(self, program: ckks.Program) -> None:
        super().__init__(program)
        self.seconds: dict[str, float] = defaultdict(float)

    def execute(self, item: Instruction, registers: dict[int, object], keys: LoadedKeys) -> None:
        started = time.perf_counter()
        super().execute(item, registers, keys)
        self.seconds[item.layer] += time.perf_counter() - started


class CkksLayers:
    """A program on ciphertexts, with owner and server in one process, on one core."""

    def __init__(self, model: ModelOptions) -> None:
        self._program, _ = model.compile(model.load().graph, ckks.measure_machine())
        self._keys = ckks.OwnerKeys.generate(self._program.public)
        self._loaded = self._keys.evaluation_keys().load()
        self._machine = _Timed(self._program)

    def measure(self, images: Array) -> tuple[Layer, ...]:
        """Evaluate each image, after one evaluation that does not count."""
        turns: dict[str, list[float]] = defaultdict(list)
        text = self._program.text
        for image in (images[0], *images):
            self._machine.seconds.clear()
            inputs = read_input(self._program.public, self._keys.encrypt(image[None]), self._keys.key_id)
            registers = dict(zip(text.inputs, inputs, strict=True))
            run_share(self._machine, [*text.instructions], registers, self._loaded)
            for name, seconds in self._machine.seconds.items():
                turns[name].append(seconds)
        return tuple(
            Layer(
                name=cost.name, kind=cost.plan or "in place", seconds=Spread.of(turns[cost.name][1:]),
                predicted=cost.milliseconds / 1000, primes=cost.primes, rotations=cost.rotations,
                products=cost.products + cost.multiplications,
            )
            for cost in self._program.cost.layers
        )  # fmt: skip


class ShareLayers:
    """A program on shares, with both parties and the dealer in one process.

    A step's time is from the end of the step before it to its own end at party 1, waiting for party 0 included.
    """

    def __init__(self, model: ModelOptions, options: ShareOptions) -> None:
        sharing.warm_up()
        self._program = options.compile(model)
        self._costs = list(_costs(self._program.public))

    def measure(self, images: Array) -> tuple[Layer, ...]:
        """Run each image, after one run that does not count."""
        public = self._program.public
        turns: dict[str, list[float]] = defaultdict(list)
        for image in (images[0], *images):
            ends = [0.0] * (len(public.steps) + 1)

            def watch(number: int, ends: list[float] = ends) -> None:
                ends[number + 1] = time.perf_counter()

            sharing.run_on_shares(self._program, 1, sharing.share_images(public, image[None]), watch=watch)
            steps: dict[str, float] = defaultdict(float)
            for number, step in enumerate(public.steps):
                steps[step.name] += ends[number + 1] - ends[number]
            for name, seconds in steps.items():
                turns[name].append(seconds)
        return tuple(
            Layer(
                name=name, kind=", ".join(dict.fromkeys(cost.kind for cost in costs)),
                seconds=Spread.of(turns[name][1:]), rounds=sum(cost.rounds for cost in costs),
                sent=sum(cost.online_0 + cost.online_1 for cost in costs), dealt=sum(cost.offline for cost in costs),
            )
            for name, costs in self._costs
        )  # fmt: skip


def _costs(public: sharing.PublicProgram) -> Iterator[tuple[str, Sequence[sharing.LayerCost]]]:
    """Every step's cost by the name of its layer; layers in order."""
    named: dict[str, list[sharing.LayerCost]] = {step.name: [] for step in public.steps}
    for cost in sharing.cost_of(public).layers:
        named[cost.name].append(cost)
    yield from named.items()
