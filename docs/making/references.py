"""Names in single backticks: a link where they mean one public thing, plain code where they could mean several."""

from __future__ import annotations

from typing import Any, ClassVar

from docutils import nodes
from sphinx.addnodes import pending_xref, pending_xref_condition
from sphinx.transforms.post_transforms import SphinxPostTransform

__all__ = ["OneMeaning", "meaning"]


class OneMeaning(SphinxPostTransform):
    """Before links are resolved: a bare name leads to its own package's, to the only public one, or nowhere."""

    default_priority: ClassVar[int] = 5

    def run(self, **kwargs: Any) -> None:
        """Rewrite the names of one page."""
        objects = self.env.get_domain("py").objects
        public = {name for name, entry in objects.items() if not entry.aliased}
        for node in list(self.document.findall(pending_xref)):
            if node.get("refdomain") != "py":
                continue
            found = meaning(node["reftarget"], node.get("py:module") or "", node.get("py:class") or "", public)
            if found:
                node["reftarget"] = found
                node["refspecific"] = False
            else:
                node.replace_self(_shown(node))


def _shown(node: pending_xref) -> list[nodes.Node]:
    """What a link that leads nowhere looks like: in signatures the short one of two forms."""
    forms = [child for child in node.children if isinstance(child, pending_xref_condition)]
    return next((form.children for form in forms if form.get("condition") == "resolved"), node.children)


def meaning(target: str, module: str, cls: str, public: set[str]) -> str:
    """Return the full name that a target means on a page of a module; nothing if that is not clear."""
    for full in (target, f"{module}.{cls}.{target}", f"{module}.{target}"):
        if full in public:
            return full
    named = [name for name in public if name.endswith(f".{target}")]
    whole = [name for name in named if name.removesuffix(f".{target}") not in public or "." in target]
    packages = [name for name in whole if name.removesuffix(f".{target}").islower()]
    return packages[0] if len(packages) == 1 and ("." in target or not target.islower() or "_" in target) else ""
