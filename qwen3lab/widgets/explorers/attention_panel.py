"""Widgets of the attention explorer: panes that follow the state. Computes nothing."""

from collections.abc import Sequence

import ipywidgets as w

from qwen3lab.analysis.map_windows import MapWindow
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import sentence, shows_drawing_errors
from qwen3lab.widgets.components.head_table import HeadTable
from qwen3lab.widgets.components.layout import GAP, card, columns, heading, page
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.components.textview import TextView
from qwen3lab.widgets.explorers.attention_compute import (
    head_note,
    map_heatmap,
    pooling_note,
    text_span,
    text_weights,
)
from qwen3lab.widgets.explorers.attention_maps import MapRenderer, MapRequest
from qwen3lab.widgets.explorers.attention_state import DIRECTIONS, WHOLE, AttentionState
from qwen3lab.widgets.explorers.chat_compute import token_spans
from qwen3lab.widgets.explorers.controls import WIDE, Pickers
from qwen3lab.widgets.explorers.heads_pane import HeadsPane
from qwen3lab.widgets.explorers.reply_panel import WAITING, ReplyPanel


class AttentionPanel(ReplyPanel):
    """Controls and reply, with thumbnails of all heads, one head's map, and the text."""

    state: AttentionState

    def __init__(
        self,
        name: str,
        config: Qwen3Config,
        state: AttentionState,
        examples: Sequence[str],
        *,
        asks: bool = True,
    ) -> None:
        super().__init__(config, state, examples)
        self.asks = asks
        self.pickers = Pickers(state, config)
        self.bound_parts.append(self.pickers)
        self.heads = HeadsPane(state, config, self.lock, self.pick_head)
        self.bound_parts.append(self.heads)
        self.map = Canvas(height=560, zooms=True)
        self.text = TextView()
        self.maps = MapRenderer(self.show_map, self.show_error)
        self.table = HeadTable(self.pick_head)
        self._make_controls()
        self.note, self.about = w.HTML(), w.HTML()
        self.root = self._arrange(name)
        self._follow()
        self.draw_all()

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
            ["max", "mean"],
            "pooling",
            "How several weights become one cell of a large map",
            "140px",
        )
        self.direction = picker(
            DIRECTIONS, "shade", "Which tokens to shade for the token under the pointer", "230px"
        )
        self.reset = w.Button(
            description="Whole map",
            icon="expand",
            tooltip="Show the whole map again",
            layout=w.Layout(width="120px"),
        )
        self.done = w.FloatProgress(
            description="measuring", max=1.0, layout=w.Layout(width="260px")
        )
        self.measure = w.Button(
            tooltip="Compute the scores of all heads, such as induction and entropy",
            layout=w.Layout(width="150px"),
        )
        for name in ("pooling", "direction"):
            self.bindings.bind(name, getattr(self, name))
        self.reset.on_click(lambda _: self.zoom(WHOLE))

    def _follow(self) -> None:
        watch = self.bindings.watch
        watch(lambda _: self.draw_all(), ["recording"])
        watch(lambda _: self.draw_head(), ["layer", "head"])
        watch(lambda _: self.draw_map(), ["window", "pooling"])
        watch(lambda _: self.draw_text(), ["window"])
        watch(lambda _: self.shade(), ["token", "direction"])
        watch(lambda _: self.list_heads(), ["scores"])
        watch(lambda _: self.draw_measuring(), ["scores", "measuring", "measured", "recording"])
        on_pick(self.map, "selected", lambda cell: self.pick_token(cell[0]))
        on_pick(self.map, "zoomed", self.zoom)
        self.text.on_token(self.pick_token)

    def draw_all(self) -> None:
        """Draw everything that depends on the recording."""
        self.heads.draw()
        self.heads.draw_scores()
        self.draw_text()
        self.draw_head()
        self.list_heads()
        self.draw_measuring()

    def close(self) -> None:
        """Cancel the rendering in the background, and remove the widgets."""
        self.maps.stop()
        super().close()

    def draw_head(self) -> None:
        """Draw everything that depends on the picked head."""
        self.state.drawing_error = ""
        self.draw_map()
        self.shade()
        self.describe()
        self.mark_head()

    @shows_drawing_errors
    def draw_map(self) -> None:
        """Draw the window of the picked head's map."""
        state, recording = self.state, self.state.recording
        with self.lock:
            if recording is None:
                self.map.show_nothing(WAITING)
                return
            rows, keys = self._window(recording)
        self.maps.show(recording, MapRequest(state.layer, state.head, rows, keys, state.pooling))

    def show_map(self, request: MapRequest, window: MapWindow) -> None:
        """Show a window of the picked head's map, with a note on its pooling."""
        recording = self.state.recording
        with self.lock:
            if recording is None:
                return
            self.map.show(map_heatmap(recording, request.layer, request.head, window))
            hint = pooling_note(window) or "drag over a part to zoom in"
            self.note.value = f'<span class="q3-hint">{hint}</span>'

    def show_error(self, error: Exception) -> None:
        """Show an error of the background thread."""
        self.state.drawing_error = sentence(error)

    @shows_drawing_errors
    def draw_text(self) -> None:
        """Show the text of the window."""
        recording = self.state.recording
        with self.lock:
            if recording is None:
                self.text.show([], [], 0)
                return
            first, end = text_span(recording, self._window(recording)[0])
            parts = [""] * len(recording)
            for span in token_spans(recording):
                parts[span.start : span.end] = [span.name] * (span.end - span.start)
            self.text.show(recording.tokens[first:end], parts[first:end], first)
        self.shade()

    @shows_drawing_errors
    def shade(self) -> None:
        """Shade the text by the weights of the picked token, and mark the token on the map."""
        state, recording = self.state, self.state.recording
        with self.lock:
            self.map.marked = [state.token, -1]
            self.mark_reply()
            if recording is None or not 0 <= state.token < len(recording):
                return
            shown = text_span(recording, self._window(recording)[0])
            picked = (state.layer, state.head, state.token, state.direction)
            self.text.shade(state.token, text_weights(recording, *picked, shown))

    @shows_drawing_errors
    def list_heads(self) -> None:
        """Show the table of head scores."""
        self.table.show(self.state.scores)
        self.describe()

    def draw_measuring(self) -> None:
        """Show the progress of the measurement, and the button that starts or stops it."""
        state = self.state
        has_work = state.recording is not None and state.scores is None
        self.done.value = state.measured
        self.done.layout.display = "" if has_work and state.measuring else "none"
        self.measure.layout.display = "" if has_work else "none"
        self.measure.description = "Stop measuring" if state.measuring else "Measure all heads"
        self.measure.icon = "stop" if state.measuring else "play"

    @shows_drawing_errors
    def describe(self) -> None:
        """Show the likely kind and the scores of the picked head."""
        state, scores = self.state, self.state.scores
        is_head = 0 <= state.head < self.config.n_heads
        if scores is None or state.layer not in scores.layers or not is_head:
            self.about.value = ""
        else:
            self.about.value = head_note(scores, state.layer, state.head)

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
            self.state.layer, self.state.head = layer_and_head

    def pick_token(self, token: int) -> None:
        """Shade the text for a token."""
        if self.state.recording is not None and 0 <= token < len(self.state.recording):
            self.state.token = token

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

    def _arrange(self, name: str) -> w.VBox:
        wrap = w.Layout(flex_flow="row wrap", align_items="center", grid_gap="6px 10px")
        measuring = w.Box([self.done, self.measure], layout=wrap)
        tools = w.Box([self.pooling, self.reset, self.note], layout=wrap)
        attention_map = card(
            "Attention map",
            "each row: the attention weights of one query token",
            tools,
            self.map,
            self.about,
            pickers=[self.pickers.layer, self.pickers.head],
        )
        text = card("Text", "point at a token", self.text, pickers=[self.direction], grows=True)
        controls = [self.controls.box()] if self.asks else []
        reply: list[w.Widget] = []
        if self.asks:
            reply = [card("Conversation", "click a token", self.transcript)]
        if self.heads.is_large:
            table = card("Table of heads", "click a row to open a head", self.table)
            above, left, below = reply, self.heads.cards(measuring), [table]
        else:
            above, left, below = [], [*reply, *self.heads.cards(measuring, self.table)], []
        right = w.VBox([attention_map, text], layout=w.Layout(grid_gap=GAP))
        return page(
            heading(name, self.config, title="Qwen3 attention explorer"),
            *controls,
            self.alert,
            *above,
            columns(left, right),
            *below,
        )
