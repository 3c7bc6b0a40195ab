"""Two ways to publish whose secret half is sealed for recipients: split photographs and thumbnail-preserving encryption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from protocols.cli.publish_kinds import Method, Parameter, Part, Release, Settings, Source
from secureimg.errors import PublishingError
from secureimg.images import load_image
from secureimg.publishing import MethodOfSet, Recipient, ofset, pixelate, seal
from secureimg.publishing.cipher_png import encode_cipher_png
from secureimg.publishing.split import split_jpeg
from secureimg.publishing.split_coefficients import DEFAULT_THRESHOLD, public_part_picture
from secureimg.publishing.thumbnails import LARGEST_BLOCK, SMALLEST_BLOCK, encrypt_thumbnail, thumbnail_guarantee

__all__ = ["SEALED_SUFFIX", "SPLIT", "THUMBNAIL"]

SEALED_SUFFIX: Final = ".sealed"

_JPEG: Final = b"\xff\xd8\xff"


def _split(sources: Sequence[Source], settings: Settings, recipients: Sequence[Recipient]) -> list[Release]:
    releases = []
    for source in sources:
        if not source.data.startswith(_JPEG):
            raise PublishingError(f"{source.name} is no JPEG file, and only these are split: save it as JPEG first")
        made = split_jpeg(source.data, settings["threshold"])
        secret = seal(made.secret, recipients, "split", name=source.name, media_type="image/jpeg")
        parts = (
            Part(".jpg", made.public, "the public part"),
            Part(SEALED_SUFFIX, secret, f"the secret part, sealed for {_named(recipients)}"),
        )
        facts = {
            "original_bytes": made.facts.original_bytes, "public_bytes": len(made.public),
            "sealed_bytes": len(secret), "exact": made.facts.exact, "clipped": made.facts.clipped,
        }  # fmt: skip
        releases.append(Release(made.guarantee, load_image(made.public), parts, facts=facts))
    return releases


def _thumbnail(sources: Sequence[Source], settings: Settings, recipients: Sequence[Recipient]) -> list[Release]:
    releases = []
    for source in sources:
        cipher, ticket = encrypt_thumbnail(np.rint(source.image * 255).astype(np.uint8), settings["block"])
        sealed = seal(ticket.to_bytes(), recipients, "thumbnail", name=source.name, media_type="image/png")
        png = encode_cipher_png(cipher)
        parts = (
            Part(".png", png, "the cipher image"),
            Part(SEALED_SUFFIX, sealed, f"its ticket, sealed for {_named(recipients)}"),
        )
        facts = {"original_bytes": len(source.data), "public_bytes": len(png), "sealed_bytes": len(sealed)}
        releases.append(Release(thumbnail_guarantee(settings["block"]), cipher / 255.0, parts, facts=facts))
    return releases


def _named(recipients: Sequence[Recipient]) -> str:
    return ", ".join(recipient.name for recipient in recipients)


def _thumbnail_seen(settings: Settings) -> MethodOfSet:
    """What an attacker takes from the cipher image: the mean of each block. The rest is noise."""
    block = settings["block"]

    def seen(image: np.ndarray) -> np.ndarray:
        cipher, _ = encrypt_thumbnail(np.rint(image * 255).astype(np.uint8), block, workers=1)
        return pixelate(cipher / 255.0, min(block, max(image.shape[:2])))[0]

    return ofset(seen)


def _split_seen(settings: Settings) -> MethodOfSet:
    return ofset(public_part_picture(settings["threshold"]))


SPLIT: Final = Method(
    "split", "a JPEG's public part without what matters to the eye; the rest is sealed",
    (Parameter("threshold", "whole", "largest coefficient that stays public", DEFAULT_THRESHOLD, low=1, high=1023),),
    _split, _split_seen, "threshold", lambda _, __, ___: (100.0, 50.0, 20.0, 15.0, 10.0, 5.0, 2.0, 1.0), sealed=True,
)  # fmt: skip

THUMBNAIL: Final = Method(
    "thumbnail", "noise whose thumbnail is the picture's; its key is sealed",
    (Parameter("block", "whole", "side of a block in pixels: the thumbnail is smaller by it", 16,
               low=SMALLEST_BLOCK, high=LARGEST_BLOCK),),
    _thumbnail, _thumbnail_seen, "block", lambda _, __, ___: (2.0, 4.0, 8.0, 16.0, 32.0, 64.0), sealed=True,
)  # fmt: skip
