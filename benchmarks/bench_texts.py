"""Every text of a report that holds a figure, made once: the terminal and the page show these and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from .bench_prediction import FORMULA
from .bench_results import Report, Row, Shown, Table
from .bench_summary import summary_of
from .report import format_bytes, format_ratio, format_seconds, machine_words
from .results import Spread

__all__ = ["shown_of"]

_NAMES: Final = {"plain": "plain", "ckks": "CKKS", "shares": "shares"}
_MOST_LAYERS: Final = 200
_MEASURED: Final = (
    "Measured: every time and size, if it is not called predicted. A figure is the median of {runs} runs after one that "
    "does not count; the least and the most stand beside it. A change smaller than that spread is noise."
)
_CLEAR: Final = (
    "Plain is the same model in float64 with numpy. Owner, server, parties and dealer are processes of their own and talk "
    "over TLS, so bytes and memory are those of real roles."
)


class _Figures:
    """Texts by the place of the value that they stand for."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def text(self, place: str, text: str) -> str:
        self.found[place] = text
        return text

    def seconds(self, place: str, value: float | None) -> str:
        return "" if value is None else self.text(place, format_seconds(value))

    def bytes(self, place: str, value: float | None) -> str:
        return "" if value is None else self.text(place, format_bytes(value) if value >= 1000 else f"{value:.0f} B")

    def ratio(self, place: str, value: float | None) -> str:
        return "" if value is None else self.text(place, format_ratio(value))

    def number(self, place: str, value: float | None, spec: str = ",") -> str:
        return "" if value is None else self.text(place, f"{value:{spec}}")

    def ends(self, place: str, spread: Spread) -> str:
        least, most = self.seconds(f"{place}.min", spread.min), self.seconds(f"{place}.max", spread.max)
        unit = most.rpartition(" ")[2]
        return f"{least.removesuffix(f' {unit}')} – {most}"


