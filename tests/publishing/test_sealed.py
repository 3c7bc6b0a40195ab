"""Sealed images: who opens them, what a changed file ends in, what shows from outside."""

from __future__ import annotations

import hashlib
import hmac
import io
import stat
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from secureimg.errors import BlobError, KeyMaterialError, PublishingError, SecureImgError
from secureimg.publishing import (
    HYBRID,
    X25519,
    Kem,
    Recipient,
    RecipientKey,
    SealedReader,
    is_sealed,
    load_key,
    load_recipient,
    save_key,
    save_recipient,
    seal,
    seal_guarantee,
    seal_stream,
    sealed_size,
    unseal,
)
from secureimg.publishing.sealed_stream import CHUNK, TAG

ALICE = RecipientKey.generate("alice")
BOB = RecipientKey.generate("bob", X25519)
MALLORY = RecipientKey.generate("mallory")
BOTH = (ALICE.recipient, BOB.recipient)
CONTEXT = b"secureimg sealed image 1\0"
MANIFEST = 64


def long_payload(size: int) -> bytes:
    return hashlib.shake_128(b"a photograph").digest(size)


def chunks_of(sealed: bytes, recipients: tuple[Recipient, ...]) -> tuple[bytes, list[bytes]]:
    """Header and encrypted chunks of a sealed image."""
    head = 23 + sum(2 + each.kem.wrapped_bytes for each in recipients) + 32
    step = CHUNK + TAG
    return sealed[:head], [sealed[start : start + step] for start in range(head, len(sealed), step)]


# ---------------------------------------------------------------------------------------------------------- who opens


