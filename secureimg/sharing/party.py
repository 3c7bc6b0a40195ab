"""A party: what it prepares before the image is there, and what it does when it is.

Party 0 has no weights: it holds masked ones, and prepares its share of every linear map from its seed alone. Party 1
has the weights, and corrections from the dealer. Online both walk the program's steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import LocalProtocolError
from secureimg.sharing import text
from secureimg.sharing.arithmetic import multiply, receive_blinded, send_blinded, truncate
from secureimg.sharing.channel import Channel
from secureimg.sharing.dealer import blind_mask, weight_mask
from secureimg.sharing.gate import Gate
from secureimg.sharing.gate_party import run_gate
from secureimg.sharing.handing_on import Handed
from secureimg.sharing.local import local_step
from secureimg.sharing.ownership import read_share, zero_share
from secureimg.sharing.plan import correction_bytes, gates_of, mask_bytes, only_gate
from secureimg.sharing.products import Factor, apply_linear, ring_factor, small_factor
from secureimg.sharing.program import Program, PublicProgram
from secureimg.sharing.ring import Words, byte_width, pack, unpack
from secureimg.sharing.seat import CHUNK, Seat
from secureimg.sharing.shared_weights import SharedFactor, multiply_shared, open_weights, prepared_part
from secureimg.sharing.streams import Stream
from secureimg.sharing.tournament import find_best, pool

__all__ = ["PartyOne", "PartyZero", "Prepared", "Result"]

Bytes = NDArray[np.uint8]
_NOTHING = np.empty(0, dtype=np.uint8)


@dataclass
class Prepared:
    """A party's correlation for one run, good for exactly one."""

    images: int
    seed: bytes = field(repr=False)
    corrections: Bytes = field(repr=False)
    parts: dict[int, Words] = field(repr=False, default_factory=dict)
    spent: bool = False

    def spend(self) -> None:
        """Mark as used; refuse a second use."""
        if self.spent:
            raise LocalProtocolError("this correlation was used already: prepare another one")
        self.spent = True


@dataclass(frozen=True)
class Result:
    """A party's share of what is revealed, and the rounds it took."""

    share: Bytes = field(repr=False)
    rounds: int


