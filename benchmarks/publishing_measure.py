"""What the benchmark of publishing runs: each method over strengths, attacked; seals and ciphers of a large photograph."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from protocols.cli.publish_kinds import Method, Settings, parse_settings
from protocols.cli.publish_methods import METHODS
from secureimg.publishing import Album, RecipientKey, parrot_attack, seal, unseal
from secureimg.publishing.cipher_png import decode_cipher_png, encode_cipher_png
from secureimg.publishing.split import join_jpeg, split_jpeg
from secureimg.publishing.thumbnails import decrypt_thumbnail, encrypt_thumbnail

from .publishing_results import CipherRow, ProtectionRow
from .results import Spread

__all__ = ["CIPHER_STEPS", "PLANS", "Plan", "measure_cipher", "measure_strength", "photograph", "strengths_of"]

CIPHER_STEPS = ("seal", "split", "thumbnail 8x8", "thumbnail 16x16")

_TIMED = 8  # pictures


@dataclass(frozen=True)
class Plan:
    """A method with what is fixed of it, in words and as texts."""

    method: str
    setting: str
    given: Mapping[str, str]

    def of(self) -> tuple[Method, dict[str, Any]]:
        """Return the method and its settings; the strength is a stand-in."""
        method = METHODS[self.method]
        stand_in = {method.strength: "2"} if method.strength not in self.given else {}
        return method, parse_settings(method, {**stand_in, **self.given})


PLANS = (
    Plan("pixelate", "", {}),
    Plan("blur", "", {}),
    Plan("black-box", "the middle", {}),
    Plan("k-same", "", {}),
    Plan("dp-pix", "m = 16, cells of 8", {"pixels": "16", "cell": "8"}),
    Plan("dp-pix", "whole picture, cells of 8", {"pixels": "all", "cell": "8"}),
    Plan("dp-blur", "m = 16, cells of 8", {"pixels": "16", "cell": "8"}),
    Plan("dp-svd", "k = 16", {"k": "16"}),
    Plan("dp-histogram", "m = 16, 64 bins", {"pixels": "16", "bins": "64"}),
    Plan("dp-hog", "m = 1, cells of 14x14", {"pixels": "1", "pixels_per_cell": "14x14", "cells_per_block": "1x1"}),
    Plan("split", "", {}),
    Plan("thumbnail", "", {}),
)
"""What is measured; dp-svd's strengths are those of its own unit of distance."""


def measure_strength(album: Album, plan: Plan, strength: float, copies: int) -> ProtectionRow:
    """Attack a method at a strength, and time it on a few pictures."""
    method, settings = plan.of()
    at = method.at(settings, strength)
    few = np.stack([album.picture(place) for place in range(min(_TIMED, len(album.labels)))])
    at(few)  # compiles
    start = time.perf_counter()
    at(few)
    seconds = (time.perf_counter() - start) / len(few)
    found = parrot_attack(album, method_of_set=at, copies=copies)
    likeness = found.similarity
    mse, psnr, ssim = (None, None, None) if likeness is None else (likeness.mse, likeness.psnr, likeness.ssim)
    return ProtectionRow(
        plan.method, plan.setting, method.strength, strength, found.top1, found.interval, found.top5, found.chance,
        found.beats_chance, found.train, found.test, mse, psnr, ssim, found.classifier, seconds, found.seconds,
    )  # fmt: skip


def strengths_of(plan: Plan, album: Album, quick: bool) -> tuple[float, ...]:
    """Strengths of a plan, the weakest first; three if it must be quick."""
    method, settings = plan.of()
    found = _strengths(method, settings, album)
    return found[:: max(1, (len(found) - 1) // 2)][:3] if quick else found


def photograph(width: int, height: int) -> np.ndarray:
    """Return a photograph of a size: those of scikit-image, enlarged beside each other, with the grain of a sensor."""
    from skimage import data

    pictures = [getattr(data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")]
    half = (width - width // 2, height - height // 2)
    rows = [
        np.concatenate([np.asarray(Image.fromarray(p).resize(half, Image.Resampling.BICUBIC)) for p in pair], axis=1)
        for pair in (pictures[:2], pictures[2:])
    ]
    whole = np.concatenate(rows)[:height, :width]
    grain = np.random.default_rng(7).normal(0, 3, whole.shape)
    return np.clip(whole + grain, 0, 255).astype(np.uint8)


def measure_cipher(name: str, pixels: np.ndarray, repeat: int) -> Iterator[CipherRow]:
    """Time a cipher forth and back on a photograph."""
    key = RecipientKey.generate("benchmark")
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    jpeg = stream.getvalue()
    if name == "seal":
        sealed, spread = _timed(lambda: seal(jpeg, [key.recipient], "photo", name="photo.jpg"), repeat)
        yield CipherRow("seal a JPEG", spread, len(jpeg), len(sealed), None)
        opened, spread = _timed(lambda: unseal(sealed, key).payload, repeat)
        yield CipherRow("open it", spread, len(sealed), len(opened), opened == jpeg)
    elif name == "split":
        parts, spread = _timed(lambda: split_jpeg(jpeg), repeat)
        yield CipherRow("split a JPEG", spread, len(jpeg), len(parts.public) + len(parts.secret), None)
        joined, spread = _timed(lambda: join_jpeg(parts.public, parts.secret), repeat)
        yield CipherRow("join it", spread, len(parts.public) + len(parts.secret), len(joined), joined == jpeg)
    else:
        block = int(name.rpartition("x")[2])
        (cipher, ticket), spread = _timed(lambda: encrypt_thumbnail(pixels, block), repeat)
        png, writing = _timed(lambda: encode_cipher_png(cipher), repeat)
        yield CipherRow(f"thumbnail, blocks of {block}: encrypt", spread, pixels.nbytes, cipher.nbytes, None)
        yield CipherRow(
            "  write as PNG", writing, cipher.nbytes, len(png), bool((decode_cipher_png(png) == cipher).all())
        )
        clear, spread = _timed(lambda: decrypt_thumbnail(cipher, ticket), repeat)
        yield CipherRow("  decrypt", spread, cipher.nbytes, clear.nbytes, bool((clear == pixels).all()))


def _strengths(method: Method, settings: Settings, album: Album) -> tuple[float, ...]:
    return method.strengths(settings, *album.pixels.shape[1:3])


def _timed(work: Callable[[], Any], repeat: int) -> tuple[Any, Spread]:
    """Result and times of some runs, after one that does not count."""
    result = work()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return result, Spread.of(times)
