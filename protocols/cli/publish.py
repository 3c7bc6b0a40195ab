"""`secureimg publish`: a picture as it may leave its owner, with its guarantee in words and the attack that tests it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.table import Table

from protocols.cli.appearing import appearing
from protocols.cli.console import out, write_json
from protocols.cli.options import Json
from protocols.cli.output_files import check_new, save_array, write_new
from protocols.cli.publish_kinds import Method, Release, Settings, Source, parse_settings
from protocols.cli.publish_ledger import charge_all, check_ledger
from protocols.cli.publish_methods import METHODS, find_method
from protocols.cli.publish_telling import Published, report_of, show
from protocols.cli.publish_trials import attack_album, own_steps, read_attacked, restore, swept_settings
from secureimg.errors import ImageError, PublishingError
from secureimg.images import MAX_BYTES, load_image, save_image
from secureimg.publishing import Recipient, compare_pictures, load_recipient

__all__ = ["publish"]

_MOST: Final = 1000
_WRITTEN: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm")
_FLAGS: Final = ("epsilon", "pixels", "cell", "sigma", "k", "box", "block", "threshold")


def publish(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE...", help="Image files. Without one: list the methods.")
    ] = None,
    name: Annotated[str | None, typer.Option("--method", metavar="NAME", help="How they are published.")] = None,
    target: Annotated[
        Path | None,
        typer.Option("--out", metavar="PATH", help="A file for one image, or a folder; never over an existing file."),
    ] = None,
    epsilon: Annotated[str | None, typer.Option(metavar="EPS", help="dp-*: privacy loss of each picture.")] = None,
    pixels: Annotated[
        str | None,
        typer.Option("--pixels", "--m", metavar="N|all", help="dp-*: pixels that neighbours may differ in."),
    ] = None,
    cell: Annotated[str | None, typer.Option(metavar="PIXELS", help="Side of a cell.")] = None,
    sigma: Annotated[str | None, typer.Option(metavar="PIXELS", help="Standard deviation of a blur.")] = None,
    k: Annotated[str | None, typer.Option(metavar="K", help="k-same: pictures in a mean; dp-svd: values kept.")] = None,
    box: Annotated[
        str | None, typer.Option(metavar="TOP,LEFT,HEIGHTxWIDTH", help="black-box: the rectangle, in pixels.")
    ] = None,
    block: Annotated[str | None, typer.Option(metavar="PIXELS", help="thumbnail: side of a block.")] = None,
    threshold: Annotated[str | None, typer.Option(metavar="T", help="split: largest public coefficient.")] = None,
    given: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any parameter; repeatable.")
    ] = None,
    to: Annotated[
        list[Path] | None,
        typer.Option("--to", metavar="NAME.pub", help="split, thumbnail: who may open it; repeatable."),
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(metavar="FILE", help="dp-*: keeps count of privacy loss, refuses past its budget.")
    ] = None,
    budget: Annotated[float | None, typer.Option(metavar="EPS", help="Make the ledger, with this budget.")] = None,
    budget_delta: Annotated[float, typer.Option(metavar="DELTA", help="Its delta, for Gaussian noise.")] = 0.0,
    album: Annotated[str | None, typer.Option(metavar="NAME", help="What the new ledger is for.")] = None,
    attack: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|digits",
            help="Attack the method on pictures of known people, a folder for each; or on digits that come with this.",
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With --attack and --report: another method in the curves; repeatable."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help="Write one page with everything.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Publish IMAGEs: obfuscated, with differential privacy, split, or as noise with a true thumbnail.

    What is written is made afresh: no EXIF, place, date, preview or text of the original is in it. Obfuscation
    guarantees nothing; --attack shows what it is worth.
    """
    if not images and name is None:
        _list(as_json)
        return
    if not images or name is None or target is None:
        raise PublishingError(
            "publish which IMAGE, by which --method, to which --out? `secureimg publish` lists methods"
        )
    method = find_method(name)
    flags = dict(zip(_FLAGS, (epsilon, pixels, cell, sigma, k, box, block, threshold), strict=True))
    texts = {flag: text for flag, text in flags.items() if text is not None} | _set(given or [])
    others = [find_method(other) for other in dict.fromkeys(compare or []) if other != name]
    elsewhere = {each.name for other in others for each in other.parameters} - {each.name for each in method.parameters}
    settings = parse_settings(method, {key: text for key, text in texts.items() if key not in elsewhere})
    compared = [(other, swept_settings(other, texts)) for other in others]
    if compared and (attack is None or page is None):
        raise PublishingError("--compare draws attacks in a report: add --attack and --report, or leave it away")
    recipients = _recipients(method, to or [])
    if ledger is not None or budget is not None:
        check_ledger(method, ledger, budget)
    bases = _bases(images, target)
    check_new(*([page] if page is not None else []))
    sources = [_source(path) for path in images]
    trial_album = read_attacked(attack) if attack is not None else None  # before anything is spent
    start = time.perf_counter()
    releases = method.publish(sources, settings, recipients)
    seconds = (time.perf_counter() - start) / len(sources)
    files = [_files(method, release, base, target) for release, base in zip(releases, bases, strict=True)]
    check_new(*(path for each in files for path in each))
    trial = None
    if trial_album is not None:
        trial = attack_album(trial_album, method, settings, compared, sweep=page is not None)
    account = charge_all(ledger, budget, budget_delta, album, releases, sources)
    for release, paths in zip(releases, files, strict=True):
        _write(release, paths)
    found = Published(
        method=method, settings=settings, texts=texts, sources=tuple(sources), releases=tuple(releases),
        files=tuple(files), seconds=seconds, recipients=tuple(recipient.name for recipient in recipients), ledger=account,
        similarities=tuple(_alike(source, release) for source, release in zip(sources, releases, strict=True)),
        trial=trial, restored=_restored(method, settings, sources, releases),
        steps=() if page is None or trial is not None else own_steps(method, settings, sources[0].image),
    )  # fmt: skip
    if page is not None:
        from protocols.cli.publish_report import page_of  # draws

        write_new(page, page_of(found).encode())
    if as_json:
        write_json(report_of(found, page))
        return
    show(found)
    for path in [path for each in files for path in each] + ([page] if page is not None else []):
        out.print(f"saved {path}", soft_wrap=True)
    if page is not None:
        out.print(f"{page.name} holds the original beside the rest: it is for you, not for publishing", soft_wrap=True)