def shown_of(report: Report) -> Shown:
    """Return the texts of a report."""
    figures = _Figures()
    names = ", ".join(subject.name for subject in report.subjects)
    tables = [
        _totals(report, figures), *_networks(report, figures), *_peers(report, figures), *_failures(report),
        *(table for subject in report.subjects for table in _subject(report, subject.name, figures)),
    ]  # fmt: skip
    cores = f", of which {report.settings['cores']} used" if "cores" in report.settings else ""
    return Shown(
        title="What encryption costs",
        subtitle=f"{names}. Measured {report.made} in {format_seconds(report.seconds)}.",
        summary=summary_of(report),
        how=_how(report),
        environment=(
            ("Machine", machine_words(report.machine, cores)),
            ("Software", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
            ("Command", report.command),
            (
                "Settings",
                "; ".join(f"{name}: {_plain(report.settings[name])}" for name in report.settings if name != "trust"),
            ),
        ),
        subjects={subject.name: _about(report, place) for place, subject in enumerate(report.subjects)},
        answers={subject.name: _answers(report, place) for place, subject in enumerate(report.subjects)},
        seen={
            subject.name: tuple(
                f"{each.who}: {each.what}, {figures.bytes(f'rows.{place}.seen.{number}.bytes', each.bytes)}"
                for place, row in _rows(report, subject.name)
                if row.network == "loopback"
                for number, each in enumerate(row.seen)
            )
            for subject in report.subjects
        },
        tables=tuple(tables),
        captions={
            "overhead": "Times over the plain model's, for one picture on loopback. Logarithmic: lower is better.",
            "layers": "Where the time goes, layer after layer: all roles in one process, without a network, median.",
            "errors": "Distance of every output from the plain model's, over its largest output.",
            "networks": "A picture over each network: bars are measured, marks predicted from the loopback run.",
        },
        figures=figures.found,
    )


def _rows(report: Report, subject: str) -> Iterator[tuple[int, Row]]:
    return ((place, row) for place, row in enumerate(report.rows) if row.subject == subject)


def _totals(report: Report, figures: _Figures) -> Table:
    lines = []
    for place, row in enumerate(report.rows):
        if row.network != "loopback":
            continue
        at, errors = f"rows.{place}", row.errors
        online = [link.bytes for link in row.links if link.when != "once"]
        labels = f"{errors.labels_equal} of {errors.labels_total}" if errors and errors.labels_total else ""
        lines.append((
            row.subject, _NAMES[row.executor], figures.seconds(f"{at}.total.median", row.total.median),
            figures.ends(f"{at}.total", row.total), figures.ratio(f"{at}.overhead", row.overhead),
            figures.bytes(f"{at}.links", sum(online)) if online else "",
            figures.bytes(f"{at}.links.0.bytes", row.links[0].bytes) if row.links else "",
            figures.number(f"{at}.rounds", row.rounds),
            figures.number(f"{at}.errors.relative", errors.relative if errors else None, ".1e"), labels,
        ))  # fmt: skip
    columns = ("model", "on", "a picture", "least – most", "over plain", "bytes", "bytes once", "rounds", "error",
               "same label")  # fmt: skip
    note = (
        "Median, from the picture to the answer, all processes on this machine over TLS. Bytes once: evaluation keys of an "
        "owner, masked weights of a model. Error: the largest, over the largest output of the plain model."
    )
    return Table(group="total", title="In total", note=note, columns=columns, rows=tuple(lines))


def _networks(report: Report, figures: _Figures) -> Iterator[Table]:
    lines = []
    for place, row in enumerate(report.rows):
        if row.network == "loopback":
            continue
        ratio = row.total.median / row.predicted if row.predicted else None
        lines.append((
            row.subject, _NAMES[row.executor], row.network.upper(),
            figures.seconds(f"rows.{place}.total.median", row.total.median), figures.ends(f"rows.{place}.total", row.total),
            figures.seconds(f"rows.{place}.predicted", row.predicted),
            "" if ratio is None else figures.text(f"rows.{place}.predicted/total", f"{ratio:.2f}"), row.shaped_by,
        ))  # fmt: skip
    if lines:
        words = "; ".join(str(text) for text in report.settings.get("networks", {}).values())
        columns = (
            "model",
            "on",
            "network",
            "measured",
            "least – most",
            "predicted",
            "measured / predicted",
            "shaped by",
        )
        yield Table(
            group="networks", title="Over a network", note=f"{words}. {FORMULA}", columns=columns, rows=tuple(lines)
        )


def _peers(report: Report, figures: _Figures) -> Iterator[Table]:
    lines = tuple(
        (
            row.subject, row.peer, _NAMES[row.beside],
            figures.seconds(f"peers.{place}.seconds.median", row.seconds.median) if row.seconds else "no figure",
            figures.bytes(f"peers.{place}.bytes", row.bytes), figures.number(f"peers.{place}.rounds", row.rounds),
            figures.number(f"peers.{place}.error", row.error, ".1e"), figures.ratio(f"peers.{place}.ratio", row.ratio),
            row.failure or "",
        )
        for place, row in enumerate(report.peers)
    )  # fmt: skip
    if lines:
        note = (
            "In the same run, on loopback. CKKS and FHE peers: evaluation alone, beside ours. Peers on shares: offline and "
            "online, image and weights shared beforehand, correlations from a trusted first party."
        )
        columns = ("model", "peer", "beside", "a picture", "bytes", "rounds", "error", "peer / ours", "remark")
        yield Table(group="peers", title="Beside other systems", note=note, columns=columns, rows=lines)


def _failures(report: Report) -> Iterator[Table]:
    if report.failures:
        lines = tuple((text,) for text in report.failures)
        yield Table(group="failures", title="What could not be measured", note="", columns=("reason",), rows=lines)


def _subject(report: Report, name: str, figures: _Figures) -> Iterator[Table]:
    here = [(place, row) for place, row in _rows(report, name) if row.network == "loopback"]
    group = f"subject:{name}"
    times, links, memory = [], [], []
    facts: list[tuple[str, str, str]] = []
    for place, row in here:
        on, at = _NAMES[row.executor], f"rows.{place}"
        for phase, seconds in row.once.items():
            times.append((on, f"{phase}, once", figures.seconds(f"{at}.once.{phase}", seconds), "", ""))
        for phase, spread in row.phases.items():
            times.append((
                on, phase, figures.seconds(f"{at}.phases.{phase}.median", spread.median),
                figures.ends(f"{at}.phases.{phase}", spread),
                figures.number(f"{at}.phases.{phase}.count", spread.count),
            ))  # fmt: skip
        for number, link in enumerate(row.links):
            size = figures.bytes(f"{at}.links.{number}.bytes", link.bytes)
            links.append((on, f"{link.source} → {link.sink}", link.when, size))
        memory += [(on, role, figures.bytes(f"{at}.peak_rss.{role}", size)) for role, size in row.peak_rss.items()]
        facts += _facts(row, at, figures)
    yield Table(group=group, title="Time", note="Of one picture, if not once for an owner or model.",
                columns=("on", "step", "median", "least – most", "runs"), rows=tuple(times))  # fmt: skip
    yield Table(
        group=group, title="Bytes on each link", note="", columns=("on", "link", "when", "bytes"), rows=tuple(links)
    )
    yield Table(
        group=group, title="Peak memory of each role", note="", columns=("on", "role", "at most"), rows=tuple(memory)
    )
    yield Table(
        group=group, title="Programs and parameters", note="", columns=("on", "what", "value"), rows=tuple(facts)
    )
    for place, row in here:
        if row.layers:
            yield _layers(row, place, group, figures)


def _facts(row: Row, at: str, figures: _Figures) -> Iterator[tuple[str, str, str]]:
    on = _NAMES[row.executor]
    for name in ("rounds", "levels", "rotations", "galois_keys"):
        value = getattr(row, name)
        if value is not None:
            yield on, name.replace("_", " "), figures.number(f"{at}.{name}", value)
    if row.errors is not None:
        yield on, "largest error", figures.number(f"{at}.errors.largest", row.errors.largest, ".2e")
        if row.errors.bound is not None:
            yield on, "largest error, predicted", figures.number(f"{at}.errors.bound", row.errors.bound, ".2e")
    for name, value in row.parameters.items():
        yield on, name.replace("_", " "), figures.text(f"{at}.parameters.{name}", _plain(value))


def _layers(row: Row, place: int, group: str, figures: _Figures) -> Table:
    lines = []
    for number, layer in enumerate(row.layers[:_MOST_LAYERS]):
        at = f"rows.{place}.layers.{number}"
        cells = [layer.name, layer.kind, figures.seconds(f"{at}.seconds.median", layer.seconds.median)]
        if row.executor == "ckks":
            cells += [figures.seconds(f"{at}.predicted", layer.predicted)]
            cells += [
                figures.number(f"{at}.{name}", getattr(layer, name)) for name in ("primes", "rotations", "products")
            ]
        elif row.executor == "shares":
            cells.append(figures.number(f"{at}.rounds", layer.rounds))
            cells += [figures.bytes(f"{at}.{name}", getattr(layer, name)) for name in ("sent", "dealt")]
        lines.append(tuple(cells))
    more = {"ckks": ("predicted", "primes left", "rotations", "products"), "shares": ("rounds", "online", "dealt")}
    columns = ("layer", "made of", "measured", *more.get(row.executor, ()))
    whole = figures.seconds(f"rows.{place}.layers", sum(layer.seconds.median for layer in row.layers))
    how = {
        "plain": "Least of some calls of each node.",
        "ckks": "On one core; predicted by the compiler's cost model, scaled to this machine.",
        "shares": "Both parties in one process; a step's time ends at party 1 and holds its waiting for party 0.",
    }[row.executor]
    return Table(group=group, title=f"Layers: {_NAMES[row.executor]}", note=f"{how} Together {whole}.", columns=columns,
                 rows=tuple(lines))  # fmt: skip


def _about(report: Report, place: int) -> str:
    subject = report.subjects[place]
    shape = "x".join(map(str, subject.input_shape))
    outputs = "x".join(map(str, subject.output_shape))
    return (
        f"{subject.about}; {shape} in, {outputs} out; {subject.nodes} nodes, {subject.weights:,} weights; "
        f"{subject.images} pictures; graph {subject.digest[:16]}"
    )


def _answers(report: Report, place: int) -> tuple[tuple[str, ...], ...]:
    """For each picture that is shown: its name, then the answer of each executor."""
    subject = report.subjects[place]
    rows = [row for _, row in _rows(report, subject.name) if row.network == "loopback" and row.answers]
    return tuple(
        (picture.name, *(f"{_NAMES[row.executor]}: {row.answers[number]}" for row in rows if number < len(row.answers)))
        for number, picture in enumerate(subject.pictures)
    )


def _how(report: Report) -> tuple[str, ...]:
    counts = sorted({row.total.count for row in report.rows})
    runs = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else ", ".join(map(str, counts))
    lines = [_MEASURED.format(runs=runs), _CLEAR]
    if any(row.executor == "shares" for row in report.rows):
        lines.append(str(report.settings.get("trust", "")))
    return tuple(filter(None, lines))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(_plain(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
