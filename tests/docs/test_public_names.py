"""Every public name is documented, and every module says in one line what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.making import api, house, public

ROOT = Path(__file__).parent.parent.parent


def test_every_public_name_has_a_docstring() -> None:
    """Constants and types have theirs below the assignment."""
    missing = [
        f"{item.package}.{item.name}" for name in public.packages() for item in public.names(name) if not item.doc
    ]
    assert not missing


def test_every_public_package_is_looked_at() -> None:
    """A package that is new, and has an ``__all__``, cannot be forgotten."""
    inits = [
        path for top in public.ROOTS for path in (ROOT / top).rglob("__init__.py") if "__all__" in path.read_text()
    ]
    names = {".".join(path.parent.relative_to(ROOT).parts) for path in inits}
    assert names | set(public.MODULES) == set(public.packages())
    assert {"secureimg.ckks", "secureimg.sharing", "protocols.sharing", "protocols.federated"} <= names


def test_the_reference_describes_every_public_name_once() -> None:
    """On the page of its package, or of the package above that has it, too."""
    text = "\n".join(page for name, page in api.pages().items() if name != "api/index")
    for package in public.packages():
        for item in public.names(package):
            full = f"{item.home or item.package}.{item.name}"
            described = [f":: {full}\n", f":: {item.name}\n   :module: {item.home or item.package}\n"]
            assert sum(text.count(line) for line in described) == 1, full


def test_a_name_that_is_on_no_page_is_told() -> None:
    assert "secureimg.errors.BlobError is public and on no page" in api.missing({"secureimg.images.load_image"})


def test_the_house_has_every_module_in_one_line_below_all_that_it_imports() -> None:
    modules = house.modules(ROOT)
    page = house.page(ROOT)
    built: set[str] = set()
    for module in modules:
        assert module.uses <= built, module.name
        assert module.sentence.endswith((".", ":", "?", "``", ")")), (
            f"{module.name}: {module.sentence!r} is no sentence"
        )
        assert f"``{module.name}``" in page
        built.add(module.name)
    count = sum(
        1 for top in ("secureimg", "protocols", "benchmarks", "fuzzing", "training") for _ in (ROOT / top).rglob("*.py")
    )
    assert len(modules) == count


@pytest.mark.parametrize(
    ("doc", "sentence"),
    [
        ("One line.", "One line."),
        ("Two\nlines. And more.", "Two lines."),
        ("A heading\n\nand text.", "A heading"),
        ("", ""),
    ],
)
def test_the_first_sentence(doc: str, sentence: str) -> None:
    assert house.first_sentence(doc) == sentence
