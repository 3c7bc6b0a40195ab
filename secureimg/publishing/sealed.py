"""Sealed images: authenticated encryption for named recipients, of files of any size, with their metadata inside.

A file has a header, and content in chunks::

    "SSEA" | version 1 | recipients, 2 bytes | salt, 16 | per recipient: KEM, 2, and the wrapped content key | HMAC, 32
    chunks of 65,536 bytes, each with 16 of its tag: manifest | payload | zeros

The content key is fresh for each file. Each wrapped key is bound to the first 23 bytes and to its recipient's name and key.
The HMAC binds the whole header to the content key, so that all recipients get the same content, whoever sealed it; the
header's digest is the associated data of every chunk. Nobody is named outside: a recipient tries each wrapped key.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from secureimg.errors import BlobError, PublishingError
from secureimg.publishing.guarantee import Guarantee
from secureimg.publishing.recipients import Recipient, RecipientKey
from secureimg.publishing.sealed_header import (
    MAX_RECIPIENTS,
    Manifest,
    SealedKind,
    decode_manifest,
    encode_manifest,
    header_size,
    is_sealed,
    new_header,
    open_header,
)
from secureimg.publishing.sealed_stream import CHUNK, ChunkWriter, read_chunks, sealed_length

__all__ = [
    "MAX_RECIPIENTS",
    "SealedKind",
    "SealedReader",
    "Unsealed",
    "is_sealed",
    "seal",
    "seal_guarantee",
    "seal_stream",
    "sealed_size",
    "unseal",
]


@dataclass(frozen=True)
class Unsealed:
    """What was in a sealed image, all of it authentic.

    Attributes
    ----------
    kind : {"photo", "split", "thumbnail"}
        A whole file; the secret part of a split photograph; the ticket of a thumbnail-preserving cipher image.
    name : str
        The file's name as its sender gave it, without folders; empty if not given. To show, not to write to.
    payload : bytes
    media_type : str
        Such as "image/jpeg"; empty if not given.
    """

    kind: SealedKind
    name: str
    payload: bytes
    media_type: str = ""

    def __repr__(self) -> str:
        return f"Unsealed(kind={self.kind!r}, {len(self.payload)} bytes)"


def seal_guarantee(recipients: int, padded: bool) -> Guarantee:
    """Return what sealing promises."""
    length = "its length to within 12 %" if padded else "its length to within 64 bytes"
    return Guarantee(
        kind="encryption",
        statement=(
            f"Only holders of the {recipients} private key(s) learn anything of the content, its name or its metadata, "
            "while HPKE and AES-256-GCM hold; a changed file is refused. Nobody is shown to be its sender."
        ),
        in_the_clear=f"that it is a sealed image, the number of its recipients, the kind of their keys, {length}",
    )


# ------------------------------------------------------------------------------------------------------------- sealing


def seal(
    payload: bytes,
    recipients: Iterable[Recipient],
    kind: SealedKind,
    *,
    name: str = "",
    media_type: str = "",
    padded: bool = False,
) -> bytes:
    """Return a payload, sealed; see `seal_stream`."""
    sink = io.BytesIO()
    seal_stream(
        io.BytesIO(payload), sink, recipients, kind, len(payload), name=name, media_type=media_type, padded=padded
    )
    return sink.getvalue()


def seal_stream(
    source: BinaryIO,
    sink: BinaryIO,
    recipients: Iterable[Recipient],
    kind: SealedKind,
    size: int,
    *,
    name: str = "",
    media_type: str = "",
    padded: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Seal what a file object holds into another, in bounded memory.

    Parameters
    ----------
    source, sink : binary file
    recipients : iterable of Recipient
        1 to 1,024, each once. All get the same content, and none is told who the others are.
    kind : {"photo", "split", "thumbnail"}
    size : int
        How many bytes the source holds.
    name, media_type : str
        Kept inside the seal. A name has at most 255 characters, no folder and no control characters.
    padded : bool
        Append zeros, so that the length tells only 2 to the power of log2 log2 of it: at most 12 % (Padmé).
    progress : callable, optional
        Told the bytes done, after every chunk.

    Raises
    ------
    PublishingError
        If a parameter is outside its range, or the source does not hold `size` bytes.
    KeyMaterialError
        If there is no recipient, too many, one twice, or one whose key is not valid.

    Notes
    -----
    Cost: 1,170 bytes a recipient (82 with a key of kind x25519), 16 a chunk of 65,536, and at most 190 more.

    Nobody is shown to be the sender: whoever has a public key can seal for it (HPKE's base mode).

    Source: RFC 9180; padding: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with
    PURBs", PETS 2019, section 4.
    """
    manifest = encode_manifest(Manifest(kind, name, media_type, size))
    header = new_header(tuple(recipients))
    writer = ChunkWriter(sink, header.content, header.digest)
    sink.write(header.encoded)
    writer.write(manifest)
    done = 0
    while done < size:
        piece = source.read(min(CHUNK, size - done))
        if not piece:
            raise PublishingError(f"the source ended after {done} of {size} bytes: it changed meanwhile, seal it again")
        writer.write(piece)
        done += len(piece)
        if progress is not None:
            progress(done)
    if source.read(1):
        raise PublishingError(f"the source holds more than {size} bytes: it changed meanwhile, seal it again")
    left = _padme(len(manifest) + size) - len(manifest) - size if padded else 0
    while left:
        writer.write(bytes(min(CHUNK, left)))
        left -= min(CHUNK, left)
    writer.close()


