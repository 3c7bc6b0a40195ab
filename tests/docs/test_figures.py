"""Figures in the documentation: written once, with the command that makes them again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.making import catalogue, measured
from secureimg.features import FEATURES

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "generated" not in path.parts)
FIGURE = re.compile(r"(?<![\w.])\d[\d.,]*\s?(?:ns|us|µs|ms|s|min|kB|MB|GB|x|[kM]?B/s|GB/s)(?![\w/])")
SHORT_TIME = re.compile(r"(?<![\w.])\d[\d.,]*\s?(?:ns|us|µs|ms)(?![\w/])")
COMMAND = re.compile(r"(?:python -[mc]|secureimg|python examples/)\s?\S+")


def figures_in_tables(page: str) -> list[str]:
    """Measured figures that stand in a page's tables."""
    return [figure for line in page.splitlines() if line.startswith("|") for figure in FIGURE.findall(line)]


def times_in_prose(page: str) -> list[str]:
    """Times so short that somebody has measured them."""
    return [time for line in page.splitlines() if not line.startswith("|") for time in SHORT_TIME.findall(line)]


def sections(page: str) -> list[str]:
    """Parts of a page from one heading to the next."""
    return re.split(r"^(?=## )", page, flags=re.MULTILINE)


def commands(page: str) -> list[str]:
    """Commands that stand as code in a page."""
    return [
        code
        for code in re.findall(r"`[^`]+`|^ {4}\S.*$|^[.\w/]*(?:python|secureimg) .*$", page, re.MULTILINE)
        if COMMAND.search(code)
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_a_section_with_measured_figures_has_the_command_that_reproduces_them(path: Path) -> None:
    for section in sections(path.read_text()):
        figures = figures_in_tables(section) + times_in_prose(section)
        assert not figures or commands(section), f"{path}, {section.splitlines()[0]}: {figures[:3]} and no command"


def test_a_section_without_a_command_would_be_found() -> None:
    """The rule above can fail."""
    assert figures_in_tables("| ReLU | 56.6 ms | 8.3 MB |") == ["56.6 ms", "8.3 MB"]
    assert times_in_prose("A gate takes 1.5 us a value.") == ["1.5 us"]
    assert not figures_in_tables("| at most 30 days | 2 parties | 128 bits |")
    assert not commands("Measured on our machine.")
    assert commands("Run `python -m benchmarks ckks`.")


def test_measurements_of_the_readme_are_those_of_the_page() -> None:
    """A row that both have says the same in both."""
    rows = {row[0]: row for table in measured.read((DOCS / "measured.md").read_text()).values() for row in table.rows}
    readme = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith("|")
    ]
    for row in readme:
        if row[0] in rows:
            assert set(row) <= set(rows[row[0]]), row[0]


def test_a_page_that_asks_for_a_row_that_is_gone_is_refused() -> None:
    table = measured.Table("ckks", "python -m benchmarks ckks", ("network", "time"), (("T4", "38.0 ms"),))
    assert "38.0 ms" in table.part(["T4"], ["time"])
    with pytest.raises(LookupError, match="no T5"):
        table.part(["T5"], [])


def test_a_table_without_a_command_is_refused() -> None:
    with pytest.raises(LookupError, match="'ckks' needs a command"):
        measured.read("(measured-ckks)=\n## CKKS\n\n| a | b |\n| --- | --- |\n| c | 1 ms |\n")


def test_every_feature_is_on_the_page_of_one_family() -> None:
    named = [
        name
        for path in sorted((DOCS / "features").glob("*.md"))
        for line in re.findall(r"```\{catalogue\} (.+)", path.read_text())
        for name in line.split()
    ]
    assert sorted(named) == sorted(FEATURES)


def test_the_table_of_features_says_what_the_catalogue_says() -> None:
    (line,) = [line for line in catalogue.table(["hog"]).splitlines() if "hog" in line]
    assert "| no | yes |" in line
    assert "`orientations=9`" in line


@pytest.mark.parametrize("folder", ["executors", "protocols", "features"])
def test_a_page_on_a_computation_says_what_it_promises_and_costs(folder: str) -> None:
    """Guarantee, assumptions, leakage, cost formula, measured cost, source: on every page, in this order."""
    wanted = ["Guarantee", "Assumptions", "What leaks", "Cost formula", "Measured", "Source"]
    pages = [path for path in PAGES if path.parent.name == folder and path.stem != "index"]
    assert pages
    for path in pages:
        headings = re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE)
        found = [name for heading in headings for name in wanted if heading.startswith(name)]
        assert found == wanted, path
        measured_part = path.read_text().partition("\n## Measured\n")[2].partition("\n## ")[0]
        assert "```{measured}" in measured_part or commands(measured_part), path
