"""Dealer and both parties in one process, to try a program out, and to have the kernels compiled. It protects nothing."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secureimg.graph import GraphBuilder
from secureimg.sharing.compiler import compile_graph
from secureimg.sharing.dealer import Dealer
from secureimg.sharing.gate import DIGIT_BITS, Gate
from secureimg.sharing.gate_dealer import deal_gate
from secureimg.sharing.gate_party import run_gate
from secureimg.sharing.handing_on import Handed, hand_on
from secureimg.sharing.ownership import join_result, share_images
from secureimg.sharing.party import PartyOne, PartyZero, Result
from secureimg.sharing.plan import cost_of
from secureimg.sharing.program import Program
from secureimg.sharing.seat import Seat, dealing_seat
from secureimg.sharing.shared_weights import share_weights, weight_share_seed
from secureimg.sharing.streams import fresh_seed

__all__ = ["MemoryChannel", "run_on_shares", "run_together", "warm_up"]

Bytes = NDArray[np.uint8]


class MemoryChannel:
    """One end of a link inside a process. `MemoryChannel.pair` makes two that belong together."""

    def __init__(self, outgoing: queue.SimpleQueue[Bytes], incoming: queue.SimpleQueue[Bytes]) -> None:
        self._out, self._in = outgoing, incoming
        self.sent = 0

    @classmethod
    def pair(cls) -> tuple[MemoryChannel, MemoryChannel]:
        """Return party 0's and party 1's end."""
        a: queue.SimpleQueue[Bytes] = queue.SimpleQueue()
        b: queue.SimpleQueue[Bytes] = queue.SimpleQueue()
        return cls(a, b), cls(b, a)

    def send(self, message: Bytes) -> None:
        """See `Channel.send`."""
        self.sent += message.size
        self._out.put(message.copy())

    def flush(self) -> None:
        """See `Channel.flush`."""

    def receive(self, message: Bytes) -> None:
        """See `Channel.receive`."""
        message[:] = self._in.get(timeout=60.0)


def run_together(program: Program, images: ArrayLike, *then: Program) -> NDArray[np.float64]:
    """Run a program on images with all roles in this process.

    Parameters
    ----------
    program : Program
    images : array_like, shape (N, *input_shape)
    *then : Program
        Programs that go on with the parties' shares of the one before, which reveals nothing (``reveal="shares"``).

    Returns
    -------
    ndarray of float64
        What the owner learns from the last, see `join_result`.
    """
    array = np.asarray(images, dtype=np.float64)
    count = len(array)
    first, second = run_on_shares(program, count, share_images(program.public, array))
    for previous, following in itertools.pairwise((program, *then)):
        publics = previous.public, following.public
        handed = hand_on(*publics, first.share, count), hand_on(*publics, second.share, count)
        first, second = run_on_shares(following, count, handed)
    return join_result((program, *then)[-1].public, first.share, second.share, count)


def run_on_shares(
    program: Program,
    count: int,
    shares: tuple[bytes | Handed, Bytes | Handed],
    *,
    watch: Callable[[int], None] | None = None,
) -> tuple[Result, Result]:
    """Deal for one run and let both parties do it, with all roles in this process.

    Parameters
    ----------
    program : Program
    count : int
        Images.
    shares : pair
        Party 0's and party 1's, see `PartyZero.run`.
    watch : callable, optional
        Called with the number of each step of the program when party 1 has done it, and with -1 before the first.

    Returns
    -------
    (Result, Result)
        Party 0's and party 1's.
    """
    public, mask, seeds = program.public, fresh_seed(), (fresh_seed(), fresh_seed())
    zero = PartyZero(public, program if public.weights == "public" else None)
    one = PartyOne(program)
    if public.weights == "shared":
        _open_weights(program, (zero, one), mask)
    if public.weights == "party 1":
        stream = np.concatenate([*one.masked_weights(mask), np.empty(0, dtype=np.uint8)])
        place = 0

        def receive(buffer: Bytes) -> None:
            nonlocal place
            buffer[:] = stream[place : place + buffer.size]
            place += buffer.size

        zero.load_masked_weights(receive)
    corrections = np.empty(cost_of(public, count).offline_bytes, dtype=np.uint8)
    place = 0
    for piece in Dealer(public, mask).deal(count, seeds):
        corrections[place : place + piece.size] = piece
        place += piece.size
    ready = zero.prepare(count, seeds[0]), one.prepare(count, seeds[1], corrections)
    ends = MemoryChannel.pair()
    results: list[Result] = []
    other = threading.Thread(target=lambda: results.append(zero.run(ready[0], shares[0], ends[0])), daemon=True)
    if watch is not None:
        watch(-1)
    other.start()
    mine = one.run(ready[1], shares[1], ends[1], watch=watch)
    other.join()
    return results[0], mine


def _open_weights(program: Program, parties: tuple[PartyZero, PartyOne], mask: bytes) -> None:
    ends, shares = MemoryChannel.pair(), share_weights(program)
    seeds = [weight_share_seed(mask, party) for party in (0, 1)]
    other = threading.Thread(target=parties[0].open_weights, args=(shares[0], seeds[0], ends[0]), daemon=True)
    other.start()
    parties[1].open_weights(shares[1], seeds[1], ends[1])
    other.join()


def warm_up() -> None:
    """Compile, or load from the cache on disk, every kernel: some ten seconds once on a machine, then about half a one."""
    builder = GraphBuilder("warm", (1, 6, 6))
    x = builder.conv(builder.input, np.ones((4, 1, 3, 3)), strides=(2, 2), pads=(1, 1, 1, 1))
    x = builder.max_pool(builder.relu(x), (2, 2))
    x = builder.conv(x, np.ones((4, 1, 1, 1)), groups=4)
    x = builder.dense(builder.flatten(builder.square(x)), np.ones((2, 4)))
    graph = builder.build(x)
    pictures = np.full((1, 1, 6, 6), 0.5)
    run_together(compile_graph(graph, samples=pictures), pictures)
    for digit in DIGIT_BITS:
        gate = Gate(64, 0, 30, digit, 40)
        seeds = fresh_seed(), fresh_seed()
        corrections = np.concatenate([part.copy() for part in deal_gate(gate, "warm", seeds, dealing_seat())])
        ends = MemoryChannel.pair()
        empty, values = np.empty(0, dtype=np.uint8), np.zeros(64, dtype=np.uint64)
        other = threading.Thread(
            target=run_gate, args=(Seat(0, ends[0]), gate, "warm", seeds[0], empty, values, values.copy()), daemon=True
        )
        other.start()
        run_gate(Seat(1, ends[1]), gate, "warm", seeds[1], corrections, values, values.copy())
        other.join()
