"""Sphinx configuration. Nothing is fetched while building, and the built pages load nothing from elsewhere."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

project = "secureimg"
author = "the secureimg authors"
project_copyright = "the secureimg authors; Apache-2.0"
version = release = version_of("secureimg")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docs.making"]
exclude_patterns = ["_build", "**/README.md"]
root_doc = "index"
default_role = "py:obj"  # docstrings name things in single backticks
suppress_warnings = ["toc.empty_glob"]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Signatures as they stand in the source; arrays by the names that docstrings use.
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
toc_object_entries = False
add_module_names = False

html_theme = "furo"
html_title = f"secureimg {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"font-stack": "system-ui, sans-serif", "font-stack--monospace": "ui-monospace, monospace"},
}
html_math_renderer = "mathml"  # of docs.making: needs no script
