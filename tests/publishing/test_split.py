"""Split photographs: joined byte for byte, in few more bytes; what a host does to the public part; damage is one error."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import skimage.data
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from secureimg.errors import BlobError, ImageError, PublishingError, SecureImgError
from secureimg.images import load_image
from secureimg.publishing import (
    DEFAULT_THRESHOLD,
    join_jpeg,
    join_pictures,
    public_part_picture,
    split_guarantee,
    split_jpeg,
)
from secureimg.publishing.jpeg import open_jpeg, read_jpeg, refill, write_jpeg
from secureimg.publishing.split_secret import SecretPart, decode_secret, encode_secret

PICTURES = ("astronaut", "coffee", "chelsea", "camera")
SETTINGS: tuple[dict[str, Any], ...] = (
    {"quality": 75},
    {"quality": 85, "subsampling": 0},
    {"quality": 95},
    {"quality": 90, "progressive": True},
    {"quality": 90, "optimize": True},
    {"quality": 80, "restart_marker_rows": 1},
)
FILTERS = {kind.name.lower(): kind for kind in Image.Resampling}


def encoded(pixels: Any, **options: Any) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **options)
    return stream.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(peak_signal_noise_ratio(a, b, data_range=1.0))


@pytest.fixture(scope="module")
def photo() -> bytes:
    return encoded(skimage.data.astronaut()[:256, :320], quality=90)


@pytest.mark.parametrize("name", PICTURES)
def test_joined_byte_for_byte_with_at_most_a_fifth_more_bytes(name: str) -> None:
    pixels = getattr(skimage.data, name)()
    for options in SETTINGS:
        data = encoded(pixels, **options)
        split = split_jpeg(data)
        assert join_jpeg(split.public, split.secret) == data
        assert split.facts.exact
        assert split.facts.overhead < 0.2
        assert split.facts.overhead == pytest.approx((len(split.public) + len(split.secret)) / len(data) - 1)
        assert opened(split.public).size == opened(data).size
        assert np.asarray(opened(split.public)).dtype == np.uint8


@pytest.mark.parametrize("options", SETTINGS)
def test_small_pictures_too_are_within_35_per_cent(options: dict[str, Any]) -> None:
    for mode in ("L", "RGB"):
        face = Image.fromarray(skimage.data.astronaut()[:224, 128:312]).resize((92, 112)).convert(mode)
        split = split_jpeg(encoded(face, **options))
        assert split.facts.overhead < 0.35


def test_photographs_of_others_are_joined_byte_for_byte() -> None:
    folder = Path(skimage.data.__file__).parent
    for name in ("rocket.jpg", "retina.jpg", "hubble_deep_field.jpg"):
        data = (folder / name).read_bytes()
        split = split_jpeg(data)
        assert split.facts.exact
        assert join_jpeg(split.public, split.secret) == data
        assert split.facts.overhead < 0.15


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 70), st.sampled_from(["L", "RGB", "CMYK"]), st.integers(5, 100), st.integers(0, 2),
    st.booleans(), st.integers(1, 1023),
)  # fmt: skip
def test_any_size_kind_and_threshold_is_joined_byte_for_byte(
    height: int, width: int, mode: str, quality: int, subsampling: int, progressive: bool, threshold: int
) -> None:
    picture = Image.fromarray(skimage.data.astronaut()[:height, :width]).convert(mode)
    data = encoded(picture, quality=quality, subsampling=subsampling, progressive=progressive)
    split = split_jpeg(data, threshold)
    assert join_jpeg(split.public, split.secret) == data


def test_the_public_part_has_no_dc_no_large_coefficient_and_no_sign_of_one(photo: bytes) -> None:
    original, public = read_jpeg(photo), read_jpeg(split_jpeg(photo, 10).public)
    assert not public.blocks[:, 0].any()
    assert np.abs(public.blocks).max() == 10
    above = np.abs(original.blocks) > 10
    above[:, 0] = False
    assert (public.blocks[above] == 10).all()
    below = ~above
    below[:, 0] = False
    np.testing.assert_array_equal(public.blocks[below], original.blocks[below])
    np.testing.assert_array_equal(original.tables, public.tables)


def test_a_lower_threshold_shows_less(photo: bytes) -> None:
    picture = load_image(photo)
    energy = []
    for threshold in (1, 15, 200):
        shown = load_image(split_jpeg(photo, threshold).public)
        assert psnr(shown, picture) < 15  # as a picture the public part is no better than grey
        energy.append(float(shown.var()))
    assert energy == sorted(energy)


def test_metadata_are_in_the_secret_part_only(photo: bytes) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a camera of Ada", 6
    words = (b"a camera of Ada", b"a colour profile", b"a comment", b"a film")
    data = encoded(opened(photo), exif=exif, icc_profile=words[1], comment=words[2]) + b"\0\0" + words[3]
    for word in words:
        assert word in data
    split = split_jpeg(data)
    for word in words:
        assert word not in split.public
    assert not {"exif", "icc_profile", "comment"} & set(opened(split.public).info)
    assert join_jpeg(split.public, split.secret) == data
    assert join_pictures(split.public, split.secret).shape == load_image(data).shape == (320, 256, 3)
    assert psnr(join_pictures(split.public, split.secret), load_image(data)) > 45


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(skimage.data.camera()[200:264, 200:296].copy(), exif=exif)
    split = split_jpeg(data)
    assert psnr(join_pictures(split.public, split.secret), load_image(data)) > 45


def test_padding_bits_that_are_not_ones_are_kept(photo: bytes) -> None:
    """As some cameras write them."""
    data = encoded(opened(photo), quality=90, restart_marker_blocks=5)
    file = open_jpeg(data)
    zeros = refill(file.skeleton(data), file.image.blocks, "it", 10**6, 0)
    assert zeros != data
    mixed = zeros[: len(data) // 2] + data[len(data) // 2 :]
    for odd in (zeros, mixed):
        split = split_jpeg(odd)
        assert split.facts.exact
        assert join_jpeg(split.public, split.secret) == odd
        assert split.facts.overhead < 0.2


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def packed(bits: list[str]) -> bytes:
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_file_that_cannot_be_coded_again_keeps_coefficients_and_metadata(progressive: bool) -> None:
    """Runs of zeros that need not be there, and ends of blocks one by one: valid, and not what an encoder writes."""
    rng = np.random.default_rng(1)
    only, two = bytes([1] + [0] * 15) + b"\0", bytes([1, 1] + [0] * 14) + b"\0\xf0"
    parts = [
        b"\xff\xd8", segment(0xFE, b"a comment"), segment(0xDB, b"\0" + bytes(range(1, 65))),
        segment(0xC2 if progressive else 0xC0, b"\x08\x02\0\x02\0\x01\x01\x11\0"),
        segment(0xC4, b"\0" + only + b"\x10" + two),
    ]  # fmt: skip
    ends = ["10" * int(count) + "0" for count in rng.integers(0, 4, 4096)]
    if progressive:
        parts += [segment(0xDA, b"\x01\x01\0\0\0\0"), packed(["0"] * 4096)]
        parts += [segment(0xDA, b"\x01\x01\0\x01\x3f\0"), packed(ends)]
    else:
        parts += [segment(0xDA, b"\x01\x01\0\0\x3f\0"), packed(["0" + end for end in ends])]
    data = b"".join((*parts, b"\xff\xd9", b"a film"))
    assert opened(data).getextrema() == (128, 128)
    split = split_jpeg(data)
    assert not split.facts.exact
    joined = join_jpeg(split.public, split.secret)
    np.testing.assert_array_equal(read_jpeg(joined).blocks, read_jpeg(data).blocks)
    assert b"a comment" in joined
    assert joined.endswith(b"\xff\xd9a film")


def test_thresholds_and_kinds_out_of_range_are_refused(photo: bytes) -> None:
    for threshold in (0, 1024, 2.5, True):
        with pytest.raises(PublishingError, match="1 to 1023"):
            split_jpeg(photo, threshold)  # type: ignore[arg-type]
    with pytest.raises(PublishingError, match="1 to 100"):
        public_part_picture(quality=0)
    stream = io.BytesIO()
    opened(photo).save(stream, "PNG")
    with pytest.raises(ImageError, match="JPEG"):
        split_jpeg(stream.getvalue())


def test_the_guarantee_does_not_claim_that_the_public_part_is_encrypted() -> None:
    guarantee = split_guarantee(DEFAULT_THRESHOLD)
    assert guarantee.kind == "encryption"
    assert "not semantically secure" in guarantee.statement
    assert "edges" in guarantee.in_the_clear
    assert "recognises people" in guarantee.in_the_clear


def test_the_attackers_view_is_the_public_part(photo: bytes) -> None:
    picture = load_image(photo)
    shown = public_part_picture(15, quality=90)(picture)
    again = encoded(np.rint(picture * 255).astype(np.uint8), quality=90)
    np.testing.assert_array_equal(shown, load_image(split_jpeg(again, 15).public))
    assert public_part_picture()(picture[..., 0]).shape == picture.shape[:2]


# ----------------------------------------------------------------------------------------------------- what hosts change


@pytest.mark.parametrize("name", PICTURES)
def test_after_recompression_it_is_nearly_as_good_as_the_original_recompressed(name: str) -> None:
    data = encoded(getattr(skimage.data, name)(), quality=90)
    split, picture = split_jpeg(data), load_image(data)
    assert psnr(join_pictures(split.public, split.secret), picture) > 50
    for quality in (60, 85):
        joined = join_pictures(encoded(opened(split.public), quality=quality), split.secret)
        plain = load_image(encoded(opened(data), quality=quality))
        assert psnr(joined, picture) > psnr(plain, picture) - 0.5


@pytest.mark.parametrize("resampling", ["box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_after_resizing_it_is_nearly_as_good_as_the_original_resized(resampling: str) -> None:
    data = encoded(skimage.data.coffee(), quality=90)
    split, size, kind = split_jpeg(data), (300, 200), FILTERS[resampling]
    truth = np.asarray(opened(data).resize(size, kind)) / 255.0
    host = encoded(opened(split.public).resize(size, kind), quality=85)
    plain = psnr(load_image(encoded(opened(data).resize(size, kind), quality=85)), truth)
    told = join_pictures(host, split.secret, resampling=resampling)
    assert psnr(told, truth) > plain - 1.2
    found = join_pictures(host, split.secret)
    np.testing.assert_array_equal(found, told)


def test_after_cropping_and_resizing() -> None:
    data = encoded(skimage.data.astronaut(), quality=90)
    split, box = split_jpeg(data), (101, 33, 421, 433)
    host = io.BytesIO()
    opened(split.public).crop(box).resize((160, 200), Image.Resampling.BICUBIC).save(host, "PNG")
    truth = np.asarray(opened(data).crop(box).resize((160, 200), Image.Resampling.BICUBIC)) / 255.0
    joined = join_pictures(host.getvalue(), split.secret, crop=box, resampling="bicubic")
    assert psnr(joined, truth) > 33
    with pytest.raises(PublishingError, match="cropped"):
        join_pictures(host.getvalue(), split.secret)


def test_a_host_may_return_grey(photo: bytes) -> None:
    split = split_jpeg(photo)
    joined = join_pictures(encoded(opened(split.public).convert("L"), quality=95), split.secret)
    assert psnr(joined, load_image(photo, mode="L")) > 35


def test_what_cannot_be_joined_is_refused_in_one_error(photo: bytes) -> None:
    split = split_jpeg(photo)
    other = split_jpeg(encoded(skimage.data.coffee()[:256, :320], quality=90))
    with pytest.raises(BlobError, match="not the one"):
        join_jpeg(other.public, split.secret)
    with pytest.raises(BlobError, match="do not belong together"):
        join_pictures(other.public, split.secret)
    with pytest.raises(PublishingError, match="none of"):
        join_pictures(split.public, split.secret, resampling="sinc")
    with pytest.raises(PublishingError, match="name the filter"):
        join_pictures(encoded(opened(split.public).resize((20, 16))), split.secret)
    for box in ((0, 0, 0, 5), (0, 0, 321, 256), (1, 2, 3)):
        with pytest.raises(PublishingError, match="crop"):
            join_pictures(split.public, split.secret, crop=box)  # type: ignore[arg-type]
    ink = split_jpeg(encoded(opened(photo).convert("CMYK")))
    with pytest.raises(PublishingError, match="four components"):
        join_pictures(ink.public, ink.secret)


# --------------------------------------------------------------------------------------------------------------- damage


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    kind = int(rng.integers(4))
    place = int(rng.integers(len(out)))
    if kind == 0:
        del out[place:]
    elif kind == 1:
        out[place] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        out[place : place + 1] = rng.bytes(int(rng.integers(0, 9)))
    else:
        del out[place : place + int(rng.integers(1, 20))]
    return bytes(out)


def test_a_thousand_damaged_inputs_are_one_error_each() -> None:
    """The original may still be a valid JPEG file: that has no checksum. Parts have one."""
    photo = encoded(skimage.data.astronaut()[:96, :128], quality=90)
    split, rng = split_jpeg(photo), np.random.default_rng(17)
    errors = 0
    for number in range(1000):
        part = number % 3
        data = damaged((photo, split.public, split.secret)[part], rng)
        if data in (photo, split.public, split.secret):
            continue
        try:
            if part == 0:
                again = split_jpeg(data)
                assert read_jpeg(join_jpeg(again.public, again.secret)).frame == read_jpeg(data).frame
                continue
            join_jpeg(data if part == 1 else split.public, data if part == 2 else split.secret)
        except SecureImgError:
            errors += 1
        else:
            raise AssertionError(f"input {number} was joined")
    assert errors > 700


def test_a_damaged_picture_of_a_host_is_one_error_or_a_picture() -> None:
    split, rng, outcomes = (
        split_jpeg(encoded(skimage.data.astronaut()[:96, :128], quality=90)),
        np.random.default_rng(18),
        set(),
    )
    for _ in range(60):
        try:
            outcomes.add(type(join_pictures(damaged(split.public, rng), split.secret)).__name__)
        except SecureImgError as error:
            outcomes.add(type(error).__name__)
    assert outcomes >= {"ImageError", "ndarray"}


def test_a_secret_part_whose_pieces_do_not_fit_is_refused(photo: bytes) -> None:
    """With a right hash, as one who makes secret parts would have it."""
    split = split_jpeg(photo)
    other = decode_secret(split_jpeg(encoded(skimage.data.coffee()[:64, :64])).secret)[0]
    part = decode_secret(split.secret)[0]
    small = read_jpeg(encoded(np.zeros((8, 8), np.uint8)))
    for changes in (
        {"skeleton": b""}, {"skeleton": other.skeleton}, {"skeleton": part.skeleton[:-9]}, {"coefficients": b""},
        {"coefficients": other.coefficients}, {"coefficients": write_jpeg(small)}, {"original": bytes(32)},
        {"threshold": 20}, {"public": bytes(32)}, {"patch": b"\x28\xb5\x2f\xfd"}, {"size": 7, "patch": part.original},
    ):  # fmt: skip
        with pytest.raises(BlobError):
            join_jpeg(split.public, encode_secret(msgspec.structs.replace(part, **changes)))
    with pytest.raises(BlobError, match="malformed"):
        join_pictures(split.public, encode_secret(msgspec.structs.replace(part, probe=b"x")))
    assert "SecretPart" in repr(part)
    assert len(repr(part)) < 80
    assert SecretPart.__struct_fields__[0] == "threshold"


def test_a_secret_part_that_would_inflate_is_refused(photo: bytes) -> None:
    large = zstandard.compress(bytes(300 << 20))
    lying = bytearray(large)
    place = large.index((300 << 20).to_bytes(4, "little"))
    lying[place : place + 4] = (1 << 20).to_bytes(4, "little")
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"x")
    for body in (large, bytes(lying), unsized, zstandard.compress(b"x") + b"x"):
        with pytest.raises(BlobError, match="malformed"):
            join_jpeg(photo, b"SSPL\x01" + hashlib.sha256(body).digest() + body)
