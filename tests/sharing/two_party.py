"""Owner, dealer and both parties in one process, with a channel that remembers every message."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from secureimg.sharing import (
    CostReport,
    Dealer,
    PartyOne,
    PartyZero,
    Program,
    PublicProgram,
    cost_of,
    fresh_seed,
    join_result,
    share_images,
    share_weights,
    text,
    weight_share_seed,
)
from secureimg.sharing.clear import run_clear_all
from secureimg.sharing.gate import Gate
from secureimg.sharing.gate_dealer import deal_gate
from secureimg.sharing.gate_party import run_gate
from secureimg.sharing.plan import gates_of
from secureimg.sharing.ring import signed
from secureimg.sharing.seat import CHUNK, Seat, dealing_seat
from secureimg.sharing.together import MemoryChannel

__all__ = [
    "PART",
    "Channel",
    "Seeds",
    "TwoPartyRun",
    "channel_pair",
    "last_place_errors",
    "play_gate",
    "record",
    "run_two_party",
]

_PATIENCE = 30.0

PART = 32 * CHUNK
"""Values that travel as one message at most."""


class Channel:
    """One end of a link in memory. `sent` holds a copy of every message of this end, in order."""

    def __init__(self, outgoing: queue.SimpleQueue[bytes], incoming: queue.SimpleQueue[bytes]) -> None:
        self._out, self._in = outgoing, incoming
        self._waiting: list[np.ndarray] = []
        self.sent: list[bytes] = []

    def send(self, message: np.ndarray) -> None:
        """Keep the memory, as a slow link would: it leaves when the sender flushes or waits for an answer."""
        self._waiting.append(message)

    def flush(self) -> None:
        for message in self._waiting:
            self.sent.append(message.tobytes())
            self._out.put(self.sent[-1])
        self._waiting.clear()

    def receive(self, message: np.ndarray) -> None:
        self.flush()
        data = self._in.get(timeout=_PATIENCE)
        assert len(data) == message.size, f"a message of {len(data)} bytes where {message.size} were expected"
        message[:] = np.frombuffer(data, dtype=np.uint8)


def channel_pair() -> tuple[Channel, Channel]:
    a: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    b: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    return Channel(a, b), Channel(b, a)


@dataclass(frozen=True)
class Seeds:
    """Every seed of a run, so that it can be repeated byte for byte."""

    weights: bytes = field(default_factory=fresh_seed)
    zero: bytes = field(default_factory=fresh_seed)
    one: bytes = field(default_factory=fresh_seed)
    owner: bytes = field(default_factory=fresh_seed)

    @classmethod
    def numbered(cls, number: int) -> Seeds:
        return cls(*(bytes([place, *number.to_bytes(31, "little")]) for place in range(4)))


@dataclass(frozen=True)
class TwoPartyRun:
    """What each side saw of a run."""

    result: np.ndarray
    sent: tuple[list[bytes], list[bytes]]
    masked_weights: bytes
    corrections: bytes
    image_share: bytes
    result_shares: tuple[bytes, bytes]
    rounds: tuple[int, int]
    cost: CostReport


def in_parallel(first: Callable[[], object], second: Callable[[], object]) -> None:
    """Run both; the first error of either is raised here."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # carried over to the test's own thread
            errors.append(error)

    other = threading.Thread(target=guarded, args=(first,), daemon=True)
    other.start()
    guarded(second)
    other.join(_PATIENCE)
    if errors:
        raise errors[0]


def open_shared(program: Program, zero: PartyZero, one: PartyOne, seed: bytes) -> None:
    """Split the weights and let the parties open what masks leave of them."""
    ends, shares = MemoryChannel.pair(), share_weights(program)
    arguments = [(shares[party], weight_share_seed(seed, party), ends[party]) for party in (0, 1)]
    other = threading.Thread(target=zero.open_weights, args=arguments[0])
    other.start()
    one.open_weights(*arguments[1])
    other.join()


