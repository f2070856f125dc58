"""All heads with their scores in a table that sorts and searches; a row picks its head."""

from collections.abc import Callable
from typing import Any

import ipywidgets as w
import pandas
from itables.widget import ITable

from qwen3lab.analysis.attention.profile import HeadProfile

COLUMNS = {
    "layer": "layer",
    "head": "head",
    "kind": "likely",
    "above_uniform": "above uniform",
    "previous": "previous",
    "induction": "induction",
    "duplicate": "duplicate",
    "first": "first token",
    "itself": "itself",
    "special": "special",
    "entropy": "entropy, nats",
    "distance": "distance, tokens",
}
"""What of the scores is shown, and what it is called."""

OPTIONS: dict[str, Any] = {
    "select": "single",
    "showIndex": False,
    "maxBytes": 0,
    "pageLength": 8,
    "order": [[list(COLUMNS).index("above_uniform"), "desc"]],
    "layout": {"topStart": "info", "topEnd": "search", "bottomStart": None, "bottomEnd": "paging"},
    "classes": "display compact nowrap",
    "style": "width:100%",
    "scrollX": True,
    "allow_html": False,
}
"""What DataTables is told, anew with every table."""


class HeadTable(w.VBox):
    """A table of heads.

    Args:
        pick: called with layer and head of the row that was clicked.
    """

    def __init__(self, pick: Callable[[tuple[int, int]], None]) -> None:
        self._pick = pick
        self._places: list[tuple[int, int]] = []
        self.table = ITable(pandas.DataFrame(columns=list(COLUMNS.values())), **OPTIONS)
        self.table.observe(lambda change: self._picked(change["new"]), "selected_rows")
        super().__init__([self.table])
        self.add_class("q3-table")
        self.show(None)

    def show(self, scores: HeadProfile | None) -> None:
        """Show these heads; nothing where they have not been measured."""
        self.layout.display = "none" if scores is None else ""
        if scores is None:
            return
        found = scores.to_pandas()
        self._places = list(zip(found["layer"], found["head"], strict=True))
        named = found.rename(columns=COLUMNS)[list(COLUMNS.values())]
        with pandas.option_context("display.float_format", "{:.2f}".format):
            self.table.update(named, selected_rows=[], **OPTIONS)

    def mark(self, layer: int, head: int) -> None:
        """Mark a head's row."""
        if (layer, head) in self._places:
            self.table.selected_rows = [self._places.index((layer, head))]

    def _picked(self, rows: list[int]) -> None:
        if rows:
            self._pick(self._places[rows[0]])
