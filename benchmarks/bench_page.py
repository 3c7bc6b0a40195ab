"""The report as one HTML file that fetches nothing: rendered from the JSON alone, figures only as texts that it holds."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Final

from .bench_plots import error_chart, layer_chart, network_chart, overhead_chart
from .bench_results import Report, Row, Shown, Subject, Table
from .bench_style import STYLE

__all__ = ["page_of"]

_OPEN: Final = ("total", "networks", "peers", "failures")
_FIGURE: Final = re.compile(r"^[\d.,+–\- ]+(e[-+]\d+)?\s*(x|s|ms|µs|B|kB|MB|GB)?( – .*)?$")


def page_of(report: Report) -> str:
    """Return the page.

    Raises
    ------
    ValueError
        If the report has no texts: it was not finished.
    """
    shown = report.shown
    if shown is None:
        raise ValueError("the report holds no texts to show: make them with bench_texts.shown_of")
    parts = [
        _head(shown),
        _summary(report, shown),
        *(_group(shown, name, _chart(report, shown, name)) for name in _OPEN[1:]),
        *(_subject(report, shown, subject) for subject in report.subjects),
        _environment(shown),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{_text(shown.title)}</title><style>{STYLE}</style></head><body><main>"
        + "".join(filter(None, parts))
        + "<footer>This page holds the pictures that were measured. Every figure on it is in the JSON file beside it."
        "</footer></main></body></html>\n"
    )


def _head(shown: Shown) -> str:
    return (
        f"<header><p class=kicker>secureimg bench</p><h1>{_text(shown.title)}</h1>"
        f"<p class=sub>{_text(shown.subtitle)}</p></header>"
    )


def _summary(report: Report, shown: Shown) -> str:
    sentences = "".join(f"<li>{_text(line)}</li>" for line in shown.summary)
    chart = _figure(overhead_chart(report), shown.captions["overhead"])
    charts = f"<div class=charts>{chart}</div>" if chart else ""
    tables = "".join(_table(table) for table in shown.tables if table.group == "total")
    return f"<section><h2>In short</h2><ul>{sentences}</ul>{charts}{tables}</section>"


def _chart(report: Report, shown: Shown, name: str) -> str:
    if name != "networks":
        return ""
    chart = _figure(network_chart(report), shown.captions["networks"])
    return f"<div class=charts>{chart}</div>" if chart else ""


def _group(shown: Shown, name: str, chart: str) -> str:
    found = [table for table in shown.tables if table.group == name]
    if not found:
        return ""
    body = "".join(_table(table, headed=False) for table in found)
    return f"<section><h2>{_text(found[0].title)}</h2>{chart}{body}</section>"


def _subject(report: Report, shown: Shown, subject: Subject) -> str:
    name = subject.name
    rows = [row for row in report.rows if row.subject == name and row.network == "loopback"]
    hidden = [row for row in rows if row.executor != "plain"]
    charts = [_figure(layer_chart(row), "") for row in hidden if row.layers]
    charts.append(_figure(error_chart(hidden), shown.captions["errors"]))
    layers = f"<p class=note>{_text(shown.captions['layers'])}</p>" if any(row.layers for row in hidden) else ""
    tables = "".join(
        f"<details><summary>{_text(table.title)}</summary>{_table(table, headed=False)}</details>"
        for table in shown.tables
        if table.group == f"subject:{name}" and table.rows
    )
    return (
        f"<section><h2>{_text(name)}</h2><p class=note>{_text(shown.subjects[name])}</p>{_samples(shown, subject)}"
        f"{_views(shown, name, hidden)}{layers}<div class=charts>{''.join(charts)}</div>{tables}</section>"
    )


def _samples(shown: Shown, subject: Subject) -> str:
    tiles = [
        _tile(picture.png, "<br>".join(_text(line) for line in lines))
        for picture, lines in zip(subject.pictures, shown.answers[subject.name], strict=True)
    ]
    return f"<h3>Pictures and answers</h3><div class=tiles>{''.join(tiles)}</div>" if tiles else ""


def _views(shown: Shown, name: str, rows: Sequence[Row]) -> str:
    images = [each.png for row in rows for each in row.seen]
    tiles = [_tile(png, _text(words)) for png, words in zip(images, shown.seen[name], strict=True)]
    if not tiles:
        return ""
    return f"<h3>What each party saw of the first picture</h3><div class=tiles>{''.join(tiles)}</div>"


def _environment(shown: Shown) -> str:
    how = "".join(f"<li>{_text(line)}</li>" for line in shown.how)
    rows = "".join(f"<dt>{_text(name)}</dt><dd>{_text(text)}</dd>" for name, text in shown.environment)
    return f"<section><h2>How to read this, and what it ran on</h2><ul>{how}</ul><dl>{rows}</dl></section>"


def _table(table: Table, *, headed: bool = True) -> str:
    if not table.rows:
        return ""
    columns = list(zip(*table.rows, strict=True))
    kinds = [_kind(column) for column in columns]
    head = "".join(f"<th class={kind}>{_text(title)}</th>" for kind, title in zip(kinds, table.columns, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td class={kind}>{_text(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in table.rows
    )
    title = f"<h3>{_text(table.title)}</h3>" if headed else ""
    note = f"<p class=note>{_text(table.note)}</p>" if table.note else ""
    return f"{title}{note}<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _kind(cells: Sequence[str]) -> str:
    """Figures stand on the right, long texts get room."""
    told = [cell for cell in cells if cell]
    if told and all(_FIGURE.match(cell) for cell in told):
        return "n"
    return "w" if any(len(cell) > 40 for cell in told) else "t"


def _figure(svg: str, caption: str) -> str:
    if not svg:
        return ""
    said = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
    return f"<figure>{svg}{said}</figure>"


def _tile(png: str, caption: str) -> str:
    return f'<figure><img src="{html.escape(png)}" alt=""><figcaption>{caption}</figcaption></figure>'


def _text(text: str) -> str:
    return html.escape(text, quote=True)
