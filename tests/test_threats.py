"""The page of threats names tests: each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_test_that_the_page_of_threats_names_exists() -> None:
    """A measure whose test was renamed or dropped must not go on being claimed."""
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / "threats.md").read_text())
    assert len(named) > 30
    for file, function in named:
        tree = ast.parse((ROOT / "tests" / file).read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{function}"
