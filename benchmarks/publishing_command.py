"""``python -m benchmarks publishing``: protection against utility of each way to publish; seconds of seals and ciphers."""

from __future__ import annotations

import logging
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from secureimg.errors import SecureImgError
from secureimg.publishing import Album, digits_album, load_album

from .publishing_measure import CIPHER_STEPS, PLANS, Plan, measure_cipher, measure_strength, photograph, strengths_of
from .publishing_plot import plot_publishing
from .publishing_results import CipherRow, ProtectionRow, PublishingRun, publishing_markdown, show_publishing
from .results import machine, versions

__all__ = ["publishing"]

_FILE_WIDTH = 170  # of tables that go to a file or a pipe
_COPIES = 3


def publishing(
    album_folder: Annotated[
        Path | None, typer.Option("--album", help="Pictures to attack: a folder for each person. Default: digits.")
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="Three strengths each, few digits, a photograph of 3 megapixels.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything that was measured.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw it (.svg, .png).")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="Write the tables as Markdown.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only methods and ciphers whose name has this in it; repeatable.")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Counted runs of each cipher.")] = 3,
) -> None:
    """Each way to publish over its strengths: the parrot attack against MSE, PSNR, SSIM; ciphers of a large photograph."""
    console = Console(stderr=True)
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    plans = [plan for plan in PLANS if not only or any(word in f"{plan.method} {plan.setting}" for word in only)]
    ciphers = [name for name in CIPHER_STEPS if not only or any(word in name for word in only)]
    if not plans and not ciphers:
        known = ", ".join([*(plan.method for plan in PLANS), *CIPHER_STEPS])
        raise typer.BadParameter(f"in none of {known}", param_hint="--only")
    try:
        album = load_album(album_folder) if album_folder is not None else digits_album(30 if quick else 100)
    except SecureImgError as error:
        raise typer.BadParameter(str(error), param_hint="--album") from None
    run = _measure(album, plans, ciphers, quick, repeat, console)
    if json_file is not None:
        run.save(json_file)
    terminal = Console()
    show_publishing(run, terminal if terminal.is_terminal else Console(width=_FILE_WIDTH))
    if markdown_file is not None:
        markdown_file.write_text(publishing_markdown(run) + "\n", encoding="utf-8")
    if plot_file is not None and run.protection:
        plot_publishing(run, plot_file)
    if run.failures and not run.protection and not run.ciphers:
        raise typer.Exit(1)


def _measure(
    album: Album, plans: list[Plan], ciphers: list[str], quick: bool, repeat: int, console: Console
) -> PublishingRun:
    rows: list[ProtectionRow] = []
    cipher_rows: list[CipherRow] = []
    failures: list[str] = []
    todo = [(plan, strength) for plan in plans for strength in strengths_of(plan, album, quick)]
    width, height = (2000, 1500) if quick else (4000, 3000)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(todo) + len(ciphers))
        for plan, strength in todo:
            progress.update(bar, description=f"{plan.method} {strength:g}")
            try:
                rows.append(measure_strength(album, plan, strength, 1 if quick else _COPIES))
            except SecureImgError as error:
                failures.append(f"{plan.method} ({plan.setting}) at {strength:g}: {error}")
            progress.advance(bar)
        photo = photograph(width, height) if ciphers else None
        for name in ciphers:
            progress.update(bar, description=name)
            assert photo is not None
            cipher_rows += measure_cipher(name, photo, repeat)
            progress.advance(bar)
    size = "x".join(map(str, reversed(album.pixels.shape[1:3])))
    settings = {
        "album": f"{album.title} of {size}", "labels": len(album.names), "quick": quick, "repeat": repeat,
        "copies": 1 if quick else _COPIES, "photo": f"{width}x{height}, RGB, JPEG of quality 90",
    }  # fmt: skip
    found = versions() | {name: metadata.version(name) for name in ("scikit-learn", "scikit-image", "opendp")}
    return PublishingRun(tuple(rows), tuple(cipher_rows), tuple(failures), settings, machine(), found)
