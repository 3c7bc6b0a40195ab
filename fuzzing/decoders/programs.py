"""Public programs: of the CKKS server, of the parties, and as a file."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from fuzzing.decoders.worlds import ckks_programs, share_programs
from fuzzing.targets import Target
from fuzzing.trees import msgpack_codec
from protocols.frames import HEADER_BYTES as FRAME_HEADER
from protocols.messages import InputPreparation
from protocols.program_file import decode_program, encode_program
from protocols.web.facts import describe
from secureimg import ckks, sharing
from secureimg.ckks.blobs import HEADER_BYTES, Kind, frame
from secureimg.ckks.clear import pack_input, unpack_output
from secureimg.ckks.program import _Body
from secureimg.sharing import Dealer, cost_of

__all__ = ["make_targets", "seal_program"]

_MAGIC: Final = b"SIMGSHR1"
_SMALL: Final = 1 << 16


def seal_program(payload: bytes) -> bytes:
    """Frame a program's payload, with the fingerprint that belongs to it if it decodes."""
    try:
        fingerprint = ckks.PublicProgram(msgspec.msgpack.decode(payload, type=_Body)).fingerprint_bytes
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        fingerprint = b""
    return frame(Kind.PROGRAM, payload, fingerprint)


def _use(public: ckks.PublicProgram) -> None:
    """What an owner does with a program, as far as it needs no keys."""
    ckks.EvaluationKeys.expected_bytes(public)
    if public.body.packing.ciphertexts * public.body.packing.slots <= _SMALL and np.prod(public.input_shape) <= _SMALL:
        pack_input(public, np.zeros(public.input_shape))
    places = public.body.output
    if places.ciphertexts * places.slots <= _SMALL and np.prod(public.output_shape) <= _SMALL:
        unpack_output(public, np.zeros((places.ciphertexts, places.slots)))
    if ckks.PublicProgram.from_bytes(public.to_bytes()).fingerprint != public.fingerprint:
        raise AssertionError("a program that was read and written again is another one")


def _decode_ckks(data: bytes) -> object:
    public = ckks.PublicProgram.from_bytes(data)
    _use(public)
    return public


def _reseal_ckks(data: bytes) -> bytes:
    return seal_program(data[HEADER_BYTES:])


def _decode_shares(data: bytes) -> object:
    public = sharing.PublicProgram.from_bytes(data)
    cost = cost_of(public, 1)
    public.share_bytes(1)
    public.result_bytes(1)
    msgspec.json.encode(describe(public, party=0, other=None, images=1))
    if sharing.PublicProgram.from_bytes(public.to_bytes()).fingerprint != public.fingerprint:
        raise AssertionError("a program that was read and written again is another one")
    if sum(step.geometry.weights for step in public.steps if hasattr(step, "geometry")) <= _SMALL:
        Dealer(public, bytes(32))
    return cost


def _decode_file(data: bytes) -> object:
    return decode_program(data, "the file")


def _reseal_file(data: bytes) -> bytes:
    """The offer's length of body, and the blob in it."""
    middle = FRAME_HEADER + int.from_bytes(data[6:8], "big")
    body = seal_program(data[middle + HEADER_BYTES :])
    return data[:8] + len(body).to_bytes(8, "big") + data[16:middle] + body


def _file_seeds() -> list[bytes]:
    preparation = InputPreparation(mode="L", size=(6, 6), mean=(0.5,), std=(0.25,))
    return [encode_program("net", public, preparation) for public in ckks_programs()]


def make_targets() -> list[Target]:
    """Programs."""
    return [
        Target(
            "ckks-program",
            "the public program that a CKKS server offers",
            _decode_ckks,
            lambda: [public.to_bytes() for public in ckks_programs()],
            _reseal_ckks,
            msgpack_codec(lambda data: data[HEADER_BYTES:], lambda _, payload: seal_program(payload)),
            seconds=5.0,  # a context of the largest ring takes two thirds of a second
            growth=512 << 20,
        ),
        Target(
            "shares-program",
            "the public program that a party offers",
            _decode_shares,
            lambda: [program.public.to_bytes() for program in share_programs()],
            lambda data: _MAGIC + data[len(_MAGIC) :],
            msgpack_codec(lambda data: data[len(_MAGIC) :], lambda _, payload: _MAGIC + payload),
        ),
        Target(
            "program-file",
            "a public program as a file, for owners who move blobs themselves",
            _decode_file,
            _file_seeds,
            _reseal_file,
            seconds=5.0,
            growth=512 << 20,
        ),
    ]
