"""Rule: a gallery file is what was enrolled, for its owner only, or an error that says what is wrong; never a crash."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.galleries import MAX_SIDE, Gallery, decode_gallery, encode_gallery, read_gallery, write_gallery
from secureimg.errors import BlobError, KeyMaterialError

HEADER = struct.Struct(">4sBIQ32s")


@functools.cache
def gallery(metric: str = "cosine", thumbnails: bool = True) -> Gallery:
    rng = np.random.default_rng(4)
    templates = rng.normal(size=(3, 8))
    lengths = np.linalg.norm(templates, axis=1)
    if metric == "cosine":
        templates /= lengths[:, None]
    small = tuple(rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((5, 4), (MAX_SIDE, 2, 3), (1, 1)))
    return Gallery(
        model="feature:hog:32x32", layer=None, digest="ab" * 32, metric=metric,
        lengths=(float(lengths.min()), float(lengths.max())), labels=("ann", "bob é", "ann"),
        templates=templates.astype(np.float32), thumbnails=small if thumbnails else None,
    )  # fmt: skip


def changed_head(**changes: object) -> bytes:
    """A gallery file with other values in its head, and a hash that says all is well."""
    data = encode_gallery(gallery())
    size = HEADER.unpack_from(data)[2]
    head = msgspec.msgpack.decode(data[HEADER.size : HEADER.size + size]) | changes
    return sealed(msgspec.msgpack.encode(head), data[HEADER.size + size :])


def sealed(head: bytes, body: bytes) -> bytes:
    return HEADER.pack(b"SGAL", 1, len(head), len(body), hashlib.sha256(head + body).digest()) + head + body


@pytest.mark.parametrize("metric", ["cosine", "sqeuclidean"])
@pytest.mark.parametrize("thumbnails", [True, False])
def test_a_file_gives_back_what_was_written(tmp_path: Path, metric: str, thumbnails: bool) -> None:
    """All of it, in a file that only its user may read, and never over another."""
    path, wanted = tmp_path / "g.gallery", gallery(metric, thumbnails)
    size = write_gallery(path, wanted)
    assert path.stat().st_size == size
    assert path.stat().st_mode & 0o777 == 0o600
    found = read_gallery(path)
    for field in dataclasses.fields(Gallery):
        one, other = getattr(found, field.name), getattr(wanted, field.name)
        if field.name == "thumbnails" and thumbnails:
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
        else:
            assert np.array_equal(one, other) if isinstance(other, np.ndarray) else one == other
    with pytest.raises(KeyMaterialError, match="exists already"):
        write_gallery(path, wanted)
    assert "ann" not in repr(found)


@given(st.data())
def test_damage_is_noticed(data: st.DataObject) -> None:
    """Any flipped bit, any cut, anything behind the end."""
    whole = encode_gallery(gallery())
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place] ^= data.draw(st.integers(1, 255))
    for broken in (bytes(flipped), whole[:place], whole + data.draw(st.binary(min_size=1, max_size=40))):
        with pytest.raises(BlobError, match=r"^it "):
            decode_gallery(broken, "it")


@given(st.data())
def test_a_forged_hash_gives_a_gallery_or_our_error(data: st.DataObject) -> None:
    """Whoever computes the hash anew gets no further: what is decoded keeps every promise of the class."""
    whole = encode_gallery(gallery())
    size = HEADER.unpack_from(whole)[2]
    content = bytearray(whole[HEADER.size :])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BlobError):
        found = decode_gallery(sealed(bytes(content[:size]), bytes(content[size:])), "it")
        assert found.templates.shape == (len(found.labels), 8)
        assert np.isfinite(found.templates).all()
        assert all(label.isprintable() for label in found.labels)


@pytest.mark.parametrize(("changes", "message"), [
    ({"labels": []}, "Expected `array` of length >= 1"),
    ({"labels": ["a", "b", "\x1b[2J"]}, "cannot be printed"),
    ({"labels": ["a", "b", "x" * 201]}, "length <= 200"),
    ({"labels": ["a", "b"]}, "3 thumbnails of 2 templates"),
    ({"size": 9}, "its head says"),
    ({"size": 0}, ">= 1"),
    ({"metric": "hamming"}, "hamming"),
    ({"digest": "no"}, "regex"),
    ({"lengths": (2.0, 1.0)}, "not finite"),
    ({"lengths": (0.0, 1.0)}, "length is not 1"),
    ({"thumbnails": [(5, 4, 1), (MAX_SIDE + 1, 2, 3), (1, 1, 1)]}, f"<= {MAX_SIDE}"),
    ({"thumbnails": [(5, 4, 1), (5, 4, 2), (1, 1, 1)]}, "2"),
    ({"more": 1}, "unknown field"),
])  # fmt: skip
def test_a_head_keeps_its_limits(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BlobError, match=message):
        decode_gallery(changed_head(**changes), "it")


def test_lengths_are_checked_before_anything_is_stored(tmp_path: Path) -> None:
    """A header that announces more than the limit, another version, no gallery, no file, a folder."""
    data = encode_gallery(gallery())
    for header, message in (
        (HEADER.pack(b"SGAL", 1, 100, 1 << 62, bytes(32)), "the limit is"),
        (HEADER.pack(b"SGAL", 2, 0, 0, bytes(32)), "version 2"),
        (HEADER.pack(b"SIMG", 1, 0, 0, bytes(32)), "not a gallery file"),
    ):
        with pytest.raises(BlobError, match=message):
            decode_gallery(header + data[HEADER.size :], "it")
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(BlobError, match=str(path)):
            read_gallery(path)


def test_templates_of_no_length_and_empty_galleries_are_not_written() -> None:
    whole = gallery()
    with pytest.raises(BlobError, match="0 templates"):
        encode_gallery(dataclasses.replace(whole, templates=whole.templates[:0], labels=(), thumbnails=None))
    with pytest.raises(BlobError, match="length is not 1"):
        encode_gallery(dataclasses.replace(whole, templates=2 * whole.templates))