def sealed_size(size: int, recipients: Iterable[Recipient], *, name: str = "", media_type: str = "") -> int:
    """Return how many bytes a payload of `size` bytes takes when it is sealed without padding."""
    plain = len(encode_manifest(Manifest("photo", name, media_type, size))) + size
    return header_size(tuple(recipients)) + sealed_length(plain)


def _padme(length: int) -> int:
    """Round up to a length with at most log2 log2 + 1 significant bits of mantissa."""
    exponent = length.bit_length() - 1
    low = exponent - exponent.bit_length()
    mask = (1 << max(low, 0)) - 1
    return (length + mask) & ~mask


# ------------------------------------------------------------------------------------------------------------- opening


def unseal(data: bytes, key: RecipientKey) -> Unsealed:
    """Return what a sealed image holds, all of it authentic.

    Raises
    ------
    BlobError
        If it is not a sealed image, was changed, or was cut.
    KeyMaterialError
        If it is not sealed for this key.
    """
    reader = SealedReader(io.BytesIO(data), key)
    sink = io.BytesIO()
    reader.copy_to(sink)
    return Unsealed(reader.kind, reader.name, sink.getvalue(), reader.media_type)


class SealedReader:
    """Opens a sealed image from a file object, in bounded memory.

    Header and first chunk are authentic once it exists; the rest is, once `copy_to` has returned.

    Parameters
    ----------
    source : binary file
        At the image's first byte. Nothing else may follow it.
    key : RecipientKey

    Attributes
    ----------
    kind, name, media_type
        See `Unsealed`.
    size : int
        Bytes of the payload.
    recipients : int
        For how many it is sealed.

    Raises
    ------
    BlobError
        If it is not a sealed image, was changed, or was cut.
    KeyMaterialError
        If it is not sealed for this key.
    """

    def __init__(self, source: BinaryIO, key: RecipientKey) -> None:
        header = open_header(source, key)
        self.recipients = header.recipients
        self._chunks: Iterator[bytes] | None = read_chunks(source, header.content, header.digest)
        first = next(self._chunks)
        manifest, start = decode_manifest(first)
        self.kind: SealedKind = manifest.kind
        self.name = manifest.name
        self.media_type = manifest.media_type
        self.size = manifest.size
        self._first = first[start:]

    def copy_to(self, sink: BinaryIO, progress: Callable[[int], None] | None = None) -> None:
        """Write the payload, once. If this raises, what was written is to be thrown away: it is authentic, but not whole.

        Raises
        ------
        BlobError
            At the first chunk that is not authentic, or if the image ends early.
        """
        if self._chunks is None:
            raise PublishingError("this sealed image has been read: open it again")
        chunks, self._chunks = self._chunks, None
        done = self._put(sink, self._first, 0)
        for chunk in chunks:
            done = self._put(sink, chunk, done)
            if progress is not None:
                progress(done)
        if done != self.size:
            raise BlobError(f"the sealed image holds {done} bytes, not the {self.size} that it names: seal it again")

    def _put(self, sink: BinaryIO, chunk: bytes, done: int) -> int:
        piece = chunk[: self.size - done]
        if any(chunk[len(piece) :]):
            raise BlobError(f"the sealed image holds more than the {self.size} bytes that it names: seal it again")
        sink.write(piece)
        return done + len(piece)
