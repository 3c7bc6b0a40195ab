"""The dealer's side of a gate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureimg.sharing import kernels
from secureimg.sharing.gate import Corrections, Gate, draw, gate_streams, table_kind
from secureimg.sharing.ring import byte_width, pack
from secureimg.sharing.seat import Seat

__all__ = ["deal_gate"]

Bytes = NDArray[np.uint8]


def deal_gate(gate: Gate, step: str, seeds: tuple[bytes, bytes], memory: Seat) -> Iterator[Bytes]:
    """Yield party 1's corrections, a chunk at a time; each is valid until the next.

    Parameters
    ----------
    gate : Gate
    step : str
        Place of the gate in its program: separates its streams from all others.
    seeds : (bytes, bytes)
        Of party 0 and party 1, fresh for every use.
    memory : Seat
        From `dealing_seat`.
    """
    zero, one = gate_streams(seeds[0], step, 0), gate_streams(seeds[1], step, 1)
    kind = table_kind(gate)
    size, top = byte_width(gate.width), byte_width(gate.width - gate.bits)

    def held(name: str, count: int, dtype: Any = np.uint64) -> NDArray[Any]:
        return memory.scratch(f"deal {name}", count, dtype)

    for _, _, padded in gate.chunks():
        masks0, masks1 = draw(zero["masks"], held("m0", padded)), draw(one["masks"], held("m1", padded))
        tables = draw(zero["tables"], held("t0", 4 * padded, kind)).reshape(4, padded)
        bits0 = draw(zero["bits"], held("b0", padded, np.uint8))
        bits1 = draw(one["bits"], held("b1", padded, np.uint8))
        products = draw(zero["products"], held("p0", padded, np.uint16))
        betas, beta_masks = draw(zero["betas"], held("beta", padded)), held("bm", padded)
        if not gate.bit:
            draw(zero["beta masks"], beta_masks)
        if gate.extend:
            tops, beta_tops = draw(zero["tops"], held("top", padded)), draw(zero["beta tops"], held("bt", padded))
        else:
            tops = beta_tops = held("top", padded)
        upper = held("upper", padded)
        data = held("out", gate.correction_bytes(padded), np.uint8)
        parts = Corrections(gate, data, padded)
        kernels.deal(
            masks0, masks1, tables, bits0, bits1, products, gate.bits, gate.sign, gate.up, gate.low, gate.digit,
            gate.extend, parts.tables, parts.products, upper, tops, beta_tops, betas, beta_masks,
        )  # fmt: skip
        pack(betas, size, parts.betas)
        if not gate.bit:
            pack(beta_masks, size, parts.beta_masks)
        if gate.extend:
            pack(upper, top, parts.upper)
            pack(tops, top, parts.tops)
            pack(beta_tops, top, parts.beta_tops)
        yield data
