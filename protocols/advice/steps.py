"""The work of a program on shares, counted from its public text: what the parties do online, and what is done before."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from protocols.advice.linear_maps import linear_work, ring_shape, small_shape
from secureimg.sharing import Program, PublicProgram, cost_of, text
from secureimg.sharing.gate import Gate, table_kind
from secureimg.sharing.plan import gates_of

__all__ = ["map_work", "offline_work", "online_work"]


def _elements(public: PublicProgram, register: int, images: int) -> int:
    return images * math.prod(public.registers[register].shape)


def _gates(work: dict[str, float], gates: list[Gate]) -> None:
    for gate in gates:
        work["gate"] += 1
        work["compared"] += gate.padded
        work["table byte"] += 4 * np.dtype(table_kind(gate)).itemsize * gate.padded
        work["extended"] += gate.padded if gate.extend else 0


def _talking(work: dict[str, float], public: PublicProgram, step: text.Step, images: int) -> None:
    """What is counted alike online and offline."""
    count = _elements(public, step.out, images)
    _gates(work, gates_of(public, step, images))
    if isinstance(step, text.Multiply):
        work["product"] += 1
        work["multiplied"] += count * (1 if step.left == step.right else 2)
    elif isinstance(step, text.Truncate):
        work["truncation"] += 1
        work["truncated"] += count
    elif isinstance(step, text.SharedLinear) or (isinstance(step, text.Linear) and step.hidden):
        work["hidden map"] += 1
        work["hidden result"] += count


def online_work(public: PublicProgram, images: int = 1) -> dict[str, float]:
    """Count what both parties and the owner do from the shares' arrival to the answer, without linear maps.

    Returns
    -------
    dict of str to float
        Amounts by kind: runs, inputs and outputs, gates, values compared, bytes on the link, and so on.
    """
    work: dict[str, float] = defaultdict(float, run=1.0)
    work["input"] = _elements(public, 0, images)
    work["output"] = _elements(public, public.output, images)
    for step in public.steps:
        _talking(work, public, step, images)
        count = _elements(public, step.out, images)
        if isinstance(step, text.Blind):
            work["blinding"] += 1
            work["blinded"] += count
        elif isinstance(step, text.MaxPool):
            work["arranged"] += sum(gate.count for gate in gates_of(public, step, images))
        elif isinstance(step, text.Best):
            work["level"] += len(gates_of(public, step, images))
        elif not isinstance(
            step, text.Multiply | text.Truncate | text.Relu | text.Decide | text.Linear | text.SharedLinear
        ):
            given = sum(_elements(public, source, images) for source in text.sources_of(step))
            work["local step"] += 1
            work["moved"] += max(count, given)
    work["link byte"] = cost_of(public, images).online_bytes
    return dict(work)


def offline_work(public: PublicProgram, images: int = 1) -> dict[str, float]:
    """Count what dealer and parties do before the image is there, without linear maps."""
    work: dict[str, float] = defaultdict(float, prepare=1.0)
    for step in public.steps:
        _talking(work, public, step, images)
    work["dealt byte"] = cost_of(public, images).offline_bytes
    return dict(work)


def map_work(program: Program, images: int = 1) -> tuple[dict[str, float], dict[str, float]]:
    """Count the work of all linear maps: party 1's online, and one of the two masked ones before.

    Weights that both parties know are multiplied by both online, and by nobody before.
    """
    online: dict[str, float] = defaultdict(float)
    offline: dict[str, float] = defaultdict(float)
    for number, step in enumerate(program.public.steps):
        if not isinstance(step, text.Linear):
            continue
        shape = small_shape(step.geometry, program.weights[number][0], step.width)
        for name, amount in linear_work(step.geometry, images, shape).items():
            online[name] += amount
        if step.hidden:
            for name, amount in linear_work(step.geometry, images, ring_shape(step.width)).items():
                offline[name] += amount
    return dict(online), dict(offline)
