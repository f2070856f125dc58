"""The attention view: all heads as thumbnails, scores or a table, and one head's map."""

from collections.abc import Sequence

import ipywidgets as w

from qwen3lab.analysis.map_windows import MapWindow
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import sentence, shows_drawing_errors
from qwen3lab.widgets.components.head_table import HeadTable
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.explorers.attention_compute import head_note, map_heatmap, pooling_note
from qwen3lab.widgets.explorers.attention_maps import MapRenderer, MapRequest
from qwen3lab.widgets.explorers.attention_state import WHOLE
from qwen3lab.widgets.explorers.controls import WIDE, Pickers
from qwen3lab.widgets.workbench.state import PANES
from qwen3lab.widgets.workbench.views.heads_pane import HeadsPane
from qwen3lab.widgets.workbench.views.view import (
    WAITING,
    View,
    pane,
    row,
    scroller,
    show_only,
    side_by_side,
)

ABOUT = later("The head’s likely kind appears when it is measured.")

LEAST_HEIGHT = 160
"""Of the map of a head, in pixels."""


class AttentionPane(View):
    """All heads beside the map of the picked one; a click on a head opens its map there."""

    name, title = "attention", later("Attention")

    def build(self) -> Sequence[w.Widget]:
        """Make the pickers, the heads and the map."""
        self.pickers = Pickers(self.state, self.config, self.follow)
        self.heads = HeadsPane(self.state, self.config, self.lock, self.pick_head)
        self.parts = [self.pickers, self.heads]
        self.map = Canvas(height=LEAST_HEIGHT, fills=True, zooms=True)
        self.maps = MapRenderer(self.show_map, self.show_error)
        self.table = HeadTable(self.pick_head)
        self._make_controls()
        self.colours = self.follow_colours(self.map, self.heads.wall, self.heads.scores)
        self.note = w.HTML()
        self._follow()
        return self._arrange()

    def _make_controls(self) -> None:
        def picker(options: object, description: str, tooltip: str, width: str) -> w.Dropdown:
            return w.Dropdown(
                options=options,
                description=description,
                tooltip=tooltip,
                style=WIDE,
                layout=w.Layout(width=width),
            )

        self.pooling = picker(
            [(tr("max"), "max"), (tr("mean"), "mean")],
            tr("pooling"),
            tr("How several weights become one cell of a large map"),
            "140px",
        )
        self.pane = w.ToggleButtons(
            options=[(tr(name), name) for name in PANES],
            tooltips=[
                tr("The maps of all heads, small; of a large model, those of the layer"),
                tr("One cell for each head, coloured by a score"),
                tr("All scores of all heads"),
            ],
        ).add_class("q3-toggles")
        self.reset = w.Button(
            description=tr("Whole map"),
            icon="expand",
            tooltip=tr("Show the whole map again"),
            layout=w.Layout(width="120px"),
        )
        self.done = w.FloatProgress(
            description=tr("measuring"), max=1.0, layout=w.Layout(width="260px")
        )
        self.measure = w.Button(
            tooltip=tr("Compute the scores of all heads, such as induction and entropy"),
            layout=w.Layout(width="150px"),
        )
        for name in ("pooling", "pane"):
            self.bindings.bind(name, getattr(self, name))
        self.reset.on_click(lambda _: self.zoom(WHOLE))
        self.measure.on_click(lambda _: self.bench.heads.measure())

    def _follow(self) -> None:
        self.follow(self.draw_pane, ["pane"])
        heads = ["recording", "pane", "scores", "score"]
        self.follow(self.heads.draw, [*heads, "layer"] if self.heads.is_large else heads)
        shown = ["recording", "layer", "head", "window", "pooling"]
        self.follow(self.draw_map, shown, locked=False)  # The map's thread has a lock of its own.
        self.follow(self.list_heads, ["scores", "pane"])
        self.follow(self.describe, ["scores"])
        self.follow(self.mark_head, ["recording", "layer", "head", "scores", "pane"])
        self.follow(self.mark_token, ["token"])
        self.follow(self.draw_measuring, ["scores", "measuring", "measured", "recording"])
        on_pick(self.map, "selected", lambda cell: self.pick_token(cell[0]))
        on_pick(self.map, "zoomed", self.zoom)

    def wait(self) -> None:
        """Wait for the map that is rendered in the background."""
        if self.is_built:
            self.maps.wait()

    def close(self) -> None:
        """Cancel the rendering in the background, and remove the widgets."""
        if self.is_built:
            self.maps.close()
        super().close()

    def draw_pane(self) -> None:
        """Show the thumbnails, the scores or the table."""
        name = self.state.pane
        show_only(name == "thumbnails", self.heads.wall)
        show_only(name == "scores", self.heads.scores, self.heads.score)
        show_only(name == "table", self.table_box)
        (self.side.add_class if name == "table" else self.side.remove_class)("q3-even")

    @shows_drawing_errors
    def draw_map(self) -> None:
        """Draw the window of the picked head's map."""
        state, recording = self.state, self.state.recording
        with self.lock:
            if recording is None:
                self.map.show_nothing(tr(WAITING))
                return
            rows, keys = self._window(recording)
        self.maps.show(recording, MapRequest(state.layer, state.head, rows, keys, state.pooling))

    def show_map(self, request: MapRequest, window: MapWindow) -> None:
        """Show a window of the picked head's map, with a note on its pooling."""
        recording = self.state.recording
        with self.lock:
            if recording is None:
                return
            heatmap = map_heatmap(recording, request.layer, request.head, window)
            self.map.show(heatmap, self.caption(request.layer, request.head))
            hint = pooling_note(window) or tr("drag over a part to zoom in")
            self.note.value = f'<span class="q3-hint">{hint}</span>'

    def show_error(self, error: Exception) -> None:
        """Show an error of the background thread."""
        self.state.drawing_error = sentence(error)

    @shows_drawing_errors
    def mark_token(self) -> None:
        """Mark the row of the picked token."""
        self.map.marked = [self.state.token, -1]

    @shows_drawing_errors
    def list_heads(self) -> None:
        """Show the table of head scores, if it is chosen."""
        if self.state.pane == "table":
            self.table.show(self.state.scores)

    def draw_measuring(self) -> None:
        """Show the progress of the measurement, and the button that starts or stops it."""
        state = self.state
        has_work = state.recording is not None and state.scores is None
        self.done.value = state.measured
        self.done.layout.display = "" if has_work and state.measuring else "none"
        self.measure.layout.display = "" if has_work else "none"
        self.measure.description = (
            tr("Stop measuring") if state.measuring else tr("Measure all heads")
        )
        self.measure.icon = "stop" if state.measuring else "play"

    @shows_drawing_errors
    def describe(self) -> None:
        """Say below the map what kind of head it is, once that is measured."""
        self.map.caption = self.caption(self.state.layer, self.state.head)

    def caption(self, layer: int, head: int) -> str:
        """The likely kind and the scores of a head."""
        scores = self.state.scores
        is_head = 0 <= head < self.config.n_heads
        if scores is None or layer not in scores.layers or not is_head:
            return tr(ABOUT)
        return head_note(scores, layer, head)

    @shows_drawing_errors
    def mark_head(self) -> None:
        """Frame the picked head, and select its row of the table."""
        state, recording = self.state, self.state.recording
        is_head = 0 <= state.head < self.config.n_heads
        if recording is not None and state.layer in recording.attention.layers and is_head:
            self.heads.mark()
            self.table.mark(state.layer, state.head)

    def pick_head(self, layer_and_head: tuple[int, ...]) -> None:
        """Open a head; do nothing for an empty tuple."""
        if layer_and_head:
            with self.state.hold_trait_notifications():
                self.state.layer, self.state.head = layer_and_head

    def zoom(self, window: Sequence[int]) -> None:
        """Show a window of the map; the whole map for `WHOLE`.

        The last block of a pooled map can extend past the end of the text, so the window is
        clipped.
        """
        top, bottom, left, right = window
        recording = self.state.recording
        n = max(bottom, right) if recording is None else len(recording)
        self.state.window = (top, min(bottom, n), left, min(right, n))

    def _window(
        self, recording: Recording
    ) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        """Range of queries and of keys shown; None for all, also if the window does not fit."""
        top, bottom, left, right = self.state.window
        n = len(recording)
        if not (0 <= top < bottom <= n and 0 <= left < right <= n):
            return None, None
        return (top, bottom), (left, right)

    def _arrange(self) -> list[w.Widget]:
        self.table_box = scroller(self.table)
        left = pane(
            tr("All heads"),
            tr("click one to open it"),
            self.heads.wall,
            self.heads.scores,
            self.table_box,
            row(self.done, self.measure),
            tools=[self.heads.score],
        )
        right = pane(
            tr("Attention map"),
            tr("each row: the weights of one query token"),
            self.map,
            row(self.pooling, self.reset, self.note),
            tools=[self.colours],
        )
        pickers = row(self.pane, self.pickers.layer, self.pickers.head)
        self.side = side_by_side(left, right, wide="last")
        return [pickers, self.side]
