"""Notebooks are their examples, run: neither can go on without the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docs.making.examples import NOTEBOOKS, pages
from docs.making.notebooks import cells_of

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_has_the_code_of_its_example_and_what_it_prints(name: str) -> None:
    """If this fails, `python -m docs.making.notebooks` makes and runs it anew."""
    stored = json.loads((ROOT / "docs" / "notebooks" / f"{name}.ipynb").read_text())
    wanted = cells_of(name)
    assert [(cell["id"], cell["cell_type"], "".join(cell["source"])) for cell in stored["cells"]] == [
        (cell["id"], cell["cell_type"], cell["source"]) for cell in wanted
    ]
    outputs = [output for cell in stored["cells"] for output in cell.get("outputs", ())]
    assert outputs
    assert {output["output_type"] for output in outputs} == {"stream"}


def test_every_example_has_a_page() -> None:
    made = pages(ROOT)
    for path in (ROOT / "examples").glob("*.py"):
        assert f"examples/{path.stem}.md" in made
        assert path.stem in made["examples/index.md"]
