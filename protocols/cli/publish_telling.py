"""What `secureimg publish` tells: on the terminal, and as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from protocols.cli.console import amount, duration, out
from protocols.cli.publish_kinds import Method, Release, Settings, Source
from protocols.cli.publish_ledger import Account
from protocols.cli.publish_trials import Step, Trial
from protocols.cli.terminal import picture, side_by_side
from secureimg.publishing import Guarantee, ParrotResult, Restoration, Similarity

__all__ = ["Published", "attack_words", "notes", "promise_rows", "report_of", "restored_words", "setting_words", "show"]

_WIDTH = 36
_SHOWN = 4  # pictures on a terminal
_DECISIVE = 2.0  # a picture this many times as large as the album's is not what the attack was about


@dataclass(frozen=True, eq=False)
class Published:
    """Everything that one command did."""

    method: Method
    settings: Settings
    texts: Mapping[str, str]
    sources: tuple[Source, ...]
    releases: tuple[Release, ...]
    files: tuple[list[Path], ...]
    seconds: float
    recipients: tuple[str, ...]
    ledger: Account | None
    similarities: tuple[Similarity | None, ...]
    trial: Trial | None
    restored: tuple[Restoration, NDArray[np.float64], float] | None
    steps: tuple[Step, ...]


def setting_words(found: Published) -> str:
    """Return the method's name with its settings."""
    words = [f"{name} {_value(value)}" for name, value in found.settings.items() if value is not None]
    return ", ".join([found.method.name, *words])


def promise_rows(found: Published) -> list[tuple[str, str]]:
    """Return the guarantee, its terms and its cost, line by line. Equal guarantees of several pictures are told once."""
    guarantee: Guarantee = found.releases[0].guarantee
    kind = "none" if guarantee.kind == "none" else guarantee.kind
    rows = [("guarantee", kind), ("in words", guarantee.statement)]
    texts = dict.fromkeys(release.guarantee.neighbours for release in found.releases)
    rows += [("neighbours", text) for text in texts if text]
    if guarantee.epsilon is not None:
        loss = f"epsilon {guarantee.epsilon:g}" + (f", delta {guarantee.delta:g}" if guarantee.delta else "")
        rows.append(("privacy loss", loss + (" for each picture" if len(found.releases) > 1 else "")))
    rows.append(("in the clear", guarantee.in_the_clear or "nothing but the picture's size"))
    if found.recipients:
        rows.append(("may open it", ", ".join(found.recipients)))
    if found.ledger is not None:
        rows.append(("ledger", _account_words(found.ledger)))
    elif found.releases[0].charge is not None:
        rows.append(("ledger", "none: nothing counts this release, and losses of releases add up (add --ledger)"))
    rows.append(("cost", _cost(found)))
    similarity = found.similarities[0]
    if similarity is not None:
        rows.append(("likeness", similarity_words(similarity)))
    return rows


def similarity_words(similarity: Similarity) -> str:
    """Return the three measures."""
    psnr = "equal" if math.isinf(similarity.psnr) else f"{similarity.psnr:.1f} dB"
    return f"SSIM {similarity.ssim:.3f}, PSNR {psnr}, MSE {similarity.mse:.4f}"


def attack_words(trial: Trial) -> str:
    """Return what the attack found, in two sentences."""
    result = trial.result
    verdict = (
        f"names the right one of {result.labels} for {result.top1:.1%} of pictures that it has not seen "
        f"(95 % interval {result.interval[0]:.1%} to {result.interval[1]:.1%}; chance {result.chance:.1%}), "
        f"and among its first five for {result.top5:.1%} (chance {result.chance5:.1%})"
    )
    return (
        f"A classifier that was trained on published pictures of the same people or things {verdict}. On the pictures as "
        f"they are it names {trial.clear.top1:.1%}."
    )


def notes(found: Published) -> list[str]:
    """Return what limits the attack's result."""
    trial = found.trial
    if trial is None:
        return []
    result, album = trial.result, trial.album
    height, width = album.pixels.shape[1:3]
    first = (
        f"Album: {album.title}, {width} x {height}; {result.train} pictures to train on ({result.copies} shifted copies of "
        f"each), {result.test} others to test. Chosen by cross-validation: {result.classifier}; {duration(result.seconds)}."
    )
    lines = [first]
    if album.title.endswith("handwritten digits"):
        lines.append("These digits come with the program: the result is about them, not about your pictures.")
    if album.resized:
        lines.append(f"{album.resized} pictures of the album were stretched to that size.")
    tall, wide = found.sources[0].image.shape[:2]
    ratio = max(tall, wide) / max(height, width)
    if not 1 / _DECISIVE <= ratio <= _DECISIVE:
        lines.append(
            f"Your picture is {wide} x {tall}: the same settings mean another strength there. For a result that fits, crop "
            "an album to what is to be hidden, in your picture's size."
        )
    if not result.beats_chance:
        lines.append("This attack does not beat chance (p < 0.001). It is no proof that another does not.")
    return lines


