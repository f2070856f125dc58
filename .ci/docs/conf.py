"""Sphinx: the guide as a site that works without a network."""

import sys
from pathlib import Path
from typing import Any

import jieba
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.search.zh import SearchChinese

sys.path.insert(0, str(Path(__file__).parent))
import tables

project = "qwen3lab"
jieba.setLogLevel("WARNING")  # Sphinx finds words in the Chinese pages with it.
# Sphinx 9.0 looks for a Chinese stemmer, which it does not have (sphinx-doc/sphinx#14229).
SearchChinese.language_name = "English"
author = "the authors of qwen3lab"
release = tables.version()
copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
# Docstrings write code between single backticks, as Markdown does.
default_role = "code"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# Their source cannot be kept where a decorator adds options to those that a method writes itself.
autodoc_preserve_defaults = False
maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"qwen3lab {release}"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_copy_source = False
# The search page would fetch a summary of every hit, which browsers refuse for files.
html_show_search_summary = False
html_show_sphinx = False


def _as_written(docstring: Any) -> tuple[str, list[str]]:
    lines = docstring._consume_to_end()
    return "", docstring.__class__(docstring._dedent(lines), docstring._config).lines()


# Napoleon takes "weights: their dtype" in the docstring of a property for its type; ours have none.
GoogleDocstring._consume_inline_attribute = _as_written