def record(program: Program, images: np.ndarray, *, seeds: Seeds | None = None) -> TwoPartyRun:
    """Run a program and keep what was sent; the public part goes through its bytes, as between machines."""
    seeds = seeds or Seeds()
    public = PublicProgram.from_bytes(program.public.to_bytes())
    count = len(images)
    one, zero = PartyOne(program), PartyZero(public, program if public.weights == "public" else None)
    masked = b"".join(part.tobytes() for part in one.masked_weights(seeds.weights))
    place = 0

    def receive(buffer: np.ndarray) -> None:
        nonlocal place
        buffer[:] = np.frombuffer(masked, dtype=np.uint8)[place : place + buffer.size]
        place += buffer.size

    if public.weights == "shared":
        open_shared(program, zero, one, seeds.weights)
    else:
        zero.load_masked_weights(receive)
        assert place == len(masked) == zero.masked_weight_bytes
    corrections = b"".join(
        part.tobytes() for part in Dealer(public, seeds.weights).deal(count, (seeds.zero, seeds.one))
    )
    ready = zero.prepare(count, seeds.zero), one.prepare(count, seeds.one, np.frombuffer(corrections, dtype=np.uint8))
    owner, share = share_images(public, images, seeds.owner)
    ends = channel_pair()
    results: dict[int, object] = {}
    in_parallel(
        lambda: results.update({0: zero.run(ready[0], owner, ends[0])}),
        lambda: results.update({1: one.run(ready[1], share, ends[1])}),
    )
    a, b = results[0], results[1]
    return TwoPartyRun(
        join_result(public, a.share, b.share, count),
        (ends[0].sent, ends[1].sent),
        masked,
        corrections,
        share.tobytes(),
        (a.share.tobytes(), b.share.tobytes()),
        (a.rounds, b.rounds),
        cost_of(public, count),
    )


def run_two_party(program: Program, images: np.ndarray, *, seeds: Seeds | None = None) -> np.ndarray:
    """What the owner learns."""
    return record(program, images, seeds=seeds).result


def play_gate(gate: Gate, shares: tuple[np.ndarray, np.ndarray], seeds: tuple[bytes, bytes]) -> list[np.ndarray]:
    """Both parties of one gate; returns the sums of their shares: of max(x, 0), and of x if the gate gives both."""
    corrections = np.frombuffer(
        b"".join(part.tobytes() for part in deal_gate(gate, "0.0", seeds, dealing_seat())), dtype=np.uint8
    )
    ends = channel_pair()
    out = np.empty((2, 2, gate.count), dtype=np.uint64)

    def party(number: int) -> None:
        part = corrections if number else np.empty(0, dtype=np.uint8)
        run_gate(Seat(number, ends[number]), gate, "0.0", seeds[number], part, shares[number], out[0, number],
                 out[1, number] if gate.both else None)  # fmt: skip
        ends[number].flush()

    in_parallel(lambda: party(0), lambda: party(1))
    for end in ends:
        lengths = [len(message) for message in end.sent]
        assert lengths == list(gate.rounds) or (sum(lengths) == sum(gate.rounds) and gate.count > PART)
    return [out[0, 0] + out[0, 1]] + ([out[1, 0] + out[1, 1]] if gate.both else [])


def last_place_errors(program: Program, images: np.ndarray) -> dict[int, int]:
    """By how many units each register of the two parties may differ from the cleartext twin's.

    A dropped fraction may round up by one unit; a sign may be wrong for values above ``-2^low`` (they pass as they are);
    linear maps and products carry on what their sources have.
    """
    clear = run_clear_all(program, images)
    off: dict[int, int] = {0: 0}

    def largest(number: int) -> int:
        return int(np.abs(signed(clear[number], 64).astype(object)).max())

    for number, step in enumerate(program.public.steps):
        sources = [off[source] for source in text.sources_of(step)]
        found = max(sources)
        if isinstance(step, text.Linear):
            words = np.abs(program.weights[number][0].view(np.int64))
            geometry = step.geometry
            if geometry.kind == "scale":
                gain = int(words.max())
            elif geometry.kind == "sparse":
                gain = int(max(words[a:b].sum() for a, b in zip(geometry.starts, geometry.starts[1:], strict=False)))
            else:
                gain = int(words.reshape(len(words), -1).sum(axis=1).max())
            found *= gain
        elif isinstance(step, text.Multiply):
            a, b = sources
            found = largest(step.left) * b + largest(step.right) * a + a * b
        elif isinstance(step, text.Truncate | text.Relu | text.MaxPool | text.Best):
            found = -(-found // (1 << step.drop)) + (1 if step.drop else 0)
            if isinstance(step, text.Relu) and step.whole is not None:
                off[step.whole] = found
            gates = gates_of(program.public, step, len(images))
            found += sum(1 << gate.low for gate in gates if gate.low)
        elif isinstance(step, text.Decide):
            found = 1 if found or step.drop else 0
        elif isinstance(step, text.Combine):
            found = sum(abs(factor) * source for factor, source in zip(step.factors, sources, strict=True))
        elif isinstance(step, text.Weigh):
            found *= sum(abs(factor) for factor in step.factors)
        elif isinstance(step, text.SumPool):
            found *= math.prod(step.kernel)
        elif isinstance(step, text.Sum):
            found *= math.prod(program.public.registers[step.source].shape[axis] for axis in step.axes)
        elif isinstance(step, text.PublicScale):
            found *= max(abs(factor) for factor in step.factors)
        off[step.out] = found
    return off
