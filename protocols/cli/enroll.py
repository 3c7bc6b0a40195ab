"""`secureimg enroll`: a gallery of templates, computed in the clear by whoever owns the pictures."""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from protocols.cli.console import amount, duration, err, out, write_json
from protocols.cli.options import Json
from protocols.cli.output_files import check_new
from protocols.galleries import MAX_LABEL, MAX_SIDE, MAX_TEMPLATES, Gallery, write_gallery
from protocols.gallery_graphs import digest_of, template_graph, templates_of
from protocols.pictures import prepare_picture
from protocols.preparation import preparation_of
from secureimg.errors import ImageError, SecureImgError
from secureimg.graph import Graph
from secureimg.images import load_image

__all__ = ["enroll"]

Array = NDArray[np.float64]

DEFAULT_MODEL: Final[str | None] = None
"""What makes templates if --model is not given."""

_SUFFIXES: Final = frozenset([".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".dcm"])
_BATCH: Final = 16


class GalleryMetric(enum.StrEnum):
    """How alike two templates are."""

    COSINE = "cosine"
    SQEUCLIDEAN = "sqeuclidean"


class LabelBy(enum.StrEnum):
    """What a picture's label is."""

    FILE = "file"
    FOLDER = "folder"


def enroll(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")],
    gallery_file: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The gallery (0600); never over an existing file.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="What makes templates: an .onnx file, a shipped model, or feature:NAME:HxW."
        ),
    ] = DEFAULT_MODEL,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Cut the model at this layer, in front of its classifier; `inspect` lists them."
        ),
    ] = None,
    metric: Annotated[
        GalleryMetric, typer.Option(help="How templates are compared: by direction, or by distance.")
    ] = GalleryMetric.COSINE,
    label_by: Annotated[
        LabelBy, typer.Option("--label-by", help="A picture's label: its file's name, or its folder's.")
    ] = LabelBy.FILE,
    thumbnails: Annotated[
        bool, typer.Option(help="Keep small pictures for match sheets. Without them a gallery holds templates only.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Make a gallery of IMAGEs for `secureimg match`: a template of each, computed here in the clear.

    Templates are biometric data: who has them can recognise people, and may learn what they look like. The gallery is
    written for its owner only (0600), is not encrypted, and stays with its owner.
    """
    check_new(gallery_file)
    if model is None:
        raise SecureImgError("no --model: name what makes templates, for instance --model feature:hog:64x64")
    graph = template_graph(model, layer)
    files = list(_files(images))
    if not files:
        raise ImageError(f"no image in {', '.join(map(str, images))}: known suffixes are {' '.join(sorted(_SUFFIXES))}")
    if len(files) > MAX_TEMPLATES:
        raise ImageError(f"{len(files)} images, the limit of a gallery is {MAX_TEMPLATES}: make several")
    start = time.perf_counter()
    templates, lengths, small = _templates(graph, files, metric.value, keep=thumbnails)
    labels = tuple(_label(path, label_by) for path in files)
    gallery = Gallery(
        model=model, layer=layer, digest=digest_of(graph), metric=metric.value,
        lengths=(float(lengths.min()), float(lengths.max())), labels=labels,
        templates=templates.astype(np.float32), thumbnails=tuple(small) if thumbnails else None,
    )  # fmt: skip
    size = write_gallery(gallery_file, gallery)
    seconds = time.perf_counter() - start
    if as_json:
        write_json({
            "gallery": str(gallery_file), "model": model, "layer": layer, "digest": gallery.digest,
            "metric": metric.value, "templates": len(files), "size": templates.shape[1],
            "labels": sorted(set(labels)), "thumbnails": thumbnails, "bytes": size, "seconds": seconds,
        })  # fmt: skip
        return
    cut = "" if layer is None else f" to {layer}"
    out.print(
        f"{gallery_file}: {len(files)} templates of {templates.shape[1]} values, {len(set(labels))} labels, {amount(size)}; "
        f"{model}{cut}, {metric.value}; {duration(seconds)}",
        soft_wrap=True,
    )
    out.print(
        "It is biometric data and not encrypted: only you may read it, and it stays with you"
        + (", small pictures included (--no-thumbnails leaves them out)" if thumbnails else ""),
        soft_wrap=True,
    )


def _files(paths: list[Path]) -> Iterator[Path]:
    """Every image, those of a folder in the order of their names."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, names, files in os.walk(path):
            names.sort()
            for name in sorted(files):
                if Path(name).suffix.lower() in _SUFFIXES and not name.startswith("."):
                    yield Path(folder, name)


def _label(path: Path, by: LabelBy) -> str:
    label = path.stem if by is LabelBy.FILE else path.absolute().parent.name
    if len(label) > MAX_LABEL:
        raise ImageError(f"{path}: the label has {len(label)} characters, the limit is {MAX_LABEL}: rename it")
    return "".join(letter if letter.isprintable() else "?" for letter in label)  # names of files may hold anything


def _templates(
    graph: Graph, files: list[Path], metric: str, *, keep: bool
) -> tuple[Array, Array, list[NDArray[np.uint8]]]:
    """Templates, their lengths, and small pictures."""
    preparation = preparation_of(graph)
    parts, lengths, small = [], [], []
    columns = (TextColumn("enrolling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=len(files))
        for first in range(0, len(files), _BATCH):
            batch = files[first : first + _BATCH]
            values = []
            for path in batch:
                picture = load_image(path)
                values.append(prepare_picture(picture, graph.input_shape, preparation, str(path)))
                if keep:
                    small.append(_thumbnail(picture))
            vectors, sizes = templates_of(graph, np.stack(values), metric, tuple(map(str, batch)))
            parts.append(vectors)
            lengths.append(sizes)
            progress.advance(task, len(batch))
    return np.concatenate(parts), np.concatenate(lengths), small


def _thumbnail(picture: Array) -> NDArray[np.uint8]:
    pixels = np.round(picture * 255).astype(np.uint8)
    scale = MAX_SIDE / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))
