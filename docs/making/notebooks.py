"""Notebooks made of examples, run, and stored with what they print: ``python -m docs.making.notebooks``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from docs.making.examples import NOTEBOOKS, split_cells

__all__ = ["cells_of", "main"]

_ROOT = Path(__file__).parent.parent.parent
_SECONDS = 300


def cells_of(name: str) -> list[dict[str, Any]]:
    """Cells of an example as a notebook has them, without output. Equal sources have equal ids."""
    cells = []
    for place, (kind, text) in enumerate(split_cells((_ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8"))):
        identity = hashlib.sha256(f"{place} {text}".encode()).hexdigest()[:12]
        cell: dict[str, Any] = {"cell_type": kind, "id": identity, "metadata": {}, "source": text}
        cells.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    return cells


def main() -> None:
    """Make and run each notebook; what fails is not stored."""
    import nbclient
    import nbformat

    for name in NOTEBOOKS:
        text = json.dumps({"cells": cells_of(name), "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
        notebook = nbformat.reads(text, as_version=4)
        nbclient.NotebookClient(notebook, timeout=_SECONDS, record_timing=False).execute()
        notebook.metadata = {"language_info": {"name": "python"}}
        path = _ROOT / "docs" / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
