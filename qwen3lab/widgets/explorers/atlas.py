"""The atlas explorer: a map of all experts; a click shows what one of them does."""

from collections.abc import Sequence
from typing import Any

import ipywidgets as w
import traitlets
from IPython.display import display

from qwen3lab.analysis.atlas import Atlas, Neighbour
from qwen3lab.translation import tr
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.layout import card, close_tree, columns, page
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.explorers.atlas_compute import (
    atlas_heatmap,
    entry_html,
    neighbour_label,
)


class AtlasExplorer(traitlets.HasTraits):
    """Shows an atlas of experts: a map, and of one expert its labels, examples and neighbours.

    Args:
        atlas: from `corpus.atlas`.

    Attributes:
        column: the labels that the map shows.
        picked: layer and number of the expert that is shown.

    Raises:
        ValueError: the atlas has no experts or no labels.
    """

    column = traitlets.Unicode()
    picked = traitlets.Tuple(traitlets.Int(), traitlets.Int())

    def __init__(self, atlas: Atlas) -> None:
        if not (atlas.layers and atlas.columns):
            raise ValueError(
                tr(
                    "the atlas has no experts or no labels: record the corpus of a mixture of "
                    "experts with label= or token_label="
                )
            )
        first = (atlas.layers[0], 0)
        super().__init__(column=atlas.columns[-1], picked=first)
        self.atlas = atlas
        self._columns = w.Dropdown(
            options=list(atlas.columns), value=self.column, description=tr("Labels")
        )
        self._map = Canvas(height=max(220, min(640, 70 + 34 * len(atlas.layers))))
        self._about, self._title = w.HTML(), w.HTML()
        self._together, self._following = w.HBox(), w.HBox()
        for box in (self._together, self._following):
            box.layout = w.Layout(flex_flow="row wrap")
        hint = tr("click a cell, or move with the arrow keys and press Enter")
        experts = card(tr("Experts"), hint, self._map, pickers=[self._columns])
        one = card(
            tr("What it does"), "", self._title, self._about, self._together, self._following
        )
        self.root = page(columns([experts], one))
        traitlets.link((self, "column"), (self._columns, "value"))
        on_pick(self._map, "selected", self._select)
        self.observe(self._draw_map, ["column"])
        self.observe(self._draw_expert, ["picked"])
        self._draw_map()
        self._draw_expert()

    def close(self) -> None:
        """Remove it from the page."""
        close_tree(self.root)

    def _ipython_display_(self) -> None:
        display(self.root)

    def _select(self, cell: Sequence[int]) -> None:
        row, expert = cell
        if 0 <= row < len(self.atlas.layers) and 0 <= expert < self.atlas.n_experts:
            self.picked = (self.atlas.layers[row], expert)

    def _draw_map(self, _: Any = None) -> None:
        self._map.show(atlas_heatmap(self.atlas, self.column))

    def _draw_expert(self, _: Any = None) -> None:
        layer, expert = self.picked
        entry = self.atlas[layer, expert]
        row = self.atlas.layers.index(layer)
        self._map.framed = [row, expert, row, expert]
        title = tr("Layer {layer}, expert {expert}", layer=layer, expert=expert)
        self._title.value = f'<span class="q3-heading">{title}</span>'
        self._about.value = entry_html(entry)
        self._fill(self._together, tr("Gets the same tokens:"), entry.together)
        self._fill(self._following, tr("In the next layer they go to:"), entry.following)

    def _fill(self, box: w.HBox, title: str, neighbours: Sequence[Neighbour]) -> None:
        old, shown = box.children, list[w.Widget]()
        if neighbours:
            shown.append(w.HTML(f'<span class="q3-hint">{title}</span>'))
        for each in neighbours:
            button = w.Button(description=neighbour_label(each), layout=w.Layout(width="auto"))
            button.tooltip = tr(
                "Show expert {expert} of layer {layer}", expert=each.expert, layer=each.layer
            )
            button.on_click(lambda _, place=(each.layer, each.expert): self._go(place))
            shown.append(button)
        box.children = shown
        for widget in old:
            close_tree(widget)

    def _go(self, place: tuple[int, int]) -> None:
        self.picked = place
