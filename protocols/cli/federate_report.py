"""The example as one page: curves, who has what, each round, and pictures read back from updates."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protocols.cli.console import amount, duration
from protocols.cli.federate_checks import Inversion

__all__ = ["write_report"]

Pictures = NDArray[np.float64]

_COLOURS = {"central": "#8a8a8a", "plain updates": "#c2410c", "secure": "#3b6fb6"}
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 260, 46, 28
_SCALE = 3  # of a pixel of a picture
_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:62rem;padding:1.5rem 1rem}
h1{font-size:1.6rem;margin:.2em 0}h2{font-size:1.2rem;margin:2em 0 .5em}
p{max-width:44rem}.key{display:flex;flex-wrap:wrap;gap:1rem;margin:.8rem 0}
.key div{border:1px solid #8886;border-radius:.5rem;padding:.5rem .9rem;flex:1 1 8rem;max-width:12rem}
.key b{display:block;font-size:1.4rem}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #8884;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
svg{width:40rem;max-width:none;height:auto;display:block}svg text{fill:currentColor;font:12px system-ui,sans-serif}
figure{margin:1rem 0}figcaption{margin-bottom:.3rem}img{image-rendering:pixelated;max-width:100%;height:auto}
"""


def write_report(result: dict[str, Any], originals: Pictures, attacks: Sequence[Inversion]) -> bytes:
    """One self-contained HTML page.

    Parameters
    ----------
    result : dict
        What the command prints with --json.
    originals : (K, H, W) in [0, 1]
        Pictures of the owner whose update is attacked.
    attacks : sequence of Inversion
    """
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>Training across owners: {_text(result['data'])}</title><style>{_STYLE}</style>",
        f"<h1>Training across {result['owners']} owners</h1>",
        _introduction(result),
        '<div class="key">',
        *(_fact(f"{value:.1%}", _LABELS[name]) for name, value in result["accuracy"].items()),
        _fact("none" if result["epsilon"] is None else f"{result['epsilon']:.3g}", "epsilon"),
        _fact("equal" if result["served"]["equal"] else "differ", "labels on ciphertexts and shares"),
        "</div><h2>Accuracy on held-out pictures</h2>", _curves(result["curves"]),
        "<h2>What the owners have</h2>", _holdings(result["labels_of_owners"]),
        "<h2>Rounds</h2>", _rounds(result),
        "<h2>Pictures read back from updates</h2>", _INVERSION_WORDS,
        _figure("the owner's pictures", "", originals),
        *(_figure(attack.name, _attack_words(attack), attack.candidates) for attack in attacks),
    ]  # fmt: skip
    return "\n".join(parts).encode()


_LABELS = {"central": "all pictures in one place", "plain updates": "plain updates", "secure": "secure aggregation"}
_INVERSION_WORDS = """<p>One step of training on eight pictures, with a network whose first layer is dense: whoever sees one
owner's update reads its pictures back. From the sum over owners only mixtures come back, <em>if</em> there are more
pictures in it than the layer has outputs (64): a sum over few owners with a picture each is taken apart as well. Then only
noise helps. For each picture the nearest of all candidates is shown, chosen with the originals in hand: a bound on what
the attack gives, not what an attacker would know to pick. The last row is the example's own network, which starts with a
convolution.</p>"""


def _text(value: object) -> str:
    return html.escape(str(value))


def _introduction(result: dict[str, Any]) -> str:
    terms = result["terms"]
    return (
        f"<p>{_text(result['data'])}; {result['parameters']:,} parameters. Each owner clips its update to norm "
        f"{terms['clip']:g} and splits it into two shares, one for each of two parties. The parties check the norm on "
        f"shares and open the sum of at least {terms['least']} owners, and nothing else.{_noise_words(result)}</p>"
    )


def _noise_words(result: dict[str, Any]) -> str:
    if not result["terms"]["noise"]:
        return " No noise: the sum itself is exact, and what it tells about an owner is not bounded."
    return (
        f" Each party adds noise of multiplier {result['terms']['noise']:g}: epsilon {result['epsilon']:.3g} at delta "
        f"{result['delta']:g} for all pictures of an owner together."
        if result["epsilon"] is not None
        else " No round was opened."
    )


def _fact(value: str, words: str) -> str:
    return f"<div><b>{_text(value)}</b>{_text(words)}</div>"


