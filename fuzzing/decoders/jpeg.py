"""JPEG files read as coefficients, and the parts of split photographs."""

from __future__ import annotations

import hashlib
import io
import random
from functools import cache
from typing import Any, Final

import msgspec
import numpy as np
import zstandard
from PIL import Image

from fuzzing.mutation import blind
from fuzzing.targets import Target
from fuzzing.trees import msgpack_codec
from secureimg.errors import BlobError
from secureimg.publishing.jpeg import read_jpeg, write_jpeg
from secureimg.publishing.split import join_jpeg, split_jpeg
from secureimg.publishing.split_pictures import join_pictures

__all__ = ["make_targets"]

_MOST_BYTES: Final = 1 << 20
_MOST_PIXELS: Final = 1 << 16
_BEGIN: Final = 37


def _saved(mode: str, **options: Any) -> bytes:
    rng = np.random.default_rng(11)
    smooth = np.add.outer(np.arange(40) * 3, np.arange(48) * 2) % 256
    pixels = np.clip(smooth[..., None] + rng.normal(0, 30, (40, 48, 3)), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


@cache
def _photographs() -> list[bytes]:
    return [
        _saved("RGB"), _saved("L", optimize=True), _saved("CMYK"), _saved("RGB", progressive=True, subsampling=0),
        _saved("RGB", restart_marker_blocks=2, quality=90), _saved("L", progressive=True, restart_marker_blocks=3),
    ]  # fmt: skip


def _decode_file(data: bytes) -> object:
    image = read_jpeg(data, max_bytes=_MOST_BYTES, max_pixels=_MOST_PIXELS)
    again = read_jpeg(write_jpeg(image), max_bytes=8 * _MOST_BYTES, max_pixels=_MOST_PIXELS)
    for k in range(len(image.frame.components)):
        if not np.array_equal(image.plane(k), again.plane(k)):
            raise AssertionError("coefficients that were written and read again are others")
    return image


def _change_scan(data: bytes, rng: random.Random) -> bytes:
    """Damage behind the last header only: what gets to the kernels."""
    place = data.rfind(b"\xff\xda") + 10
    return data[:place] + blind(data[place:], [data[place:]], rng)


@cache
def _splits() -> list[tuple[bytes, bytes]]:
    return [(split.public, split.secret) for split in map(split_jpeg, _photographs())]


def _sealed(body: bytes) -> bytes:
    return b"SSPL\x01" + hashlib.sha256(body).digest() + body


def _resealed(data: bytes) -> bytes:
    return _sealed(data[_BEGIN:])


def _tree(data: bytes) -> bytes:
    if not 0 < zstandard.get_frame_parameters(data[_BEGIN:]).content_size <= _MOST_BYTES:
        raise zstandard.ZstdError("size")
    return zstandard.ZstdDecompressor().decompress(data[_BEGIN:])


def _with_tree(_base: bytes, tree: bytes) -> bytes:
    return _sealed(zstandard.compress(tree))


def _decode_secret(data: bytes) -> object:
    """Join with the public part that it names, and else with any."""
    publics = [public for public, _ in _splits()]
    for public in publics:
        if hashlib.sha256(public).digest() in _named(data):
            return join_jpeg(public, data)
    return join_jpeg(publics[0], data)


def _named(data: bytes) -> bytes:
    try:
        tree = msgspec.msgpack.decode(_tree(data))
    except (zstandard.ZstdError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return b""
    found = tree[2] if isinstance(tree, list) and len(tree) > 2 else None
    return found if isinstance(found, bytes) else b""


def _publics() -> list[bytes]:
    return [public for public, _ in _splits()]


def _decode_public(data: bytes) -> object:
    """A picture that a host gives for a public part that has another picture's size, or its own."""
    for public, secret in _splits():
        try:
            return join_jpeg(data, secret) if data == public else join_pictures(data, secret, resampling="bicubic")
        except BlobError:  # of another photograph: the next may be it
            continue
    raise BlobError("no secret part is of this picture")


def make_targets() -> list[Target]:
    """Files, secret parts, and public parts as a host gives them."""
    return [
        Target("jpeg-coefficients", "a JPEG file, as coefficients", _decode_file, _photographs, None, _change_scan),
        Target(
            "split-secret", "the secret part of a split photograph", _decode_secret,
            lambda: [secret for _, secret in _splits()], _resealed, msgpack_codec(_tree, _with_tree),
        ),
        Target("split-public", "a public part, back from a host", _decode_public, _publics),
    ]  # fmt: skip
