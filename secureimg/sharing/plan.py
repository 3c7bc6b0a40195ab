"""What each step costs: rounds, bytes online, bytes of corrections, for a number of images.

Dealer, parties and the cost report all read sizes from here, so that they cannot disagree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from secureimg.sharing import text
from secureimg.sharing.gate import Gate
from secureimg.sharing.program import PublicProgram
from secureimg.sharing.ring import byte_width
from secureimg.sharing.tournament import best_gates, pool_gates

__all__ = ["CostReport", "LayerCost", "correction_bytes", "cost_of", "gates_of", "mask_bytes", "only_gate"]

_LANES = 64


def _elements(program: PublicProgram, number: int, images: int) -> int:
    return images * math.prod(program.registers[number].shape)


def only_gate(program: PublicProgram, step: text.Relu | text.Decide, images: int) -> Gate:
    """The one gate of a ReLU or a decision."""
    count = _elements(program, step.source, images)
    if isinstance(step, text.Decide):
        return Gate(count, step.drop, step.bits, step.digit, step.width, bit=True)
    return Gate(count, step.drop, step.bits, step.digit, step.width, step.whole is not None)


def gates_of(program: PublicProgram, step: text.Step, images: int) -> list[Gate]:
    """The gates of a step, in order."""
    shape = program.registers[text.sources_of(step)[0]].shape
    if isinstance(step, text.Relu | text.Decide):
        return [only_gate(program, step, images)]
    if isinstance(step, text.MaxPool):
        return pool_gates(step, shape, program.registers[step.out].shape, images)
    if isinstance(step, text.Best):
        return best_gates(step, shape[0], images)
    return []


def correction_bytes(program: PublicProgram, step: text.Step, images: int) -> int:
    """Bytes that the dealer sends to party 1 for one step."""
    if isinstance(step, text.Linear):
        return _elements(program, step.out, images) * byte_width(step.width) if step.hidden else 0
    if isinstance(step, text.Multiply | text.SharedLinear):
        return _elements(program, step.out, images) * byte_width(step.width)
    if isinstance(step, text.Truncate):
        return 2 * _elements(program, step.out, images) * byte_width(step.width - step.bits)
    total = 0
    for gate in gates_of(program, step, images):
        total += sum(gate.correction_bytes(padded) for _, _, padded in gate.chunks())
    return total


def mask_bytes(program: PublicProgram, step: text.Step) -> int:
    """Bytes that party 1 sends to party 0 for one step's weights, once for a model and dealer.

    Shared weights are opened minus their mask: as many bytes go the other way.
    """
    if isinstance(step, text.SharedLinear) or (isinstance(step, text.Linear) and step.hidden):
        return step.geometry.weights * byte_width(step.width)
    return 0


def _online(program: PublicProgram, step: text.Step, images: int) -> tuple[int, int, int]:
    """Bytes from party 0, bytes from party 1, rounds."""
    count = _elements(program, step.out, images)
    if isinstance(step, text.Blind):
        return count * byte_width(step.width), 0, 1
    if isinstance(step, text.Truncate):
        size = count * byte_width(step.bits)
        return size, size, 1
    if isinstance(step, text.SharedLinear):
        size = _elements(program, step.source, images) * byte_width(step.width)
        return size, size, 1
    if isinstance(step, text.Multiply):
        size = count * byte_width(step.width) * (1 if step.left == step.right else 2)
        return size, size, 1
    rounds = [size for gate in gates_of(program, step, images) for size in gate.rounds]
    return sum(rounds), sum(rounds), len(rounds)


@dataclass(frozen=True)
class LayerCost:
    """What one step costs.

    Attributes
    ----------
    name, kind : str
    shape : tuple of int
        Per image, of the result.
    rounds : int
        Messages that wait for each other.
    online_0, online_1 : int
        Bytes that party 0 and party 1 send while the image is there.
    offline : int
        Bytes from the dealer to party 1 before.
    masked_weights : int
        Bytes from party 1 to party 0, once for a model and dealer.
    products : int
        Multiplications of the linear map.
    comparisons : int
        Values whose sign is taken.
    threshold : float
        Signs are exact for values at least this far from 0.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    rounds: int
    online_0: int
    online_1: int
    offline: int
    masked_weights: int
    products: int
    comparisons: int
    threshold: float


@dataclass(frozen=True)
class CostReport:
    """Cost of a program, before anything runs."""

    images: int
    layers: tuple[LayerCost, ...]

    @property
    def rounds(self) -> int:
        """Rounds between the parties."""
        return sum(layer.rounds for layer in self.layers)

    @property
    def online_bytes(self) -> int:
        """Payload between the parties, both directions."""
        return sum(layer.online_0 + layer.online_1 for layer in self.layers)

    @property
    def offline_bytes(self) -> int:
        """Payload from the dealer to party 1."""
        return sum(layer.offline for layer in self.layers)

    @property
    def masked_weight_bytes(self) -> int:
        """Payload from party 1 to party 0, once for a model and dealer."""
        return sum(layer.masked_weights for layer in self.layers)

    def as_dict(self) -> dict[str, object]:
        """The report as plain values."""
        rows = [{name: getattr(layer, name) for name in LayerCost.__dataclass_fields__} for layer in self.layers]
        return {
            "images": self.images, "rounds": self.rounds, "online_bytes": self.online_bytes,
            "offline_bytes": self.offline_bytes, "masked_weight_bytes": self.masked_weight_bytes,
            "layers": [{**row, "shape": list(row["shape"])} for row in rows],
        }  # fmt: skip


def cost_of(program: PublicProgram, images: int = 1) -> CostReport:
    """Cost of every step of a program that talks or multiplies."""
    layers = []
    for step in program.steps:
        online_0, online_1, rounds = _online(program, step, images)
        gates = gates_of(program, step, images)
        register = program.registers[text.sources_of(step)[0]]
        threshold = 0.0
        if gates:
            assert isinstance(step, text.Relu | text.Decide | text.MaxPool | text.Best)
            packed = step.code if isinstance(step, text.Best) else 0
            threshold = register.factor * 2.0 ** (gates[0].low + step.drop - register.scale - packed)
        layers.append(LayerCost(
            name=step.name, kind=type(step).__name__, shape=program.registers[step.out].shape, rounds=rounds,
            online_0=online_0, online_1=online_1, offline=correction_bytes(program, step, images),
            masked_weights=mask_bytes(program, step),
            products=images * step.geometry.multiplications if isinstance(step, text.Linear | text.SharedLinear) else 0,
            comparisons=sum(gate.count for gate in gates), threshold=threshold,
        ))  # fmt: skip
    return CostReport(images, tuple(layers))