def _curves(curves: dict[str, list[float]]) -> str:
    lowest = min(min(values) for values in curves.values())
    low = max(0.0, np.floor(lowest * 20) / 20)
    count = max(len(values) for values in curves.values())

    def place(number: int, value: float) -> str:
        x = _LEFT + (_WIDTH - _LEFT - 10) * (number / max(count - 1, 1))
        y = 10 + (_HEIGHT - _BOTTOM - 10) * (1 - (value - low) / (1 - low or 1))
        return f"{x:.1f},{y:.1f}"

    drawn = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 24}" role="img" aria-label="accuracy over rounds">']
    for step in range(5):
        value = low + (1 - low) * step / 4
        left, right = place(0, value).split(","), place(count - 1, value).split(",")
        drawn.append(
            f'<line x1="{left[0]}" y1="{left[1]}" x2="{right[0]}" y2="{right[1]}" stroke="currentColor" opacity=".15"/>'
            f'<text x="{_LEFT - 6}" y="{float(left[1]) + 4:.1f}" text-anchor="end">{value:.1%}</text>'
        )
    drawn += [
        f'<text x="{place(number, low).split(",")[0]}" y="{_HEIGHT - 10}" text-anchor="middle">{number + 1}</text>'
        for number in sorted({0, count // 2, count - 1})
    ]
    for index, (name, values) in enumerate(curves.items()):
        points = " ".join(place(number, value) for number, value in enumerate(values))
        wide, dash = (5, "") if name == "plain updates" else (2, ' stroke-dasharray="6 3"' if name == "central" else "")
        drawn.append(
            f'<polyline points="{points}" fill="none" stroke="{_COLOURS[name]}" stroke-width="{wide}"{dash} '
            f'opacity="{0.4 if wide > 2 else 1}"/><rect x="{_LEFT + index * 190}" y="{_HEIGHT + 8}" width="14" height="4" '
            f'fill="{_COLOURS[name]}"/><text x="{_LEFT + 20 + index * 190}" y="{_HEIGHT + 15}">{_LABELS[name]}</text>'
        )
    return f'<div class="scroll">{"".join(drawn)}</svg></div>'


def _holdings(counts: list[list[int]]) -> str:
    """A bar an owner, a shade a class."""
    most, classes = max(sum(row) for row in counts), len(counts[0])
    drawn = [
        f'<svg viewBox="0 0 {_WIDTH} {22 * len(counts) + 4}" role="img" aria-label="pictures of each owner by class">'
    ]
    for number, row in enumerate(counts):
        x = 90.0
        drawn.append(f'<text x="84" y="{22 * number + 15}" text-anchor="end">hospital {number + 1}</text>')
        for label, count in enumerate(row):
            width = (_WIDTH - 150) * count / most
            light = 35 + 45 * label / max(classes - 1, 1)
            drawn.append(
                f'<rect x="{x:.1f}" y="{22 * number + 3}" width="{width:.1f}" height="16" fill="hsl(212 50% {light:.0f}%)">'
                f"<title>class {label}: {count}</title></rect>"
            )
            x += width
        drawn.append(f'<text x="{x + 6:.1f}" y="{22 * number + 15}">{sum(row)}</text>')
    return f'<div class="scroll">{"".join(drawn)}</svg></div>'


def _rounds(result: dict[str, Any]) -> str:
    titles = ("round", "accuracy", "owners", "left out", "epsilon", "owners to parties", "between parties", "took")
    rows = [
        (
            row["number"] + 1, f"{row['accuracy']:.2%}", row["owners"], len(row["left_out"]),
            "" if row["epsilon"] is None else f"{row['epsilon']:.3g}", amount(row["up"]), amount(row["between"]),
            duration(row["seconds"]),
        )
        for row in result["rounds"]
    ]  # fmt: skip
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{_text(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _attack_words(attack: Inversion) -> str:
    pictures = "1 picture" if attack.pictures == 1 else f"{attack.pictures} pictures"
    return f"{pictures} in it; median PSNR {attack.psnr:.1f} dB, SSIM {attack.ssim:.2f}"


def _figure(name: str, words: str, pictures: Pictures) -> str:
    caption = f"<b>{_text(name)}</b>" + (f": {_text(words)}" if words else "")
    return (
        f'<figure><figcaption>{caption}</figcaption><img alt="{_text(name)}" src="data:image/png;base64,{_strip(pictures)}">'
        "</figure>"
    )


def _strip(pictures: Pictures) -> str:
    """Pictures in a row, with gaps, enlarged; as base64 of a PNG."""
    count, height, width = pictures.shape
    row = np.full((height, count * (width + 2) - 2), 255, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        row[:, number * (width + 2) : number * (width + 2) + width] = np.round(np.clip(picture, 0, 1) * 255)
    stream = io.BytesIO()
    Image.fromarray(row.repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)).save(stream, format="PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()
