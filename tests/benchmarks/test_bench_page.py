"""The page says nothing that the JSON file does not hold, fetches nothing, and is safe to open."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from rich.console import Console

from benchmarks.bench_page import page_of
from benchmarks.bench_results import Report, load_report, report_bytes
from benchmarks.bench_tables import show_report
from benchmarks.bench_texts import shown_of

NUMBER = re.compile(r"\d(?:[\d.,]*\d)?(?:e[-+]?\d+)?")


class Visible(HTMLParser):
    """Texts that people see, and everything that a browser might fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.fetched: list[str] = []
        self.tags: set[str] = set()
        self._hidden = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._hidden += tag in ("style", "script", "metadata")
        names = ("src", "href", "xlink:href", "data", "action", "poster", "srcset")
        self.fetched += [value or "" for name, value in attrs if name in names]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "script", "metadata")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.texts.append(data)


def numbers_of_page(page: str) -> set[str]:
    return {number for text in Visible(page).texts for number in NUMBER.findall(text)}


def numbers_of_json(data: bytes) -> set[str]:
    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for key, item in value.items() for text in (str(key), *texts(item))]
        if isinstance(value, list):
            return [text for item in value for text in texts(item)]
        return [str(value)]

    return {number for text in texts(msgspec.json.decode(data)) for number in NUMBER.findall(text)}


@pytest.fixture
def written(made_report: Report, tmp_path) -> tuple[bytes, str]:
    path = tmp_path / "bench.json"
    path.write_bytes(report_bytes(msgspec.structs.replace(made_report, shown=shown_of(made_report))))
    return path.read_bytes(), page_of(load_report(path))


def test_every_number_on_the_page_is_in_the_json(written):
    data, page = written
    found = numbers_of_page(page)
    assert len(found) > 60
    assert found <= numbers_of_json(data)


def test_a_number_that_is_not_in_the_json_is_noticed(written):
    data, page = written
    assert numbers_of_page(page.replace("</main>", "<p>2.7182 s</p></main>")) - numbers_of_json(data) == {"2.7182"}


def test_the_page_fetches_nothing_and_runs_nothing(written):
    seen = Visible(written[1])
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in seen.fetched)
    assert "url(http" not in written[1]
    assert not seen.tags & {"script", "link", "iframe", "object", "embed"}
    assert "default-src 'none'" in written[1]


def test_charts_hold_their_texts_as_paths(written):
    seen = Visible(written[1])
    assert "svg" in seen.tags
    assert "text" not in seen.tags


def test_names_from_a_model_cannot_become_markup(written):
    assert "<other>" not in written[1]
    assert "&lt;other&gt;" in written[1]


def test_figures_are_kept_with_the_place_of_the_value_that_they_stand_for(made_report):
    shown = shown_of(made_report)
    plain = msgspec.to_builtins(made_report)
    assert shown.figures["rows.1.total.median"] == "133.0 ms"
    for place in shown.figures:
        value: Any = plain
        for word in place.split("/")[0].split("."):
            value = value[int(word)] if isinstance(value, list | tuple) else value[word]


def test_what_could_not_be_measured_and_a_peer_that_failed_are_said(written):
    texts = " ".join(Visible(written[1]).texts)
    assert "2 layers are not polynomials" in texts
    assert "no module named spu" in texts


def test_prediction_stands_beside_what_was_measured(written):
    [table] = [table for table in msgspec.json.decode(written[0])["shown"]["tables"] if table["group"] == "networks"]
    row = dict(zip(table["columns"], table["rows"][0], strict=True))
    assert (row["measured"], row["predicted"], row["measured / predicted"]) == ("2.04 s", "1.96 s", "1.04")


def test_a_report_without_texts_makes_no_page(made_report):
    with pytest.raises(ValueError, match="shown_of"):
        page_of(made_report)


def test_equal_reports_give_equal_pages(written, tmp_path):
    again = tmp_path / "again.json"
    again.write_bytes(written[0])
    assert page_of(load_report(again)) == written[1]


def test_the_terminal_shows_the_summary_and_every_model(made_report):
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    show_report(msgspec.structs.replace(made_report, shown=shown_of(made_report)), console)
    text = console.export_text()
    assert all(subject.name in text for subject in made_report.subjects)
    assert "4,290x" in text