def restored_words(found: Published) -> str:
    """Return what the restoration attack brought back."""
    assert found.restored is not None
    result, _, seconds = found.restored
    true = found.settings["sigma"]
    how = "with the blur's strength known"
    if result.estimated:
        how = f"with the blur's strength estimated from the picture alone (sigma {result.sigma:.2f}, true {true:g})"
    return (
        f"{result.filter}, {how}, brings back {result.gain:+.1f} dB of PSNR: SSIM {result.before.ssim:.3f} before, "
        f"{result.after.ssim:.3f} after; {duration(seconds)}. The filter's setting is the best of a few, judged by the "
        "original."
    )


def show(found: Published) -> None:
    """Print pictures, guarantee, attack."""
    for source, release in list(zip(found.sources, found.releases, strict=True))[:_SHOWN]:
        parts = [(source.name, picture(source.image, _WIDTH))]
        if release.image is not None:
            parts.append((found.method.name, picture(release.image, _WIDTH)))
        out.print(side_by_side(*parts))
    if len(found.sources) > _SHOWN:
        out.print(f"… and {len(found.sources) - _SHOWN} more")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for head, text in promise_rows(found):
        table.add_row(head, text)
    if found.trial is not None:
        table.add_row("attack", attack_words(found.trial))
        for line in notes(found):
            table.add_row("", line)
    elif found.releases[0].guarantee.kind == "none":
        table.add_row(
            "attack", "none was run: --attack FOLDER, with a folder for each person, shows what this is worth"
        )
    if found.restored is not None:
        table.add_row("restored", restored_words(found))
    out.print(table)


def report_of(found: Published, page: Path | None) -> dict[str, Any]:
    """Return everything as plain values."""
    images = [
        {
            "image": source.name, "files": [str(path) for path in paths], "guarantee": dataclasses.asdict(release.guarantee),
            "similarity": _plain(similarity), "facts": release.facts,
        }
        for source, release, paths, similarity in zip(
            found.sources, found.releases, found.files, found.similarities, strict=True
        )
    ]  # fmt: skip
    report: dict[str, Any] = {
        "method": found.method.name,
        "settings": {name: _value(value) if isinstance(value, tuple) else value for name, value in found.settings.items()},
        "images": images, "seconds": found.seconds, "recipients": list(found.recipients),
    }  # fmt: skip
    if found.ledger is not None:
        report["ledger"] = dataclasses.asdict(found.ledger) | {"file": str(found.ledger.file)}
    if found.trial is not None:
        report["attack"] = {
            "album": found.trial.album.title, "clear_top1": found.trial.clear.top1, "notes": notes(found),
            **_attack(found.trial.result),
        }  # fmt: skip
    steps = found.trial.steps if found.trial is not None else found.steps
    if steps:
        report["strengths"] = [
            {
                "method": step.method, "parameter": step.parameter, "strength": step.strength,
                "similarity": _plain(step.similarity), "attack": None if step.attack is None else _attack(step.attack),
            }
            for step in steps
        ]  # fmt: skip
    if found.restored is not None:
        result = found.restored[0]
        report["restoration"] = {
            "filter": result.filter, "sigma": result.sigma, "estimated": result.estimated, "psnr_gain": result.gain,
            "before": _plain(result.before), "after": _plain(result.after), "tried": dict(result.tried),
        }  # fmt: skip
    if page is not None:
        report["report"] = str(page)
    return report


def _attack(result: ParrotResult) -> dict[str, Any]:
    return dataclasses.asdict(result) | {"beats_chance": result.beats_chance}


def _plain(similarity: Similarity | None) -> dict[str, float] | None:
    return None if similarity is None else dataclasses.asdict(similarity)


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        if len(value) == 4:
            return f"{value[0]},{value[1]},{value[2]}x{value[3]}"
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _account_words(account: Account) -> str:
    return (
        f"{account.name!r} in {account.file.name}: epsilon {account.spent:g} of {account.budget:g} is spent, "
        f"{account.left:g} left"
    )


def _cost(found: Published) -> str:
    facts = found.releases[0].facts
    words = duration(found.seconds) + (" a picture" if len(found.releases) > 1 else "")
    if "sealed_bytes" in facts:
        words += (
            f"; {amount(facts['original_bytes'])} become {amount(facts['public_bytes'])} in public and "
            f"{amount(facts['sealed_bytes'])} sealed"
        )
    if "noise_scale" in facts:
        words += f"; scale of the noise {facts['noise_scale']:.3g}"
    return words
