"""What parties and owners of shares read: stored correlations, shares of inputs and results."""

from __future__ import annotations

import os
from functools import cache
from typing import Final

import msgspec
import numpy as np

from fuzzing.decoders.scratch import written
from fuzzing.decoders.worlds import share_programs
from fuzzing.targets import Target
from fuzzing.trees import msgpack_codec
from secureimg.errors import BlobError
from secureimg.sharing import Correlation, join_result
from secureimg.sharing.sealed import Header, Sealing, decode_header, read_sealing
from secureimg.sharing.streams import SEED_BYTES

__all__ = ["make_targets"]

_MASTER: Final = b"m" * 32
_ID: Final = "0123456789abcdef" * 2
_PREFIX: Final = 14
_IMAGES: Final = 2


def _correlation(size: int) -> bytes:
    """A whole file of a store."""
    item = Correlation(_ID, "ab" * 32, 1, "dealer", "cd" * 16, size, 1.5e9)
    return _sealed(msgspec.msgpack.encode(Header(item, bytes(16))))


def _sealed(encoded: bytes) -> bytes:
    """The file that a header, sound or not, would have."""
    try:
        header = msgspec.msgpack.decode(encoded, type=Header)
        size = header.item.size
        sealing = Sealing.of(header, encoded, _MASTER)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return b"SIMGCORR\x01\0" + len(encoded).to_bytes(4, "little") + encoded + bytes(48)
    if size > 1 << 16:  # its file is not there
        return sealing.head + sealing.seal(0, bytes(SEED_BYTES))
    chunks = [sealing.seal(1, bytes(size))] if size else []
    return b"".join((sealing.head, sealing.seal(0, bytes(SEED_BYTES)), *chunks))


def _decode_correlation(data: bytes) -> object:
    descriptor = os.open(written(data, ".ready"), os.O_RDONLY)
    try:
        sealing, seed = read_sealing(descriptor, f"{_ID}.ready", _MASTER)
        for index in range(1, sealing.last + 1):
            sealing.open(index, descriptor, f"{_ID}.ready")
        return seed
    finally:
        os.close(descriptor)


def _reseal_correlation(data: bytes) -> bytes:
    length = int.from_bytes(data[10:14], "little")
    return _sealed(data[_PREFIX : _PREFIX + length]) if length <= len(data) else data


def _headers() -> list[bytes]:
    return [
        _correlation(size)[_PREFIX : _PREFIX + int.from_bytes(_correlation(size)[10:14], "little")] for size in (0, 5)
    ]


@cache
def _widths() -> list[int]:
    return [program.public.result_bytes(_IMAGES) for program in share_programs()]


def _decode_results(data: bytes) -> object:
    """The two parties' answers as an owner joins them: the first byte chooses the program, the second where one ends."""
    if len(data) < 2:
        raise BlobError("too short to be two shares")
    number = data[0] % len(_widths())
    middle = 2 + max(0, _widths()[number] + (data[1] + 128) % 256 - 128)
    first, second = (np.frombuffer(part, dtype=np.uint8) for part in (data[2:middle], data[middle:]))
    return join_result(share_programs()[number].public, first, second, _IMAGES)


def _result_seeds() -> list[bytes]:
    ones = (bytes([number, 0]) + b"\xff" * width + bytes(width) for number, width in enumerate(_widths()))
    return list(ones)  # the first place, where the result is a place


def _reseal_results(data: bytes) -> bytes:
    """Both shares of the right length."""
    if len(data) < 2:
        return data
    wanted = 2 + 2 * _widths()[data[0] % len(_widths())]
    return (bytes([data[0], 0]) + data[2:wanted]).ljust(wanted, b"\xa5")


def make_targets() -> list[Target]:
    """Correlations and shares."""
    return [
        Target(
            "correlation-file", "a stored correlation: header, seed, sealed corrections", _decode_correlation,
            lambda: [_correlation(size) for size in (0, 5, 1000)], _reseal_correlation,
            msgpack_codec(
                lambda data: data[_PREFIX : _PREFIX + int.from_bytes(data[10:14], "little")],
                lambda _, encoded: _sealed(encoded),
            ),
        ),
        Target(
            "correlation-header", "the description of a correlation", lambda data: decode_header(data, "the header"),
            _headers, None, msgpack_codec(lambda data: data, lambda _, encoded: encoded),
        ),
        Target(
            "result-shares", "both parties' shares of an answer, joined by the owner", _decode_results, _result_seeds,
            _reseal_results,
        ),
    ]  # fmt: skip