def _set(given: list[str]) -> dict[str, str]:
    texts = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise PublishingError(f"--set {word!r} is not NAME=VALUE: write it like bins=64")
        texts[key] = value
    return texts


def _recipients(method: Method, paths: list[Path]) -> list[Recipient]:
    if paths and not method.sealed:
        raise PublishingError(f"method {method.name} seals nothing: leave --to away, or use `secureimg seal`")
    if not paths and method.sealed:
        raise PublishingError(f"method {method.name} seals a part: for whom? add --to NAME.pub, as often as needed")
    return [load_recipient(path) for path in paths]


def _source(path: Path) -> Source:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImageError(f"image file {str(path)!r} cannot be read ({error.strerror}): check the path") from None
    return Source(path.name, data, load_image(path) if len(data) > MAX_BYTES or not data else load_image(data))


def _bases(images: list[Path], target: Path) -> list[Path]:
    """Where each image goes, without a suffix if that is the method's."""
    if len(images) > _MOST:
        raise PublishingError(f"{len(images)} images in one call, the limit is {_MOST}: call several times")
    if len(images) == 1 and not target.is_dir() and target.suffix:
        return [target]
    if target.exists() and not target.is_dir():
        raise PublishingError(f"{target} is a file, and {len(images)} images need a folder: name one")
    if len({path.stem for path in images}) < len(images):
        raise PublishingError("two images have the same name: publish them one by one")
    if not target.absolute().parent.is_dir():
        raise PublishingError(f"{target.absolute().parent} is not a directory: make it first")
    return [target / path.stem for path in images]


def _files(method: Method, release: Release, base: Path, target: Path) -> list[Path]:
    """Names of a release's files; a new folder is made."""
    suffixes = [part.suffix for part in release.parts] or [".npy" if release.image is None else ".png"]
    if base != target:
        target.mkdir(exist_ok=True)
        return [base.with_name(base.name + suffix) for suffix in suffixes]
    free = release.image is not None and not release.parts
    if not free and base.suffix.lower() != suffixes[0]:
        raise PublishingError(f"method {method.name} writes {suffixes[0]} files, not {base.suffix}: rename --out")
    if free and base.suffix.lower() not in _WRITTEN:  # found before a ledger is charged
        raise PublishingError(f"{str(base)!r} has suffix {base.suffix!r}: use one of {', '.join(_WRITTEN)}")
    return [base, *(base.with_suffix(suffix) for suffix in suffixes[1:])]


def _write(release: Release, paths: list[Path]) -> None:
    if release.parts:
        for part, path in zip(release.parts, paths, strict=True):
            write_new(path, part.data)
    elif release.image is not None:
        with appearing(paths[0]) as fresh:
            save_image(fresh, release.image)
    elif release.values is not None:
        save_array(paths[0], np.asarray(release.values, np.float64))


def _alike(source: Source, release: Release) -> Any:
    if release.image is None or release.image.shape != source.image.shape:
        return None
    return compare_pictures(source.image, release.image)


def _restored(method: Method, settings: Settings, sources: list[Source], releases: list[Release]) -> Any:
    image = releases[0].image
    if method.name != "blur" or image is None:
        return None
    return restore(sources[0].image, image, settings["sigma"])


def _list(as_json: bool) -> None:
    if as_json:
        write_json({"methods": [
            {"name": method.name, "summary": method.summary, "sealed": method.sealed, "parameters": [
                {"name": each.name, "words": each.words, "default": each.default, "required": each.required}
                for each in method.parameters]}
            for method in METHODS.values()
        ]})  # fmt: skip
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("method", "what", "parameters"):
        table.add_column(title)
    for method in METHODS.values():
        words = [
            f"{each.name}={_shown(each.default)}" if not each.required else each.name for each in method.parameters
        ]
        table.add_row(method.name, method.summary, " ".join([*words, *(["--to NAME.pub"] if method.sealed else [])]))
    out.print(table)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return "…" if value is None else f"{value:g}"
