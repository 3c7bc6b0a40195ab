"""Split photographs: a JPEG file as a public JPEG, of what matters little to the eye, and a small secret part.

Follows P3 (Ra, Govindan, Ortega: "P3: Toward Privacy-Preserving Photo Sharing", NSDI 2013, section 3). Of each 8x8 block
the DC coefficient, and the sign and excess of AC coefficients above a threshold, go into the secret part.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from typing import Final

from PIL import Image

from secureimg.errors import BlobError, ImageError, PublishingError
from secureimg.images import MAX_BYTES, MAX_PIXELS
from secureimg.publishing.guarantee import Guarantee
from secureimg.publishing.jpeg import (
    JpegFile,
    Scan,
    open_jpeg,
    read_jpeg,
    refill,
    with_blocks,
    write_jpeg,
)
from secureimg.publishing.split_coefficients import DEFAULT_THRESHOLD, check_threshold, divided, united
from secureimg.publishing.split_probe import make_probe
from secureimg.publishing.split_secret import (
    SecretPart,
    decode_secret,
    encode_secret,
    patch_from,
    patched,
    secret_frame,
)

__all__ = [
    "Split",
    "SplitFacts",
    "join_jpeg",
    "split_guarantee",
    "split_jpeg",
]

_PATCH_SHARE: Final = 50  # a file that needs a larger patch than this part of itself is coded anew
_SMALL: Final = 20_000
_WIDEST: Final = 65_500  # libjpeg's limit too; the padded secret picture must stay below 65,536
_EXIF_ORIENTATION: Final = 0x0112


@dataclass(frozen=True)
class SplitFacts:
    """What came of a split.

    Attributes
    ----------
    width, height : int
        Of the picture as stored, before any orientation.
    threshold : int
    exact : bool
        The joined file is the original byte for byte. Else it has the original's coefficients and metadata: its coding is
        one that no libjpeg makes.
    original_bytes, public_bytes, secret_bytes : int
    clipped : float
        Share of the AC coefficients other than 0 that are above the threshold.
    """

    width: int
    height: int
    threshold: int
    exact: bool
    original_bytes: int
    public_bytes: int
    secret_bytes: int
    clipped: float

    @property
    def overhead(self) -> float:
        """How much larger both parts are than the original, as a share of it; sealing not counted."""
        return (self.public_bytes + self.secret_bytes) / self.original_bytes - 1.0


@dataclass(frozen=True, eq=False)
class Split:
    """A split photograph.

    Attributes
    ----------
    public : bytes
        A JPEG file without metadata.
    secret : bytes
        To be sealed: whoever has it and the public part has the photograph.
    guarantee : Guarantee
    facts : SplitFacts
    """

    public: bytes
    secret: bytes
    guarantee: Guarantee
    facts: SplitFacts

    def __repr__(self) -> str:
        return f"Split({self.facts})"


def split_guarantee(threshold: int = DEFAULT_THRESHOLD) -> Guarantee:
    """Return what splitting promises once the secret part is sealed."""
    return Guarantee(
        kind="encryption",
        statement=(
            "Once the secret part is sealed, nobody but its recipients learns what is in it: brightness and colour of every "
            f"8x8 block, sign and excess of the AC coefficients above {threshold}, and the metadata. This holds for the "
            "secret part only. Splitting is not semantically secure: the public part is a picture in the clear."
        ),
        in_the_clear=(
            f"every AC coefficient up to {threshold} with its sign, and where larger ones are: edges, texture and writing "
            "can be seen, and a classifier trained on public parts recognises people in them; size, sampling, quantisation "
            "tables, the threshold, the length of both parts"
        ),
    )


def split_jpeg(data: bytes, threshold: int = DEFAULT_THRESHOLD) -> Split:
    """Split a photograph into a public JPEG and a secret part.

    Parameters
    ----------
    data : bytes
        A JPEG file, at most 64 MiB and 64 million pixels: baseline, extended or progressive with Huffman codes, 8 bits,
        1, 3 or 4 components.
    threshold : int
        AC coefficients (quantised) above it are clipped, 1 to 1023. A lower one shows less and makes the secret part larger.

    Returns
    -------
    Split

    Raises
    ------
    ImageError
        The file is damaged, too large or of another kind.
    PublishingError
        The threshold is out of range, or a side is longer than 65,500 pixels.

    Notes
    -----
    EXIF, colour profile, comments, thumbnail and whatever follows the picture are in the secret part only. So viewers show
    the public part unturned, as the sensor had it. Progressive files of more than 20,000 bytes give a progressive one.

    Cost: 12 megapixels take about 2 s on one core. Both parts together are about as large as the original.

    Source: P3, section 3.2. The public part has +threshold at each clipped place, as there.
    """
    check_threshold(threshold)
    opened = open_jpeg(data)
    if max(opened.image.frame.width, opened.image.frame.height) > _WIDEST:
        raise PublishingError(f"a picture with a side of more than {_WIDEST} pixels cannot be split: scale it down")
    file, skeleton, padding, patch = _reproducible(data, opened)
    image = opened.image
    public_blocks, secret_blocks, clipped = divided(image.blocks, threshold)
    shown = with_blocks(image, public_blocks)
    public = write_jpeg(shown)
    if (
        shown.frame.process == "progressive" and len(public) < _SMALL
    ):  # where tables of ten scans weigh more than they save
        public = min(public, write_jpeg(replace(shown, frame=replace(shown.frame, process="baseline"))), key=len)
    row, column, probe = make_probe(shown, len(public))
    del public_blocks, shown
    hidden = with_blocks(secret_frame(image), secret_blocks)
    members = range(len(image.frame.components))
    scans = [_whole_band(k, 0, 0) for k in members] + [_whole_band(k, 1, 63) for k in members]
    secret = encode_secret(
        SecretPart(
            threshold=threshold,
            orientation=_orientation(data),
            public=hashlib.sha256(public).digest(),
            original=hashlib.sha256(file).digest(),
            size=len(file),
            padding=padding,
            skeleton=skeleton,
            patch=patch,
            coefficients=write_jpeg(hidden, scans=scans),
            probe=probe,
            probe_row=row,
            probe_column=column,
        )
    )
    facts = SplitFacts(
        image.frame.width, image.frame.height, threshold, file == data, len(data), len(public), len(secret), clipped
    )
    return Split(public, secret, split_guarantee(threshold), facts)


def join_jpeg(public: bytes, secret: bytes) -> bytes:
    """Return the photograph that was split, byte for byte (see `SplitFacts.exact`).

    Parameters
    ----------
    public : bytes
        The public part, unchanged. If a host has changed it: `join_pictures`.
    secret : bytes
        The secret part, out of its seal.

    Raises
    ------
    BlobError
        A part is damaged, or the two do not belong together.

    Notes
    -----
    Cost: 12 megapixels take about 1 s on one core. Source: P3, section 3.3, equation 1.
    """
    part, _, hidden = decode_secret(secret)
    if len(public) > MAX_BYTES:
        raise BlobError(f"the public part has {len(public)} bytes, more than the limit of {MAX_BYTES}")
    if hashlib.sha256(public).digest() != part.public:
        raise BlobError(
            "the public part is not the one that this secret part was made with: it is of another photograph, damaged, or "
            "changed by a host (then join_pictures can still give the picture)"
        )
    try:
        shown = read_jpeg(public)
        if shown.frame.block_count != len(hidden.blocks):
            raise BlobError("the two parts are of pictures of different shapes: they do not belong together")
        blocks = united(shown.blocks, hidden.blocks, part.threshold)
        file = refill(part.skeleton, blocks, "the secret part's skeleton", MAX_PIXELS, part.padding)
    except (ImageError, PublishingError) as error:
        raise BlobError(f"the two parts cannot be joined: {error}") from None
    if part.patch:
        file = patched(file, part.patch, part.size)
    if hashlib.sha256(file).digest() != part.original:
        raise BlobError(
            "the joined file is not the one that was split (its SHA-256 does not match): make the parts again"
        )
    return file


def _whole_band(member: int, first: int, last: int) -> Scan:
    return Scan((member,), (0,), (0,), first, last, 0, 0, 0)


def _reproducible(data: bytes, opened: JpegFile) -> tuple[bytes, bytes, int, bytes]:
    """Return the file that joining gives, its skeleton, its padding bit, and the patch that it needs.

    It is the original, if coding its coefficients with its own tables gives it again, or nearly so.
    """
    skeleton, blocks = opened.skeleton(data), opened.image.blocks
    for padding in (1, 0):
        try:
            made = refill(skeleton, blocks, "the photograph", MAX_PIXELS, padding)
        except PublishingError:  # its tables lack a symbol: it was not coded as we do
            break
        if made == data:
            return data, skeleton, padding, b""
        if len(made) == len(data) or padding == 0:
            patch = patch_from(made, data)
            if len(patch) <= len(data) // _PATCH_SHARE:
                return data, skeleton, padding, patch
    notes = b"".join(data[start:stop] for start, stop in opened.notes)
    file = write_jpeg(opened.image, notes=notes) + data[opened.end :]
    return file, open_jpeg(file, max_bytes=2 * MAX_BYTES).skeleton(file), 1, b""


def _orientation(data: bytes) -> int:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            found = picture.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - Pillow raises many types on damaged notes, and the picture is whole
        return 1
    return int(found) if found in range(1, 9) else 1
