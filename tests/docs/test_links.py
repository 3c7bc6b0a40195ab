"""The check of built pages finds what is broken, and what would be loaded from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.making import links


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="other.html#there">x</a>', ""),
        ('<a href="https://example.org/">x</a>', ""),
        ('<link rel="canonical" href="https://example.org/">', ""),
        ('<a href="gone.html">x</a>', "gone.html does not exist"),
        ('<a href="other.html#nowhere">x</a>', "other.html#nowhere has no anchor 'nowhere'"),
        ('<a href="#nowhere">x</a>', "#nowhere has no anchor 'nowhere'"),
        ('<img src="picture.png">', "picture.png does not exist"),
        ('<script src="https://example.org/x.js"></script>', "loads https://example.org/x.js from elsewhere"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "loads //example.org/x.css from elsewhere"),
    ],
)
def test_links_and_resources_of_a_page(tmp_path: Path, body: str, problem: str) -> None:
    (tmp_path / "other.html").write_text('<h1 id="there">x</h1>')
    (tmp_path / "page.html").write_text(body)
    assert links.problems(tmp_path) == ([f"page.html: {problem}"] if problem else [])


def test_a_style_that_fetches_a_font(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text(
        "/* see https://example.org */ @font-face { src: url('https://example.org/f.woff2'); }"
    )
    assert links.problems(tmp_path) == ["x.css: loads https://example.org/f.woff2 from elsewhere"]


def test_links_to_files_at_the_top_lead_to_their_pages() -> None:
    source = ["See [a](../SECURITY.md#keys) and [b](threats.md)."]
    links.inside_the_site(None, "deployment", source)
    assert source == ["See [a](security.md#keys) and [b](threats.md)."]
    deeper = ["[a](../../SECURITY.md)"]
    links.inside_the_site(None, "publishing/sealed", deeper)
    assert deeper == ["[a](../security.md)"]
