"""The documentation site: `nox -s docs` builds it, and any warning fails."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from pygments.lexers.configs import PropertiesLexer
from sphinx.application import Sphinx

import d3

sys.path.insert(0, str(Path(__file__).with_name("_ext")))
gc.disable()  # a third of the time went into searching trees that stay until the end

project = "D3"
author = "The D3 maintainers"
project_copyright = author
version = release = d3.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
    "repository",
    "made_from_code",
    "help_texts",
]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [
    # What d3 does not offer to its users has no page, nor have Python and other libraries.
    ("py:.*", r"(?!d3\.[A-Z]|d3\.errors\.).*"),
]
linkcheck_timeout = 20
linkcheck_ignore = [r"https?://localhost", r"https?://127\.0\.0\.1", r"https?://[a-z.]*\bexample\."]

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
smartquotes_action = "qe"  # two dashes begin an option
copybutton_exclude = ".linenos, .gp, .go"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
add_module_names = False
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"D3 {version}"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["d3.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    # System fonts and the console's colours; nothing is loaded from other sites.
    "light_css_variables": {
        "color-brand-primary": "#0b5fa5",
        "color-brand-content": "#0b5fa5",
        "color-brand-visited": "#0b5fa5",
    },
    "dark_css_variables": {
        "color-brand-primary": "#86c5ff",
        "color-brand-content": "#86c5ff",
        "color-brand-visited": "#86c5ff",
    },
}


def setup(app: Sphinx) -> None:
    """Let blocks of a .env file be highlighted."""
    app.add_lexer("env", PropertiesLexer)
