"""Links: pages that stand outside of docs/ as seen from inside, and a check of every link in the built pages."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from sphinx.errors import SphinxError

__all__ = ["BrokenPagesError", "inside_the_site", "problems"]

_PAGES: Final = {
    "SECURITY.md": "security.md",
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
_LOADING: Final = {
    "img": "src",
    "script": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "object": "data",
    "use": "href",
}
_NAMES_ONLY: Final = {"canonical", "author", "license", "search", "index", "next", "prev"}


class BrokenPagesError(SphinxError):
    """A built page links to what is not there, or loads something from elsewhere."""

    category = "Broken pages"


def inside_the_site(app: Any, docname: str, source: list[str]) -> None:
    """Let links to the files at the top of the repository lead to their pages."""
    up = docname.count("/") + 1
    for file, page in _PAGES.items():
        source[0] = source[0].replace(f"]({'../' * up}{file}", f"]({'../' * (up - 1)}{page}")


class _Page(HTMLParser):
    """What a page has and wants."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.anchors |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in _LOADING and _LOADING[tag] in given and given.get("rel") not in _NAMES_ONLY:
            self.loaded.append(given[_LOADING[tag]])


def problems(folder: Path) -> list[str]:
    """Return what is wrong in the built pages of a folder: broken links and anchors, and what is loaded from elsewhere."""
    pages = {path.resolve(): _parsed(path) for path in sorted(folder.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        where = path.relative_to(folder.resolve())
        for target in page.links:
            found += [f"{where}: {target} {reason}" for reason in _broken(path, target, pages)]
        for target in page.loaded:
            if urlsplit(target).scheme in ("http", "https") or target.startswith("//"):
                found.append(f"{where}: loads {target} from elsewhere")
            else:
                found += [f"{where}: {target} {reason}" for reason in _broken(path, target, pages)]
    for path in sorted(folder.rglob("*.css")):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)", text):
            found.append(f"{path.relative_to(folder)}: loads {target} from elsewhere")
    return found


def _parsed(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _broken(path: Path, target: str, pages: dict[Path, _Page]) -> list[str]:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return []
    goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if goal.is_dir():
        goal /= "index.html"
    if not goal.exists():
        return ["does not exist"]
    if goal in pages and unquote(parts.fragment) not in pages[goal].anchors:
        return [f"has no anchor {parts.fragment!r}"]
    return []