@given(st.binary(max_size=300), st.sampled_from(["photo", "split", "thumbnail"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_every_recipient_opens_what_was_sealed(payload: bytes, kind: str, padded: bool) -> None:
    sealed = seal(payload, BOTH, kind, name="holiday.jpg", media_type="image/jpeg", padded=padded)
    for key in (ALICE, BOB):
        found = unseal(sealed, key)
        assert (found.kind, found.name, found.media_type, found.payload) == (
            kind,
            "holiday.jpg",
            "image/jpeg",
            payload,
        )
    with pytest.raises(KeyMaterialError, match="not sealed for mallory"):
        unseal(sealed, MALLORY)


@pytest.mark.parametrize(
    "size", [0, CHUNK - MANIFEST - 1, CHUNK - MANIFEST, CHUNK - MANIFEST + 1, 3 * CHUNK - MANIFEST]
)
def test_a_payload_that_ends_at_a_chunks_border_is_whole(size: int) -> None:
    payload = long_payload(size)
    sealed = seal(payload, BOTH, "photo")
    assert unseal(sealed, BOB).payload == payload
    assert len(sealed) == sealed_size(size, BOTH)


def test_the_format_is_what_its_documentation_says() -> None:
    """A second reader, written from the module's text with cryptography's primitives only."""
    sealed = seal(b"the whole file", [BOB.recipient], "photo", name="a.png")
    prefix, slot, mac, content = sealed[:23], sealed[25:105], sealed[105:137], sealed[137:]
    assert prefix[:7] == b"SSEA\x01\x00\x01"
    assert sealed[23:25] == b"\x00\x20", "DHKEM(X25519, HKDF-SHA256) in the registry of HPKE"
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    identity = hashlib.sha256(b"secureimg recipient 1\0x25519\0bob\0" + BOB.recipient.public).digest()
    content_key = suite.decrypt(slot, BOB._loaded, CONTEXT + prefix + identity)
    header_key, chunk_key = (
        HKDF(SHA256(), 32, prefix[7:], CONTEXT + purpose).derive(content_key) for purpose in (b"header", b"content")
    )
    assert hmac.digest(header_key, sealed[:105], "sha256") == mac
    plain = AESGCM(chunk_key).decrypt(bytes(11) + b"\x01", content, hashlib.sha256(sealed[:137]).digest())
    length = int.from_bytes(plain[:2], "big")
    assert msgspec.msgpack.decode(plain[2 : 2 + length]) == ["photo", "a.png", "", 14]
    assert plain[64:] == b"the whole file"


def test_what_was_sealed_for_one_name_is_not_opened_under_another() -> None:
    """The wrapped key is bound to the recipient's name, not only to the key."""
    renamed = RecipientKey("robert", X25519, BOB._secret)
    with pytest.raises(KeyMaterialError, match="not sealed for robert"):
        unseal(seal(b"x", [BOB.recipient], "photo"), renamed)


# ------------------------------------------------------------------------------------------------------ changed files


def test_no_byte_of_a_sealed_image_can_be_changed() -> None:
    sealed = seal(b"pixels" * 9, [BOB.recipient], "photo")
    for place in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[place] ^= 1 << place % 8
        with pytest.raises((BlobError, KeyMaterialError)):
            unseal(bytes(damaged), BOB)


def test_a_sealed_image_cannot_be_cut_anywhere_or_lengthened() -> None:
    sealed = seal(b"pixels" * 9, [BOB.recipient], "photo")
    for length in range(len(sealed)):
        with pytest.raises(BlobError):
            unseal(sealed[:length], BOB)
    for more in (b"\0", b"\0" * TAG, sealed):
        with pytest.raises(BlobError, match="not authentic"):
            unseal(sealed + more, BOB)


def test_chunks_cannot_be_dropped_moved_doubled_or_taken_from_another_file() -> None:
    recipients = (BOB.recipient,)
    payload = long_payload(3 * CHUNK + 1000)
    head, first = chunks_of(seal(payload, recipients, "photo"), recipients)
    _, second = chunks_of(seal(payload, recipients, "photo"), recipients)
    assert len(first) == 4
    a, b, c, last = first
    wrong = {
        "the last is missing": [a, b, c], "one is missing": [a, c, last], "two are swapped": [b, a, c, last],
        "one is doubled": [a, b, b, c, last], "the last is doubled": [a, b, c, last, last],
        "one is foreign": [a, second[1], c, last], "the last is early": [a, last], "empty": [],
    }  # fmt: skip
    for order in wrong.values():
        with pytest.raises(BlobError):
            unseal(head + b"".join(order), BOB)


def test_nothing_is_given_out_from_a_chunk_that_is_not_authentic() -> None:
    recipients = (BOB.recipient,)
    payload = long_payload(3 * CHUNK)
    head, (a, b, c, last) = chunks_of(seal(payload, recipients, "photo"), recipients)
    damaged = head + a + b + c[:-1] + bytes([c[-1] ^ 1]) + last
    sink = io.BytesIO()
    with pytest.raises(BlobError, match="chunk 2"):
        SealedReader(io.BytesIO(damaged), BOB).copy_to(sink)
    given_out = sink.getvalue()
    assert len(given_out) == 2 * CHUNK - MANIFEST
    assert payload.startswith(given_out)


def test_two_recipients_cannot_be_given_different_contents() -> None:
    """A sender who wraps another content key for the second recipient is found out by that recipient."""
    sealed = seal(b"for both", BOTH, "photo")
    start = 23 if sealed[23:25] == b"\x00\x20" else 23 + 2 + HYBRID.wrapped_bytes
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    other = suite.encrypt(bytes(32), BOB._loaded.public_key(), CONTEXT + sealed[:23] + BOB.recipient.identity)
    with pytest.raises(BlobError, match="header was changed"):
        unseal(sealed[: start + 2] + other + sealed[start + 2 + len(other) :], BOB)


@pytest.mark.parametrize(
    "foreign", [b"", b"SSEA", b"SSEA\x02" + bytes(99), b"\xff\xd8\xff\xe0JFIF", b"SSEA\x01\x00\x00" + bytes(400)]
)
def test_other_files_are_refused_in_one_sentence(foreign: bytes) -> None:
    with pytest.raises(BlobError, match=r"not a sealed image|version 2|0 recipients"):
        unseal(foreign, ALICE)


def test_an_authentic_manifest_of_another_program_is_refused() -> None:
    """A sender can put anything in; a name with a folder in it does not come out."""
    sealed = seal(b"", [BOB.recipient], "photo", name="abc")
    with pytest.raises(PublishingError, match="folder"):
        seal(b"", [BOB.recipient], "photo", name="../abc")
    found = SealedReader(io.BytesIO(sealed), BOB)
    from secureimg.publishing.sealed_header import decode_manifest, encode_manifest, open_header

    header = open_header(io.BytesIO(sealed), BOB)
    plain = AESGCM(header.content).decrypt(
        bytes(11) + b"\x01", chunks_of(sealed, (BOB.recipient,))[1][0], header.digest
    )
    assert decode_manifest(plain)[0].name == found.name == "abc"
    assert encode_manifest(decode_manifest(plain)[0]) == plain
    for wrong in (
        plain.replace(b"abc", b"../"),
        plain[:-1] + b"\1",
        plain.replace(b"photo", b"phota"),
        b"",
        b"\xff" * 64,
    ):
        forged = AESGCM(header.content).encrypt(bytes(11) + b"\x01", wrong or b"\0", header.digest)
        with pytest.raises(BlobError, match="malformed"):
            SealedReader(io.BytesIO(header.encoded + forged), BOB)


# ------------------------------------------------------------------------------------------------ what shows outside


def test_names_and_metadata_do_not_show_outside() -> None:
    sealed = seal(b"Exif\0\0GPS 52.5, 13.4", BOTH, "thumbnail", name="clinic.jpg", media_type="image/jpeg")
    for word in (
        b"alice",
        b"bob",
        b"clinic",
        b"jpeg",
        b"thumbnail",
        b"GPS",
        BOB.recipient.public,
        ALICE.recipient.identity[:8],
    ):
        assert word not in sealed


def test_the_order_of_recipients_does_not_show() -> None:
    """Wrapped keys stand in the order of their random bytes."""
    keys = [RecipientKey.generate(f"r{number}", X25519).recipient for number in range(4)]
    sealed = seal(b"", keys, "photo")
    slots = [sealed[start : start + 82] for start in range(23, 23 + 4 * 82, 82)]
    assert slots == sorted(slots)


def test_padding_hides_the_length_at_a_bounded_cost() -> None:
    lengths = set()
    for size in range(100_000, 102_000, 50):
        padded = len(seal(bytes(size), [BOB.recipient], "photo", padded=True))
        assert padded <= 1.12 * sealed_size(size, [BOB.recipient])
        lengths.add(padded)
    assert len(lengths) <= 2


def test_the_guarantee_names_what_is_open() -> None:
    told = seal_guarantee(2, padded=False)
    assert told.kind == "encryption"
    assert "number of its recipients" in told.in_the_clear
    assert "sender" in told.statement


# ------------------------------------------------------------------------------------------------------------ streams


class Counting(io.RawIOBase):
    """A long file that is never in memory, and says how much was asked of it at once."""

    def __init__(self, size: int) -> None:
        self.left, self.largest = size, 0

    def read(self, size: int = -1) -> bytes:
        self.largest = max(self.largest, size)
        size = min(size, self.left)
        self.left -= size
        return bytes(size)


def test_a_long_file_is_sealed_and_opened_in_pieces(tmp_path: Path) -> None:
    size, source, told = 20 << 20, Counting(20 << 20), []
    with (tmp_path / "sealed").open("wb") as sink:
        seal_stream(source, sink, BOTH, "photo", size, progress=told.append)  # type: ignore[arg-type]
    assert source.largest <= CHUNK
    assert told[-1] == size
    pieces = []

    class Sink(io.RawIOBase):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            pieces.append(len(data))
            return len(data)

    with (tmp_path / "sealed").open("rb") as sealed:
        SealedReader(sealed, ALICE).copy_to(Sink())  # type: ignore[arg-type]
    assert (max(pieces), sum(pieces)) == (CHUNK, size)


@pytest.mark.parametrize("held", [9, 11])
def test_a_source_that_changes_while_it_is_sealed_is_refused(held: int) -> None:
    with pytest.raises(PublishingError, match="seal it again"):
        seal_stream(io.BytesIO(bytes(held)), io.BytesIO(), BOTH, "photo", 10)


# --------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize("kem", [HYBRID, X25519])
def test_a_public_key_survives_as_a_line_and_no_mistyped_line_is_taken(kem: Kem) -> None:
    recipient = RecipientKey.generate("dora@example.org", kem).recipient
    line = recipient.to_text()
    assert Recipient.from_text(f"  {line}\n") == recipient
    key = line.split()[3]
    for place in range(0, len(key), max(1, len(key) // 40)):
        other = "A" if key[place] != "A" else "B"
        with pytest.raises(KeyMaterialError):
            Recipient.from_text(line.replace(key, key[:place] + other + key[place + 1 :]))
    for wrong in ("", line[:-1], line.replace("dora", "eve"), line + " x", line.replace(kem.name, "rot13"), "x" * 5000):
        with pytest.raises(KeyMaterialError):
            Recipient.from_text(wrong)


@given(st.text(max_size=80))
@settings(max_examples=60)
def test_no_text_is_a_public_key_by_chance(text: str) -> None:
    with pytest.raises(KeyMaterialError):
        Recipient.from_text(f"secureimg-recipient-1 {text}")


def test_the_fingerprint_depends_on_name_and_key() -> None:
    other = Recipient("bobby", X25519, BOB.recipient.public)
    assert len({each.fingerprint for each in (*BOTH, other)}) == 3


def test_key_files_are_for_their_owner_only(tmp_path: Path) -> None:
    save_key(tmp_path / "a.key", ALICE)
    save_recipient(tmp_path / "a.pub", ALICE.recipient)
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert load_key(tmp_path / "a.key").recipient == load_recipient(tmp_path / "a.pub") == ALICE.recipient
    with pytest.raises(KeyMaterialError, match="not overwritten"):
        save_key(tmp_path / "a.key", BOB)
    with pytest.raises(KeyMaterialError, match="private key"):
        load_recipient(tmp_path / "a.key")
    (tmp_path / "a.key").chmod(0o644)
    with pytest.raises(KeyMaterialError, match="chmod 600"):
        load_key(tmp_path / "a.key")


def test_a_sealed_key_file_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    save_key(tmp_path / "b.key", BOB, "correct horse")
    assert BOB._secret not in (tmp_path / "b.key").read_bytes()
    assert load_key(tmp_path / "b.key", "correct horse").recipient == BOB.recipient
    with pytest.raises(KeyMaterialError, match="give its passphrase"):
        load_key(tmp_path / "b.key")
    with pytest.raises(KeyMaterialError, match="does not open"):
        load_key(tmp_path / "b.key", "wrong")


def test_a_damaged_private_key_is_not_used() -> None:
    data = ALICE.to_bytes()
    for place in range(0, len(data), 7):
        with pytest.raises(SecureImgError):
            RecipientKey.from_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])


def test_a_public_key_that_gives_everybody_the_same_secret_is_refused() -> None:
    with pytest.raises(KeyMaterialError, match="not valid"):
        seal(b"", [Recipient("zero", X25519, bytes(32))], "photo")


def test_recipients_are_one_to_a_thousand_each_once() -> None:
    for wrong in ([], [BOB.recipient, BOB.recipient]):
        with pytest.raises(KeyMaterialError):
            seal(b"", wrong, "photo")


def test_is_sealed_tells_sealed_images_from_others() -> None:
    assert is_sealed(seal(b"", [BOB.recipient], "photo")[:5])
    assert not is_sealed(b"\x89PNG\r")


def test_reprs_tell_no_secret() -> None:
    assert "RecipientKey(alice" in repr(ALICE)
    assert repr(unseal(seal(b"secret", BOTH, "photo", name="hidden"), BOB)) == "Unsealed(kind='photo', 6 bytes)"
