"""What `secureimg match` says: the decision, who learnt what, what it took; in words, as a table and as a picture."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from protocols.cli.console import duration, out
from protocols.cli.options import Executor
from protocols.cli.plates import Tile, match_sheet
from protocols.cli.run import show_cost
from protocols.cli.terminal import picture, side_by_side
from protocols.galleries import Gallery

__all__ = ["Decision", "Question", "Told", "draw", "in_words", "report_of", "show"]

Array = NDArray[np.float64]

_MOST_TILES: Final = 20
_NOT_OURS = ("labels", "label_names", "plain_labels", "outputs", "reveal")


class Told(enum.StrEnum):
    """What the probe's owner asks for."""

    BEST = "best"
    TOP_K = "top-k"
    THRESHOLD = "threshold"
    SCORES = "scores"


_NOTHING_BUT: Final = {
    Told.BEST: "nothing opened but the place",
    Told.TOP_K: "nothing opened but these places",
    Told.THRESHOLD: "nothing opened but a yes or no for each",
    Told.SCORES: "all scores opened, as asked",
}


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked, checked against the gallery."""

    reveal: Told
    top: int
    threshold: float | None

    @property
    def identifies(self) -> bool:
        """Whether the answer says that templates match, or only which are nearer than others."""
        return self.reveal in (Told.BEST, Told.THRESHOLD)


@dataclass(frozen=True, eq=False)
class Decision:
    """What came out.

    Attributes
    ----------
    matches : tuple of int
        Places that were decided for, best first.
    shown : tuple of int
        These and, where scores are known, the next ones.
    scores : (N,) or None
        Where they are known.
    text : str
        The decision in words.
    """

    matches: tuple[int, ...]
    shown: tuple[int, ...]
    scores: Array | None
    text: str


def in_words(matches: tuple[int, ...], question: Question, gallery: Gallery, nearest: int | None = None) -> str:
    """The decision in words."""
    count = len(gallery.labels)
    if question.reveal is Told.SCORES:
        assert nearest is not None
        return f"{count} scores; the best is {gallery.labels[nearest]} (place {nearest})"
    if not matches:
        limit = f"at least {question.threshold:g}" if gallery.metric == "cosine" else f"within {question.threshold:g}"
        return f"no match: none of {count} is {limit}"
    if question.reveal is Told.BEST:
        return f"match: {gallery.labels[matches[0]]} (place {matches[0]} of {count})"
    labels = list(dict.fromkeys(gallery.labels[place] for place in matches))
    names = ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
    if question.reveal is Told.TOP_K:
        return f"the {len(matches)} nearest of {count}: {names}"
    return f"{len(matches)} of {count} match: {names}"


def _learnt(on: str, reveal: Told, gallery: Gallery) -> str:
    """Who learns what."""
    count, size = gallery.templates.shape
    if on == "plain":
        return "in the clear: whoever runs this sees the picture, the gallery and every score"
    if on == "ckks":
        return (
            f"the probe's owner learns all {count} scores, whatever --reveal says: CKKS opens them all to it, and scores of "
            f"{size} probes give the templates away; the gallery's owner learns nothing"
        )
    what = {
        Told.BEST: "the one place, or that there is none, and no score",
        Told.TOP_K: "these places in their order and no score",
        Told.THRESHOLD: "a yes or no for each template and no score",
        Told.SCORES: f"all {count} scores, as was asked: those of {size} probes give the templates away",
    }[reveal]
    return (
        f"the probe's owner learns {what}; the gallery's owner (party 1) and party 0 learn nothing of picture or answer"
    )


def report_of(
    report: dict[str, Any], probe: Path, gallery_file: Path, gallery: Gallery, question: Question, decision: Decision
) -> dict[str, Any]:
    """What --json says: the decision, then what `execute` says of the run."""
    scores = decision.scores
    return {
        "probe": str(probe), "gallery": str(gallery_file), "templates": len(gallery.labels), "metric": gallery.metric,
        "reveal": question.reveal.value, "top": question.top, "threshold": question.threshold,
        "decision": decision.text,
        "match": bool(decision.matches) if question.identifies else None,
        "matches": [
            {"place": place, "label": gallery.labels[place], "score": None if scores is None else float(scores[place])}
            for place in decision.matches
        ],
        "scores": None if scores is None else scores.tolist(),
        "learnt": _learnt(report["on"], question.reveal, gallery),
        **{key: item for key, item in report.items() if key not in _NOT_OURS},
    }  # fmt: skip


def show(
    report: dict[str, Any], original: Array, name: str, gallery: Gallery, question: Question, decision: Decision
) -> None:
    """Print pictures, table, decision, who learnt what, and what it took."""
    if gallery.thumbnails is not None:
        first = decision.matches[:3] or decision.shown[:3]
        width = max(12, min(30, out.width // (len(first) + 1) - 4))
        near = "" if decision.matches else "nearest: "
        parts = [(escape(name[:width]), picture(original, width))]
        parts += [
            (escape(f"{near}{gallery.labels[place]}"[:width]), picture(gallery.thumbnails[place], width))
            for place in first
        ]
        out.print(side_by_side(*parts))
        out.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("#", "place", "label", *([] if decision.scores is None else [gallery.metric]), ""):
        table.add_column(title, justify="left" if title in ("label", "") else "right")
    shown = decision.shown[:_MOST_TILES]
    for number, place in enumerate(shown):
        matched = question.identifies and place in decision.matches
        score = [] if decision.scores is None else [f"{decision.scores[place]:.4f}"]
        words = (str(number + 1), str(place), escape(gallery.labels[place]), *score, "match" if matched else "")
        table.add_row(*words, style="bold green" if matched else "")
    if shown:
        out.print(table)
    if len(decision.shown) > len(shown):
        out.print(f"... and {len(decision.shown) - len(shown)} more: --json has them all")
    colour = {True: "[bold green]", False: "[bold red]", None: "[bold]"}[report["match"]]
    out.print(f"{colour}{escape(decision.text)}[/]", soft_wrap=True)
    out.print(report["learnt"])
    if "template" in report["seconds"]:
        out.print(f"template, by the probe's owner: {duration(report['seconds']['template'])}")
    if report.get("agrees_with_plain") is not None:
        clear = ", ".join(map(str, report["plain_places"])) or "none"
        same = "the same" if report["agrees_with_plain"] else f"[yellow]another: place {clear}[/yellow]"
        out.print(f"in the clear the decision is {same}")
    show_cost(report)


def draw(
    original: Array, name: str, gallery: Gallery, question: Question, decision: Decision, on: Executor
) -> NDArray[np.uint8]:
    """The match sheet."""
    known = decision.scores
    shown = decision.shown[:_MOST_TILES]

    def tile(number: int, place: int) -> Tile:
        detail = f"place {place}" if known is None else f"{known[place]:.3f}   place {place}"
        title = gallery.labels[place] if question.identifies else f"{number}. {gallery.labels[place]}"
        small = None if gallery.thumbnails is None else gallery.thumbnails[place]
        return Tile(small, title, detail, question.identifies and place in decision.matches)

    how = {
        Executor.PLAIN: "in the clear",
        Executor.CKKS: "on ciphertexts; the probe's owner has decrypted all scores",
        Executor.SHARES: f"on shares; {_NOTHING_BUT[question.reveal]}",
    }[on]
    limit = "" if question.threshold is None else f", threshold {question.threshold:g}"
    more = "" if len(shown) == len(decision.shown) else f"; the first {len(shown)} are shown"
    detail = f"{len(gallery.labels)} templates, {gallery.metric}{limit}, {how}{more}"
    tiles = [tile(number, place) for number, place in enumerate(shown, 1)]
    found = bool(decision.matches) if question.identifies else None
    return match_sheet(Tile(original, name, "probe"), tiles, decision.text, detail, found=found)
