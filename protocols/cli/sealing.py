"""`secureimg keypair`, `seal`, `open`: images for named recipients, and what was sealed beside published ones."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import stat
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from protocols.cli.appearing import appearing
from protocols.cli.console import amount, duration, err, out, write_json
from protocols.cli.options import Json
from protocols.cli.output_files import check_new, read_blob
from protocols.cli.passphrases import PassphraseFile, PassphrasePrompt, read_passphrase
from secureimg.errors import BlobError, SecureImgError
from secureimg.images import MAX_BYTES, save_image
from secureimg.publishing import (
    HYBRID,
    X25519,
    Recipient,
    RecipientKey,
    SealedReader,
    ThumbnailTicket,
    decode_cipher_png,
    decrypt_thumbnail,
    encode_picture_png,
    find_kem,
    load_key,
    load_recipient,
    save_key,
    save_recipient,
    seal_guarantee,
    seal_stream,
)
from secureimg.publishing.split import join_jpeg
from secureimg.publishing.split_pictures import join_pictures

__all__ = ["keypair", "open_sealed", "seal"]

_MEDIA_TYPES: Final = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".bmp": "image/bmp",
    ".tif": "image/tiff", ".tiff": "image/tiff", ".dcm": "application/dicom", ".heic": "image/heic", ".avif": "image/avif",
}  # fmt: skip
_LARGEST_PUBLIC: Final = 256 << 20
_LARGEST_SECRET: Final = 2 * MAX_BYTES
_SHOWN_FROM: Final = 32 << 20


class KeyKind(StrEnum):
    """Encapsulations that a key pair can be made for."""

    HYBRID = HYBRID.name
    X25519 = X25519.name


Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write; never over an existing file.")]


def keypair(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the recipient; part of the key.")],
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where NAME.key and NAME.pub go.")] = Path(),
    kind: Annotated[
        KeyKind, typer.Option(help="ML-KEM-768 with X25519, or X25519 alone: short keys, but not quantum-safe.")
    ] = KeyKind.HYBRID,
    passphrase: PassphrasePrompt = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make NAME's key pair: NAME.key opens what is sealed for NAME.pub.

    Give NAME.pub to those who are to seal images for you, and let them compare its fingerprint with you by another way,
    such as a call.
    """
    made = RecipientKey.generate(name, find_kem(kind.value))
    secret_file, public_file = folder / f"{name}.key", folder / f"{name}.pub"
    check_new(secret_file, public_file)
    save_key(secret_file, made, read_passphrase(passphrase, passphrase_file, confirm=True))
    save_recipient(public_file, made.recipient)
    if as_json:
        write_json({"key": str(secret_file), "public": str(public_file), **_told(made.recipient)})
        return
    out.print(
        f"saved {escape(str(secret_file))} (keep it) and {escape(str(public_file))} (give it away)", soft_wrap=True
    )
    out.print(f"fingerprint {made.recipient.fingerprint}", soft_wrap=True)


def seal(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Image files, sealed whole.")],
    to: Annotated[list[Path], typer.Option("--to", metavar="FILE.pub", help="A recipient's public key; repeatable.")],
    target: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The sealed file; of several FILEs, a folder for them.")
    ],
    padded: Annotated[bool, typer.Option("--pad", help="Hide the exact length: up to 12 % more bytes.")] = False,
    as_json: Json = False,
) -> None:
    """Seal image files for named recipients: content, file name and metadata are seen by nobody else.

    From outside a sealed file tells its length, how many recipients it has, and of which kind their keys are, but not who
    they are. It does not show who has sealed it.
    """
    recipients = [load_recipient(path) for path in to]
    targets = _targets(files, target)
    check_new(*targets)
    sealed: list[dict[str, Any]] = []
    for path, place in zip(files, targets, strict=True):
        with (
            _regular(path) as (source, size),
            appearing(place) as fresh,
            fresh.open("wb") as sink,
            _progress(path.name, size) as progress,
        ):
            seal_stream(
                source, sink, recipients, "photo", size, name=path.name,
                media_type=_MEDIA_TYPES.get(path.suffix.lower(), ""), padded=padded, progress=progress,
            )  # fmt: skip
        sealed.append({"file": str(path), "out": str(place), "bytes": size, "sealed_bytes": place.stat().st_size})
    guarantee = dataclasses.asdict(seal_guarantee(len(recipients), padded))
    if as_json:
        write_json({"sealed": sealed, "recipients": [_told(each) for each in recipients], "guarantee": guarantee})
        return
    for each in sealed:
        out.print(
            f"sealed {escape(each['file'])} as {escape(each['out'])}, {amount(each['sealed_bytes'])}", soft_wrap=True
        )
    for recipient in recipients:
        out.print(f"for {recipient.name}, fingerprint {recipient.fingerprint}", soft_wrap=True)


