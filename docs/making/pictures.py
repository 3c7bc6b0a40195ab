"""Our drawings, written into the page itself so that they follow its light or dark colours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive

__all__ = ["Picture"]


class Picture(Directive):
    """``{picture} NAME``: docs/pictures/NAME.svg, with its title as what screen readers say."""

    required_arguments = 1
    has_content = False
    option_spec: ClassVar = {}

    def run(self) -> list[nodes.Node]:
        """Return the drawing as part of the page."""
        path = Path(__file__).parent.parent / "pictures" / f"{self.arguments[0]}.svg"
        self.state.document.settings.env.note_dependency(str(path))
        drawing = re.sub(r"<\?xml.*?\?>\s*", "", path.read_text(encoding="utf-8"))
        return [nodes.raw("", f'<figure class="drawing">{drawing}</figure>', format="html")]
