"""The page of `secureimg publish`: before, after, guarantee, attack, in one file that fetches nothing."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import metadata
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocols.cli.publish_plots import curve_plot, picture_uri, trade_plot, values_plot
from protocols.cli.publish_style import STYLE
from protocols.cli.publish_telling import (
    Published,
    attack_words,
    notes,
    promise_rows,
    restored_words,
    setting_words,
    similarity_words,
)
from protocols.cli.publish_trials import Step

__all__ = ["page_of"]

Array = NDArray[np.float64]

_MOST: Final = 12  # pictures on a page
_TILE: Final = 220
_SMALL: Final = 400  # a picture below this is enlarged with its pixels seen


def page_of(found: Published) -> str:
    """Return the page. It holds the original pictures: it is for their owner."""
    title = f"{found.sources[0].name}, {setting_words(found)}"
    parts = [_head(found), _pictures(found), _promise(found), _attack(found), _strengths(found), _restoration(found)]
    version = metadata.version("secureimg")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{_text(title)}</title><style>{STYLE}</style></head><body><main>"
        + "".join(filter(None, parts))
        + f"<footer>secureimg {_text(version)}. This page holds the original: it is for its owner, not for publishing."
        "</footer></main></body></html>\n"
    )


def _head(found: Published) -> str:
    guarantee = found.releases[0].guarantee
    kind = {
        "none": "no guarantee", "differential privacy": f"differential privacy, epsilon {guarantee.epsilon or 0:g}",
        "metric privacy": f"metric privacy, epsilon {guarantee.epsilon or 0:g} per unit of distance",
        "encryption": "encryption of a part",
    }[guarantee.kind]  # fmt: skip
    more = f" and {len(found.sources) - 1} more" if len(found.sources) > 1 else ""
    beaten = found.trial is not None and found.trial.result.beats_chance
    tone = "bad" if guarantee.kind == "none" else "plain" if beaten or guarantee.kind == "metric privacy" else "good"
    return (
        f"<header><p class=kicker>published with {_text(found.method.name)}</p><h1>{_text(found.sources[0].name)}{more}</h1>"
        f"<p class=settings>{_text(setting_words(found))}</p><p class='badge {tone}'>{_text(kind)}</p></header>"
    )


def _pictures(found: Published) -> str:
    rows = []
    for source, release, similarity in list(zip(found.sources, found.releases, found.similarities, strict=True))[
        :_MOST
    ]:
        tiles = [_tile(source.image, "before")]
        if release.image is not None:
            after = "after" if similarity is None else f"after: {similarity_words(similarity)}"
            tiles.append(_tile(release.image, after))
            if release.image.shape == source.image.shape:
                tiles.append(_tile((release.image - source.image + 1) / 2, "difference (grey: none)"))
        elif release.values is not None and release.exact is not None:
            tiles.append(f"<figure class=plot>{values_plot(release.values, release.exact)}"
                         f"<figcaption>{release.values.size:,} published values</figcaption></figure>")  # fmt: skip
        name = f"<h3>{_text(source.name)}</h3>" if len(found.sources) > 1 else ""
        rows.append(f"{name}<div class=row>{''.join(tiles)}</div>")
    more = len(found.sources) - _MOST
    rest = f"<p class=note>… and {more} more pictures.</p>" if more > 0 else ""
    return f"<section><h2>Before and after</h2>{''.join(rows)}{rest}</section>"


def _promise(found: Published) -> str:
    rows = "".join(f"<dt>{_text(head)}</dt><dd>{_text(text)}</dd>" for head, text in promise_rows(found))
    return f"<section><h2>What it promises</h2><dl>{rows}</dl></section>"


def _attack(found: Published) -> str:
    trial = found.trial
    if trial is None:
        return (
            "<section><h2>Attack</h2><p>No attack was run on this page: how well people are recognised depends on who may "
            "be shown, and no pictures of them were given. <code>--attack FOLDER</code>, with a folder of pictures for each "
            "person, trains a classifier on published pictures and asks it about others.</p></section>"
        )
    result = trial.result
    bars = "".join(
        f"<div class=bar><span class=name>{name}</span><span class=track>"
        f"<span class='fill {tone}' style='width:{100 * part:.2f}%'></span></span><span class=number>{part:.1%}</span></div>"
        for name, part, tone in (
            ("recognised", result.top1, "attack"), ("among first five", result.top5, "attack soft"),
            ("by chance", result.chance, "chance"), ("unprotected", trial.clear.top1, "clear"),
        )
    )  # fmt: skip
    likeness = ""
    if result.similarity is not None:
        words = f"Published beside original pictures of the album, mean: {similarity_words(result.similarity)}."
        likeness = f"<p class=note>{_text(words)}</p>"
    lines = "".join(f"<p class=note>{_text(line)}</p>" for line in notes(found))
    return (
        f"<section><h2>Attack: who is it?</h2><p>{_text(attack_words(trial))}</p><div class=bars>{bars}</div>"
        f"{likeness}{lines}</section>"
    )


def _strengths(found: Published) -> str:
    steps = found.steps if found.trial is None else found.trial.steps
    if all(step.attack is None and step.similarity is None for step in steps):
        return ""
    title = "At which strength it stops working" if found.trial is not None else "What each strength leaves"
    groups = [list(group) for _, group in groupby(steps, key=lambda step: step.method)]
    plots = [f"<figure class=plot>{curve_plot(groups[0])}</figure>"]
    if len(groups) > 1:
        plots.append(f"<figure class=plot>{trade_plot(groups)}</figure>")
    words = "".join(f"<p>{_text(_where_it_stops(group))}</p>" for group in groups if group[0].attack is not None)
    what = "a picture of the album" if found.trial is not None else "your picture's middle"
    original = [] if found.trial is None else [_tile(found.trial.original, "as it is", "small")]
    grids = "".join(
        f"<h3>{_text(group[0].method)}: {what} at each {_text(group[0].parameter)}</h3>"
        f"<div class=grid>{''.join([*original, *(_step(step) for step in group if step.picture is not None)])}</div>"
        for group in groups
        if any(step.picture is not None for step in group)
    )
    drawn = f"<div class=plots>{''.join(plots)}</div>"
    return f"<section><h2>{title}</h2>{words}{drawn}{grids}</section>"


def _where_it_stops(group: Sequence[Step]) -> str:
    beaten = [place for place, step in enumerate(group) if step.attack is not None and step.attack.beats_chance]
    name, parameter = group[0].method, group[0].parameter
    if not beaten:
        return f"{name}: the attack beats chance at no strength that was tried."
    last = group[beaten[-1]]
    assert last.attack is not None
    if beaten[-1] == len(group) - 1:
        return (
            f"{name}: at every strength that was tried, up to {parameter} {last.strength:g}, the attack beats chance: it "
            f"still recognises {last.attack.top1:.0%} there."
        )
    free = group[beaten[-1] + 1]
    likeness = "" if free.similarity is None else f", where SSIM is {free.similarity.ssim:.2f}"
    return (
        f"{name}: the attack beats chance up to {parameter} {last.strength:g} ({last.attack.top1:.0%} recognised). From "
        f"{parameter} {free.strength:g} on this attack does not{likeness}."
    )


def _step(step: Step) -> str:
    assert step.picture is not None
    words = f"{step.parameter} {step.strength:g}"
    if step.attack is not None:
        words += f": {step.attack.top1:.0%}"
    elif step.similarity is not None:
        words += f": SSIM {step.similarity.ssim:.2f}"
    return _tile(step.picture, words, "small")


def _restoration(found: Published) -> str:
    if found.restored is None:
        return ""
    result, blurred, _ = found.restored
    tiles = _tile(blurred, "published, the middle") + _tile(result.image, f"restored: {result.gain:+.1f} dB")
    tried = ", ".join(f"{name} {gain:+.1f} dB" for name, gain in result.tried)
    return (
        f"<section><h2>Attack: undo the blur</h2><p>{_text(restored_words(found))}</p><div class=row>{tiles}</div>"
        f"<p class=note>Best of each filter: {_text(tried)}.</p></section>"
    )


def _tile(image: Array, words: str, kind: str = "") -> str:
    longest = _TILE if kind else 720
    crisp = "crisp" if max(image.shape[:2]) < _SMALL else ""
    return (
        f"<figure class='{kind}'><img class='{crisp}' alt='{_text(words)}' src='{picture_uri(image, longest)}'>"
        f"<figcaption>{_text(words)}</figcaption></figure>"
    )


def _text(words: str) -> str:
    return html.escape(words, quote=True)
