"""Pages of the examples, made of their docstrings and code, and of the notebooks with the output that is stored in them."""

from __future__ import annotations

import ast
import json
import textwrap
from pathlib import Path
from typing import Any

__all__ = ["NOTEBOOKS", "pages", "split_cells"]

NOTEBOOKS = ("xray_triage_ckks", "face_match_shares")
"""Examples that are notebooks, too."""


def pages(root: Path) -> dict[str, str]:
    """Pages by name: one for each example and each notebook, and the list of them."""
    made, rows = {}, ["| example | what it shows |", "| --- | --- |"]
    for path in sorted((root / "examples").glob("*.py")):
        title, text = _docstring(path)
        rows.append(f"| [{path.stem}]({path.stem}.md) | {title} |")
        made[f"examples/{path.stem}.md"] = _example(path.stem, title, text)
    for name in NOTEBOOKS:
        stored = root / "docs" / "notebooks" / f"{name}.ipynb"
        made[f"examples/{name}_notebook.md"] = notebook_page(name, stored.read_text(encoding="utf-8"))
    table = "\n".join(rows)
    entries = "\n".join(sorted(name.removeprefix("examples/").removesuffix(".md") for name in made))
    made["examples/index.md"] = f"""\
# Examples

Each is a short script that runs offline on what ships, prints a small table and asserts its result. From a clone, after the
second line of the README:

```sh
.venv-dev/bin/python examples/NAME.py
```

{table}

```{{toctree}}
:hidden:

{entries}
```
"""
    return made


def split_cells(source: str) -> list[tuple[str, str]]:
    """Cells of a script: kind ("markdown" or "code") and text; its docstring is the first one."""
    tree = ast.parse(source)
    rest = "\n".join(source.splitlines()[tree.body[0].end_lineno :])
    title, _, text = (ast.get_docstring(tree) or "").partition("\n\n")
    found = [("markdown", f"# {heading(title)}\n\n{title}\n\n{text.replace('``', '`')}")]
    for part in rest.split("# %%")[1:]:
        mark, _, body = part.partition("\n")
        if mark.strip() == "[markdown]":
            lines = [line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines()]
            found.append(("markdown", "\n".join(lines)))
        elif body.strip():
            found.append(("code", body.strip()))
    return found


def heading(title: str) -> str:
    """What stands before the colon of a first line."""
    return title.partition(": ")[0]


def notebook_page(name: str, text: str) -> str:
    """Return a stored notebook as a page."""
    blocks = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        blocks.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        blocks += [f"```text\n{_output(output)}\n```" for output in cell.get("outputs", ())]
    blocks[0] = blocks[0].replace("\n", " (notebook)\n", 1)
    blocks.insert(1, f"This is the notebook [{name}.ipynb](../../notebooks/{name}.ipynb), run as it stands.")
    return "\n\n".join(blocks) + "\n"


def _output(output: dict[str, Any]) -> str:
    return "".join(output.get("text", ())).rstrip()


def _docstring(path: Path) -> tuple[str, str]:
    title, _, text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")
    return title, text.replace("``", "`")


def _example(name: str, title: str, text: str) -> str:
    also = f"As a notebook, with its output: [{name}]({name}_notebook.md).\n" if name in NOTEBOOKS else ""
    return textwrap.dedent("""\
        # {heading}

        {title}

        {text}

        ```sh
        .venv-dev/bin/python examples/{name}.py
        ```

        {also}
        ```{{literalinclude}} ../../../examples/{name}.py
        ```
        """).format(heading=heading(title), title=title, text=text, name=name, also=also)
