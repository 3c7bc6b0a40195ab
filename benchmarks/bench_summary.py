"""The report in a few sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .bench_results import Report, Row
from .report import format_bytes, format_ratio, format_seconds

__all__ = ["spread_of", "summary_of"]

_ON: Final = {"ckks": "on CKKS ciphertexts", "shares": "on shares"}


def summary_of(report: Report) -> tuple[str, ...]:
    """Return the sentences: a paragraph a model, then networks, peers, noise."""
    found = [" ".join(_subject(report, subject.name)) for subject in report.subjects]
    found += _networks(report)
    found += _peers(report)
    found += _noise(report)
    return tuple(filter(None, found))


def spread_of(row: Row) -> float:
    """Most over least of a row's totals."""
    return row.total.max / row.total.min if row.total.min > 0 else 1.0


def _subject(report: Report, name: str) -> Iterator[str]:
    rows = {row.executor: row for row in report.rows if row.subject == name and row.network == "loopback"}
    plain = rows.pop("plain", None)
    if not rows:
        return
    parts = []
    for executor, row in rows.items():
        ratio = f" ({format_ratio(row.overhead)} the plain time)" if row.overhead is not None else ""
        parts.append(f"{format_seconds(row.total.median)} {_ON[executor]}{ratio}")
    clear = f"; in the clear {format_seconds(plain.total.median)}" if plain is not None else ""
    yield f"{name}: a picture takes {' and '.join(parts)}{clear}."
    for executor, row in rows.items():
        yield from _facts(executor, row)


def _facts(executor: str, row: Row) -> Iterator[str]:
    once = sum(link.bytes for link in row.links if link.when == "once")
    each = sum(link.bytes for link in row.links if link.when != "once")
    what = "evaluation keys" if executor == "ckks" else "masked weights"
    before = f" after {format_bytes(once)} of {what} once" if once >= 1000 else ""
    errors = row.errors
    exact = ""
    if errors is not None and errors.relative is not None:
        exact = f" Its answers are within {errors.relative:.1g} of the largest output"
        if errors.labels_total:
            exact += f", and {errors.labels_equal} of {errors.labels_total} labels are the plain model's"
        exact += "."
    name = {"ckks": "CKKS", "shares": "Shares"}[executor]
    yield f"{name}: {format_bytes(each)} a picture{before}.{exact}"


def _networks(report: Report) -> Iterator[str]:
    rows = [row for row in report.rows if row.predicted is not None]
    if rows:
        ratios = [row.total.median / row.predicted for row in rows if row.predicted]
        worst = max(ratios, key=lambda ratio: max(ratio, 1 / ratio))
        slow = max(rows, key=lambda row: row.total.median)
        yield (
            f"Over slower networks a picture takes up to {format_seconds(slow.total.median)} ({slow.title}). Predictions "
            f"from rounds and bytes are off by at most a factor of {max(worst, 1 / worst):.2f}."
        )


def _peers(report: Report) -> Iterator[str]:
    for row in report.peers:
        if row.ratio is not None and row.seconds is not None:
            yield (
                f"{row.peer} takes {format_seconds(row.seconds.median)} for {row.subject}, {format_ratio(row.ratio)} the "
                "time that ours takes in the same run."
            )


def _noise(report: Report) -> Iterator[str]:
    rows = [row for row in report.rows if row.total.count > 1]
    if rows:
        widest = max(rows, key=spread_of)
        yield (
            f"Noise: the slowest run of a row took up to {spread_of(widest):.2f} times the fastest ({widest.title}). "
            "Smaller differences than that say nothing."
        )
