"""Display of results: short text in a terminal, HTML in a notebook.

Text of models, prompts and files is escaped, including control characters.
"""

from qwen3lab.display.html import Page, escape, table
from qwen3lab.display.plain import one_line, several_lines, shortened
from qwen3lab.display.summary import Displayed, Summary, count

__all__ = [
    "Displayed",
    "Page",
    "Summary",
    "count",
    "escape",
    "one_line",
    "several_lines",
    "shortened",
    "table",
]