class _Party:
    number: int

    def __init__(self, public: PublicProgram) -> None:
        self.public = public
        self._last: dict[int, int] = {}
        for place, step in enumerate(public.steps):
            for source in text.sources_of(step):
                self._last[source] = place
        self._last[public.output] = len(public.steps)
        self._shared: dict[int, SharedFactor] = {}

    def open_weights(self, share: Program, seed: bytes, channel: Channel) -> None:
        """Open the masked weights of a program with shared weights, together with the other party; once for a dealer.

        Parameters
        ----------
        share : Program
            This party's, from `share_weights`.
        seed : bytes
            From `weight_share_seed`.
        channel : Channel
        """
        self._shared = open_weights(share, self.number, seed, channel)

    def _prepare_shared(self, prepared: Prepared) -> Prepared:
        for number, step in enumerate(self.public.steps):
            if isinstance(step, text.SharedLinear):
                if number not in self._shared:
                    raise LocalProtocolError("the weights are shared: call open_weights first")
                out = prepared_part(self._shared[number], number, step, prepared.images, prepared.seed)
                if not self.number:
                    _add_stream(out, Stream(prepared.seed, "linear", number))
                prepared.parts[number] = out
        return prepared

    def correction_bytes(self, images: int) -> int:
        """Bytes of corrections that party 1 needs for as many images."""
        return sum(correction_bytes(self.public, step, images) for step in self.public.steps)

    def run(
        self,
        prepared: Prepared,
        share: bytes | Bytes | Handed,
        channel: Channel,
        *,
        watch: Callable[[int], None] | None = None,
    ) -> Result:
        """Run the program on a share of the images.

        Parameters
        ----------
        prepared : Prepared
            From `prepare`; used up.
        share : bytes, ndarray of uint8 or Handed
            Party 0: the owner's seed. Party 1: `public.share_bytes(images)` bytes. Either: what `hand_on` gives.
        channel : Channel
            To the other party.
        watch : callable, optional
            Called with the number of each step when it is done.

        Returns
        -------
        Result
        """
        prepared.spend()
        seat = Seat(self.number, channel)
        if isinstance(share, Handed):
            first = read_share(self.public, share.data, prepared.images)
        else:
            first = self._input(share, prepared.images)
        values: dict[int, Words] = {0: first}
        place = 0
        for number, step in enumerate(self.public.steps):
            size = correction_bytes(self.public, step, prepared.images) if prepared.corrections.size else 0
            corrections = prepared.corrections[place : place + size]
            place += size
            sources = [values[source] for source in text.sources_of(step)]
            values[step.out] = self._step(number, step, sources, prepared, corrections, seat, values)
            for source in set(text.sources_of(step)):
                if self._last[source] == number:
                    del values[source]
            if watch is not None:
                watch(number)
        channel.flush()
        register = self.public.registers[self.public.output]
        words = values[self.public.output].reshape(-1) & np.uint64((1 << register.width) - 1)
        out = np.empty(words.size * byte_width(register.width), dtype=np.uint8)
        pack(words, byte_width(register.width), out)
        return Result(out, seat.rounds)

    def _step(
        self, number: int, step: text.Step, sources: list[Words], prepared: Prepared, corrections: Bytes, seat: Seat,
        values: dict[int, Words],
    ) -> Words:  # fmt: skip
        register = self.public.registers[step.out]
        seed, value = prepared.seed, sources[0]
        if isinstance(step, text.Blind):
            return self._blind(number, step, value, prepared, seat)
        if isinstance(step, text.Linear):
            return self._linear(number, step, value, prepared, corrections)
        if isinstance(step, text.SharedLinear):
            out = multiply_shared(seat, self._shared[number], number, step, value, seed)
            out += prepared.parts.pop(number)
            _add_corrections(out, corrections, byte_width(step.width))
            return out
        if isinstance(step, text.Multiply):
            return multiply(seat, number, step, sources, seed, corrections)
        if isinstance(step, text.Truncate):
            return truncate(seat, number, step, value, seed, corrections)
        if isinstance(step, text.Relu | text.Decide):
            out = np.empty(value.shape, dtype=np.uint64)
            whole = None
            if isinstance(step, text.Relu) and step.whole is not None:
                whole = values[step.whole] = np.empty(value.shape, dtype=np.uint64)
            gate = only_gate(self.public, step, prepared.images)
            run_gate(seat, gate, f"{number}.0", seed, corrections, value.reshape(-1), out.reshape(-1),
                     None if whole is None else whole.reshape(-1))  # fmt: skip
            return out
        if isinstance(step, text.MaxPool | text.Best):
            compare = self._comparer(number, step, prepared, corrections, seat)
            kept = value >> np.uint64(step.drop)
            if step.drop and not self.number:
                kept += np.uint64(1)
            if isinstance(step, text.MaxPool):
                return pool(step, kept, register.shape, self.number == 0, compare)
            return find_best(step, kept, self.number == 0, compare)
        return local_step(step, sources, register, self.number == 0)

    def _comparer(
        self, number: int, step: text.MaxPool | text.Best, prepared: Prepared, corrections: Bytes, seat: Seat
    ) -> Callable[[Gate, Words], Words]:
        gates = iter(enumerate(gates_of(self.public, step, prepared.images)))
        place = 0

        def compare(gate: Gate, differences: Words) -> Words:
            nonlocal place
            level, planned = next(gates)
            assert planned == gate
            size = sum(gate.correction_bytes(padded) for _, _, padded in gate.chunks()) if corrections.size else 0
            out = np.empty(gate.count, dtype=np.uint64)
            part = corrections[place : place + size]
            run_gate(seat, gate, f"{number}.{level}", prepared.seed, part, differences, out)
            place += size
            return out

        return compare

    def _input(self, share: bytes | Bytes, images: int) -> Words:
        raise NotImplementedError

    def _blind(self, number: int, step: text.Blind, value: Words, prepared: Prepared, seat: Seat) -> Words:
        raise NotImplementedError

    def _linear(self, number: int, step: text.Linear, value: Words, prepared: Prepared, corrections: Bytes) -> Words:
        raise NotImplementedError


