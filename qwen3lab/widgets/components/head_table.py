"""A sortable, searchable table of all heads and their scores; clicking a row picks a head."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from qwen3lab.analysis.attention.profile import HeadProfile
from qwen3lab.translation import later, tr

if TYPE_CHECKING:
    import pandas
    from itables.widget import ITable

COLUMNS = {
    "layer": later("layer"),
    "head": later("head"),
    "kind": later("likely kind"),
    "above_uniform": later("above uniform"),
    "previous": later("previous"),
    "induction": later("induction"),
    "duplicate": later("duplicate"),
    "first": later("first token"),
    "itself": later("itself"),
    "special": later("special token"),
    "entropy": later("entropy (nats)"),
    "distance": later("distance (tokens)"),
}
"""Columns of the table: field of the head profile, and column title."""

OPTIONS: dict[str, Any] = {
    "select": "single",
    "showIndex": False,
    "maxBytes": 0,
    "pageLength": 10,
    "order": [[list(COLUMNS).index("above_uniform"), "desc"]],
    "layout": {"topStart": "search", "topEnd": None, "bottomStart": "paging", "bottomEnd": None},
    "classes": "display compact nowrap",
    "style": "width:100%",
    "scrollX": True,
    "allow_html": False,
}
"""DataTables options; every update of the table has to repeat them."""


def _texts() -> dict[str, str]:
    """What DataTables writes around the table; itables allows no names of buttons."""
    return {
        "search": tr("Search:"),
        "emptyTable": tr("No data available in table"),
        "zeroRecords": tr("No matching records found"),
    }


class HeadTable(w.VBox):
    """A table of heads.

    Args:
        pick: called with the layer and head of a clicked row.

    Attributes:
        table: made when it is first shown: its libraries take a second to load.
    """

    def __init__(self, pick: Callable[[tuple[int, int]], None]) -> None:
        self._pick = pick
        self._heads: list[tuple[int, int]] = []
        self.titles = {name: tr(title) for name, title in COLUMNS.items()}
        self.table: ITable | None = None
        super().__init__()
        self.add_class("q3-table")
        self.show(None)

    def show(self, scores: HeadProfile | None) -> None:
        """Show these scores; hide the table if there are none."""
        self.layout.display = "none" if scores is None else ""
        if scores is None:
            return
        profile = scores.to_pandas()
        self._heads = list(zip(profile["layer"], profile["head"], strict=True))
        profile["kind"] = profile["kind"].map(tr)
        self._show(profile.filter(items=list(self.titles)).rename(columns=self.titles))

    def _show(self, heads: "pandas.DataFrame") -> None:
        import pandas

        with pandas.option_context("display.float_format", "{:.2f}".format):
            if self.table is None:
                self.table = self._made(heads)
                self.children = (self.table,)
            else:
                self.table.update(heads, selected_rows=[], **OPTIONS, language=_texts())

    def _made(self, heads: "pandas.DataFrame") -> "ITable":
        from itables.widget import ITable

        table = ITable(heads, **OPTIONS, language=_texts())
        table.observe(lambda change: self._picked(change["new"]), "selected_rows")
        return table

    def close(self) -> None:
        """Close the table, and remove the handlers that follow its rows.

        anywidget watches the file of a widget's script, which keeps an ITable alive for ever.
        """
        super().close()
        if self.table is not None:
            self.table.unobserve_all()

    def mark(self, layer: int, head: int) -> None:
        """Select the row of a head."""
        if self.table is not None and (layer, head) in self._heads:
            self.table.selected_rows = [self._heads.index((layer, head))]

    def _picked(self, rows: list[int]) -> None:
        if rows:
            self._pick(self._heads[rows[0]])
