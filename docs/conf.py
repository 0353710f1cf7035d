"""The documentation site: `nox -s docs` builds it."""

from __future__ import annotations

import d3

project = "D3"
author = "The D3 maintainers"
version = release = d3.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
html_theme = "furo"
