"""What the site is made of beside its pages: generated pages and tables, so that none can rot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docs.making import api, catalogue, examples, formulas, house, links, measured, pictures, references

__all__ = ["setup"]

ROOT = Path(__file__).parent.parent.parent


def setup(app: Any) -> dict[str, Any]:
    """Add the directives, and write the generated pages before Sphinx looks for pages."""
    app.connect("builder-inited", _generate)
    app.connect("autodoc-process-docstring", api.escape, priority=400)  # before napoleon adds its own marks
    app.connect("autodoc-process-docstring", api.restore, priority=600)
    app.connect("autodoc-process-signature", api.shorten)
    app.connect("source-read", links.inside_the_site)
    app.connect("build-finished", _check)
    app.add_post_transform(references.OneMeaning)
    app.add_html_math_renderer(
        "mathml", inline_renderers=(formulas.inline, None), block_renderers=(formulas.block, None)
    )
    app.add_directive("catalogue", catalogue.Catalogue)
    app.add_directive("feature-notes", catalogue.Notes)
    app.add_directive("measured", measured.Measured)
    app.add_directive("picture", pictures.Picture)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _generate(app: Any) -> None:
    folder = Path(app.srcdir) / "generated"
    pages = {**api.pages(), "house": house.page(ROOT), **examples.pages(ROOT)}
    _write(folder, pages)


def _check(app: Any, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        problems = links.problems(Path(app.outdir)) + api.missing(app.env.get_domain("py").objects)
        if problems:
            raise links.BrokenPagesError("\n".join(problems))


def _write(folder: Path, pages: dict[str, str]) -> None:
    """Write what changed and remove what is no longer made: an unchanged page is not read again."""
    wanted = {folder / (name if name.endswith(".md") else f"{name}.rst"): text for name, text in pages.items()}
    for old in set(folder.rglob("*.*")) - set(wanted):
        old.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