def open_sealed(
    sealed: Annotated[Path, typer.Argument(metavar="SEALED", help="A sealed file.")],
    key_file: Annotated[Path, typer.Option("--key", metavar="FILE.key", help="Your private key.")],
    target: Out,
    public: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", help="The published image: of a split photograph, or the cipher image."),
    ] = None,
    changed: Annotated[
        bool,
        typer.Option(
            "--changed", help="A host has recompressed or resized the split photograph: give what can be had."
        ),
    ] = False,
    passphrase: PassphrasePrompt = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Open SEALED. The output appears when all of it has been found authentic.

    A sealed file gives back the file that went in. The secret part of a split photograph gives the photograph, and the
    ticket of a cipher image the picture: for these add --public IMAGE.
    """
    check_new(target)
    start = time.perf_counter()
    key = load_key(key_file, read_passphrase(passphrase, passphrase_file))
    with _regular(sealed) as (source, _):
        reader = SealedReader(source, key)
        if reader.kind == "photo":
            if public is not None or changed:
                raise SecureImgError(f"{sealed} holds a whole file: leave --public and --changed away")
            with appearing(target) as fresh, fresh.open("wb") as sink, _progress(reader.name, reader.size) as progress:
                reader.copy_to(sink, progress)
        else:
            if public is None:
                what = "public part" if reader.kind == "split" else "cipher image"
                raise SecureImgError(f"{sealed} is the secret half of a published image: add --public with its {what}")
            _join(reader, _small(reader, sealed), read_blob(public, _LARGEST_PUBLIC), target, changed)
    report: dict[str, Any] = {
        "kind": reader.kind, "name": reader.name, "media_type": reader.media_type, "out": str(target),
        "bytes": target.stat().st_size, "recipients": reader.recipients, "key": key.recipient.fingerprint,
        "seconds": time.perf_counter() - start,
    }  # fmt: skip
    if as_json:
        write_json(report)
        return
    named = f", sealed as {escape(reader.name)}" if reader.name else ""
    out.print(
        f"saved {escape(str(target))}, {amount(report['bytes'])}{named}, in {duration(report['seconds'])}",
        soft_wrap=True,
    )


# ------------------------------------------------------------------------------------------------------------- opening


def _small(reader: SealedReader, path: Path) -> bytes:
    if reader.size > _LARGEST_SECRET:
        raise BlobError(f"the secret half in {path} has {reader.size} bytes, limit {_LARGEST_SECRET}: it is not ours")
    kept = io.BytesIO()
    reader.copy_to(kept)
    return kept.getvalue()


def _join(reader: SealedReader, secret: bytes, public: bytes, target: Path, changed: bool) -> None:
    if reader.kind == "thumbnail":
        if changed:
            raise SecureImgError("a cipher image that a host has changed cannot be decrypted: leave --changed away")
        picture = decrypt_thumbnail(decode_cipher_png(public), ThumbnailTicket.from_bytes(secret))
        with appearing(target) as fresh:
            if target.suffix.lower() == ".png":
                fresh.write_bytes(encode_picture_png(picture))
            else:
                save_image(fresh, picture)
    elif changed:
        given = join_pictures(public, secret)
        with appearing(target) as fresh:
            save_image(fresh, given)
    else:
        try:
            photograph = join_jpeg(public, secret)
        except BlobError as error:
            raise BlobError(
                f"{error}; if a host has recompressed or resized it, --changed gives what can be had"
            ) from None
        with appearing(target) as fresh:
            fresh.write_bytes(photograph)


# --------------------------------------------------------------------------------------------------------------- files


def _targets(files: list[Path], target: Path) -> list[Path]:
    """The names of sealed files tell nothing of what is in them, unless the user chose one."""
    if len(files) == 1 and not target.is_dir():
        return [target]
    if not target.is_dir():
        raise SecureImgError(
            f"--out {target} is not a folder, which {len(files)} files need: make one, or seal them one by one"
        )
    digits = max(4, len(str(len(files))))
    return [target / f"{number:0{digits}d}.sealed" for number in range(1, len(files) + 1)]


@contextlib.contextmanager
def _regular(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # before it is opened: a pipe would wait
            raise BlobError(f"{path} is not a regular file: name one")
        file = path.open("rb")
    except OSError as error:
        raise BlobError(f"{path} cannot be read: {error.strerror}: check the path") from None
    with file:
        yield file, os.fstat(file.fileno()).st_size


@contextlib.contextmanager
def _progress(name: str, size: int) -> Iterator[Callable[[int], None]]:
    shown = err.is_terminal and size >= _SHOWN_FROM
    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, transient=True, disable=not shown) as progress:
        task = progress.add_task(name, total=size)
        yield lambda done: progress.update(task, completed=done)


def _told(recipient: Recipient) -> dict[str, Any]:
    return {"name": recipient.name, "kem": recipient.kem.name, "fingerprint": recipient.fingerprint}
