"""Thumbnail-preserving encryption: the thumbnail to the last bit, decryption exact, other or changed images refused."""

from __future__ import annotations

import hashlib
import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, PngImagePlugin

from secureimg.errors import BlobError, ImageError, PublishingError
from secureimg.publishing import (
    RecipientKey,
    ThumbnailTicket,
    block_sums,
    decode_cipher_png,
    decrypt_thumbnail,
    encode_cipher_png,
    encode_picture_png,
    encrypt_thumbnail,
    seal,
    thumbnail_guarantee,
    unseal,
)
from secureimg.publishing.thumbnails import _encrypt

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(
    lambda sides: st.sampled_from([sides, (*sides, 3)])  # grey, RGB
)
IMAGES = SHAPES.flatmap(lambda shape: arrays(np.uint8, shape))


def photo(height: int = 100, width: int = 130, channels: int = 3) -> np.ndarray:
    rows, columns, channel = np.mgrid[:height, :width, :channels]
    image = (128 + 100 * np.sin(rows / 9 + channel) * np.cos(columns / 7)).astype(np.uint8)
    return image if channels == 3 else image[..., 0]


@given(IMAGES, st.integers(2, 64))
@settings(max_examples=60, deadline=None)
def test_the_thumbnail_is_the_originals_and_decryption_is_exact(image: np.ndarray, block: int) -> None:
    """Whatever the image's sides are, multiples of the block or not."""
    cipher, ticket = encrypt_thumbnail(image, block, workers=1)
    assert (cipher.dtype, cipher.shape) == (image.dtype, image.shape)
    assert np.array_equal(block_sums(cipher, block), block_sums(image, block))
    assert np.array_equal(
        np.asarray(Image.fromarray(cipher).reduce(block)), np.asarray(Image.fromarray(image).reduce(block))
    )
    assert np.array_equal(decrypt_thumbnail(cipher, ticket, workers=1), image)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("block", [2, 5, 16, 64])
def test_hosts_thumbnails_made_by_pillow_are_equal(channels: int, block: int) -> None:
    image = photo(channels=channels)
    cipher, _ = encrypt_thumbnail(image, block)
    assert (cipher != image).mean() > 0.9 if block > 2 else (cipher != image).mean() > 0.5
    for factor in (block, 2 * block):
        ours, theirs = (np.asarray(Image.fromarray(each).reduce(factor)) for each in (cipher, image))
        assert np.array_equal(ours, theirs)


def test_a_block_of_one_value_is_its_own_thumbnail() -> None:
    image = photo(33, 17)
    cipher, _ = encrypt_thumbnail(image, 16)
    assert np.array_equal(cipher[32, 16], image[32, 16])


def test_threads_do_not_change_the_cipher_image() -> None:
    image, key = photo(300, 300), bytes(range(32))
    first, second = (_encrypt(image, 16, key, workers)[0] for workers in (1, 3))
    assert np.array_equal(first, second)


def test_a_known_image_has_a_known_cipher_image() -> None:
    """Images published today decrypt tomorrow: a key gives the same pixels for ever, whatever the groups are then."""
    image = (np.arange(300 * 301 * 3) % 251).astype(np.uint8).reshape(300, 301, 3)
    cipher, ticket = _encrypt(image, 16, bytes(range(32)), 1)
    assert (
        hashlib.sha256(cipher.tobytes()).hexdigest()
        == "0506ac4ac59945456fd7c3423d22f9f53a17158a5ea3aef47e398451a5fc1b46"
    )
    assert ticket.mac.hex() == "4eea59b5e6a14c2a810811d27164182360f75dd243e67ad40bd1e1d28a548e95"


# ------------------------------------------------------------------------------------------------------------ refusals


def test_one_changed_pixel_is_refused() -> None:
    cipher, ticket = encrypt_thumbnail(photo())
    for place in ((0, 0, 0), (50, 60, 1), (99, 129, 2)):
        changed = cipher.copy()
        changed[place] ^= 1
        with pytest.raises(BlobError, match="changed on the way"):
            decrypt_thumbnail(changed, ticket)


def test_two_swapped_pixels_of_a_block_are_refused_though_the_thumbnail_is_the_same() -> None:
    cipher, ticket = encrypt_thumbnail(photo())
    changed = cipher.copy()
    changed[0, :16] = cipher[0, 15::-1]
    assert np.array_equal(block_sums(changed, 16), block_sums(cipher, 16))
    with pytest.raises(BlobError, match="changed on the way"):
        decrypt_thumbnail(changed, ticket)


def test_the_ticket_of_another_image_is_refused() -> None:
    image = photo()
    cipher, ticket = encrypt_thumbnail(image)
    _, other = encrypt_thumbnail(image)
    with pytest.raises(BlobError, match="not the one"):
        decrypt_thumbnail(cipher, other)
    for wrong in (
        ThumbnailTicket(ticket.key, 8, ticket.shape, ticket.mac),
        ThumbnailTicket(bytes(32), 16, ticket.shape, ticket.mac),
    ):
        with pytest.raises(BlobError, match="not the one"):
            decrypt_thumbnail(cipher, wrong)