class PartyZero(_Party):
    """The party without weights.

    Parameters
    ----------
    public : PublicProgram
    weights : Program or None
        The whole program, if its weights are public.
    """

    number = 0

    def __init__(self, public: PublicProgram, weights: Program | None = None) -> None:
        super().__init__(public)
        self._factors: dict[int, Factor] = _public_factors(weights)

    @property
    def masked_weight_bytes(self) -> int:
        """Bytes of masked weights that party 1 sends once."""
        return sum(mask_bytes(self.public, step) for step in self.public.steps)

    def load_masked_weights(self, receive: Callable[[Bytes], None]) -> None:
        """Take the masked weights, a layer at a time.

        Parameters
        ----------
        receive : callable
            Fills a buffer with the next bytes.
        """
        for number, step in enumerate(self.public.steps):
            size = mask_bytes(self.public, step)
            if isinstance(step, text.Linear) and size:
                data = np.empty(size, dtype=np.uint8)
                receive(data)
                words = np.empty(step.geometry.weights, dtype=np.uint64)
                unpack(data, byte_width(step.width), words)
                self._factors[number] = ring_factor(step.geometry, words, step.width)

    def prepare(self, images: int, seed: bytes) -> Prepared:
        """Offline: this party's share of every linear map, from its seed.

        Cost: one product of every linear map with full-size factors.
        """
        prepared = Prepared(images, seed, _NOTHING)
        blinds: dict[int, tuple[int, text.Blind]] = {}
        for number, step in enumerate(self.public.steps):
            if isinstance(step, text.Blind):
                blinds[step.out] = (number, step)
            elif isinstance(step, text.Linear) and step.hidden:
                mask = blind_mask(seed, *blinds[step.source], (images, *step.geometry.in_shape))
                out = apply_linear(step.geometry, self._factors[number], mask, step.width)
                _add_stream(out, Stream(seed, "linear", number))
                prepared.parts[number] = out
        return self._prepare_shared(prepared)

    def _input(self, share: bytes | Bytes, images: int) -> Words:
        count = images * int(np.prod(self.public.input_shape))
        return zero_share(bytes(share), count).reshape(images, *self.public.input_shape)

    def _blind(self, number: int, step: text.Blind, value: Words, prepared: Prepared, seat: Seat) -> Words:
        mask = blind_mask(prepared.seed, number, step, value.shape)
        send_blinded(seat, value.reshape(-1), mask.reshape(-1), step.width)
        return mask

    def _linear(self, number: int, step: text.Linear, value: Words, prepared: Prepared, corrections: Bytes) -> Words:
        if step.hidden:
            return prepared.parts.pop(number)
        return apply_linear(step.geometry, self._factors[number], value, step.width)


class PartyOne(_Party):
    """The party that knows the weights.

    Parameters
    ----------
    program : Program
    """

    number = 1

    def __init__(self, program: Program) -> None:
        super().__init__(program.public)
        self._program = program
        steps = program.public.steps
        self._factors = {
            number: small_factor(step.geometry, program.weights[number][0])
            for number, step in enumerate(steps)
            if isinstance(step, text.Linear)
        }

    def masked_weights(self, weight_seed: bytes) -> Iterator[Bytes]:
        """Yield the weights minus their mask, for party 0, a layer at a time.

        Parameters
        ----------
        weight_seed : bytes
            32 bytes shared with one dealer for the life of the model.
        """
        for number, step in enumerate(self.public.steps):
            if isinstance(step, text.Linear) and step.hidden:
                words = self._program.weights[number][0].reshape(-1) - weight_mask(weight_seed, number, step)
                words &= np.uint64((1 << step.width) - 1)  # nothing above what the mask hides
                data = np.empty(mask_bytes(self.public, step), dtype=np.uint8)
                pack(words, byte_width(step.width), data)
                yield data

    def prepare(self, images: int, seed: bytes, corrections: Bytes) -> Prepared:
        """Offline: keep seed and corrections for a run."""
        wanted = self.correction_bytes(images)
        if corrections.size != wanted:
            raise LocalProtocolError(f"{corrections.size} bytes of corrections for {images} image(s), need {wanted}")
        return self._prepare_shared(Prepared(images, seed, corrections))

    def _input(self, share: bytes | Bytes, images: int) -> Words:
        return read_share(self.public, np.frombuffer(share, dtype=np.uint8), images)

    def _blind(self, number: int, step: text.Blind, value: Words, prepared: Prepared, seat: Seat) -> Words:
        return receive_blinded(seat, value.reshape(-1), step.width).reshape(value.shape)

    def _linear(self, number: int, step: text.Linear, value: Words, prepared: Prepared, corrections: Bytes) -> Words:
        out = apply_linear(step.geometry, self._factors[number], value, step.width)
        if step.hidden:
            _add_corrections(out, corrections, byte_width(step.width))
        bias = self._program.weights[number][1]
        if bias is not None:
            out += bias
        return out


def _public_factors(program: Program | None) -> dict[int, Factor]:
    if program is None:
        return {}
    return {
        number: small_factor(step.geometry, program.weights[number][0])
        for number, step in enumerate(program.public.steps)
        if isinstance(step, text.Linear) and not step.hidden
    }


def _add_stream(out: Words, stream: Stream) -> None:
    """Add party 0's share of what the dealer corrects."""
    flat = out.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        part = flat[start : start + CHUNK]
        part += stream.words(part.size)


def _add_corrections(out: Words, corrections: Bytes, size: int) -> None:
    """Add party 1's corrections; party 0 has none."""
    flat, add = out.reshape(-1), np.empty(CHUNK, dtype=np.uint64)
    for start in range(0, flat.size if corrections.size else 0, CHUNK):
        part = flat[start : start + CHUNK]
        unpack(corrections[start * size : (start + part.size) * size], size, add[: part.size])
        part += add[: part.size]