@pytest.mark.parametrize("how", ["resized", "grey", "float"])
def test_an_image_that_a_host_resized_or_converted_is_refused(how: str) -> None:
    cipher, ticket = encrypt_thumbnail(photo())
    changed = {"resized": cipher[::2, ::2], "grey": cipher[..., 0], "float": cipher / 255}[how]
    with pytest.raises(BlobError, match="resized or converted"):
        decrypt_thumbnail(changed, ticket)


@pytest.mark.parametrize(
    ("image", "block", "words"),
    [
        (np.zeros((4, 4, 4), np.uint8), 2, "transparency"),
        (np.zeros((4, 4), np.float64), 2, "uint8"),
        (np.zeros((0, 4), np.uint8), 2, "pixels are taken"),
        (np.zeros((4, 4), np.uint8), 1, "limits are 2 and 64"),
        (np.zeros((4, 4), np.uint8), 65, "limits are 2 and 64"),
    ],
)
def test_what_the_method_does_not_take_is_refused(image: np.ndarray, block: int, words: str) -> None:
    with pytest.raises(PublishingError, match=words):
        encrypt_thumbnail(image, block)


# ------------------------------------------------------------------------------------------------- tickets and files


def test_a_sealed_ticket_decrypts_and_a_cut_one_is_refused() -> None:
    image = photo(channels=1)
    key = RecipientKey.generate("alice")
    cipher, ticket = encrypt_thumbnail(image, 8)
    sealed = seal(ticket.to_bytes(), [key.recipient], "thumbnail")
    found = ThumbnailTicket.from_bytes(unseal(sealed, key).payload)
    assert found == ticket
    assert np.array_equal(decrypt_thumbnail(decode_cipher_png(encode_cipher_png(cipher)), found), image)
    data = ticket.to_bytes()
    for wrong in (
        b"",
        data[:-1],
        data + b"\0",
        b"X" + data[1:],
        data[:7] + b"\2" + data[8:],
        data[:5] + b"\0\1" + data[7:],
    ):
        with pytest.raises(BlobError):
            ThumbnailTicket.from_bytes(wrong)


def test_a_ticket_for_an_absurd_size_is_refused_before_any_work() -> None:
    data = bytearray(encrypt_thumbnail(photo())[1].to_bytes())
    data[8:16] = b"\xff" * 8
    with pytest.raises(BlobError, match="pixels"):
        ThumbnailTicket.from_bytes(bytes(data))


def test_a_ticket_shows_no_key() -> None:
    _, ticket = encrypt_thumbnail(photo(8, 8))
    assert repr(ticket) == "ThumbnailTicket(block=16, shape=(8, 8, 3))"


@given(IMAGES)
@settings(max_examples=30, deadline=None)
def test_pillow_reads_the_file_that_we_write(image: np.ndarray) -> None:
    for data in (encode_cipher_png(image), encode_picture_png(image)):
        with Image.open(io.BytesIO(data)) as read:
            read.load()
            assert read.info == {}
            assert np.array_equal(np.asarray(read), image)
        assert np.array_equal(decode_cipher_png(data), image)


def test_a_decrypted_picture_is_written_nearly_as_short_as_pillow_writes_it() -> None:
    image = photo(200, 300) + np.random.default_rng(1).integers(0, 24, (200, 300, 3), dtype=np.uint8)
    theirs = io.BytesIO()
    Image.fromarray(image).save(theirs, "PNG")
    assert len(encode_picture_png(image)) < 1.2 * len(theirs.getvalue()) < image.size


def test_a_cipher_file_holds_pixels_and_no_metadata() -> None:
    data, place, names = encode_cipher_png(photo()), 8, []
    while place < len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        names.append(name)
        place += 12 + length
    assert names == [b"IHDR", b"IDAT", b"IEND"]


def test_a_host_may_compress_a_cipher_file_again_without_loss() -> None:
    image = photo()
    cipher, ticket = encrypt_thumbnail(image)
    again = io.BytesIO()
    notes = PngImagePlugin.PngInfo()
    notes.add_text("host", "was here")
    Image.open(io.BytesIO(encode_cipher_png(cipher))).save(again, "PNG", optimize=True, pnginfo=notes)
    assert np.array_equal(decrypt_thumbnail(decode_cipher_png(again.getvalue()), ticket), image)


def test_other_files_are_no_cipher_images() -> None:
    data = encode_cipher_png(photo(8, 8))
    for form, mode in (("JPEG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16")):
        file = io.BytesIO()
        Image.new(mode, (8, 8)).save(file, form)
        with pytest.raises(ImageError):
            decode_cipher_png(file.getvalue())
    for wrong in (b"", data[:30], data[: len(data) // 2], b"\0" + data):
        with pytest.raises(ImageError, match="no whole PNG"):
            decode_cipher_png(wrong)
    with pytest.raises(ImageError, match="limit 63"):
        decode_cipher_png(data, max_pixels=63)
    with pytest.raises(PublishingError):
        encode_cipher_png(np.zeros((4, 4, 4), np.uint8))


def test_the_guarantee_names_the_thumbnail() -> None:
    told = thumbnail_guarantee(16)
    assert told.kind == "encryption"
    assert "1/16" in told.in_the_clear
    assert "16 x 16" in told.statement
