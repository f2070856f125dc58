"""The attention explorer on the screen: panes that follow the state. No computation, no model."""

from collections.abc import Sequence

import ipywidgets as w

from qwen3lab.analysis.map_windows import MapWindow
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import says_undrawn, sentence
from qwen3lab.widgets.components.head_table import HeadTable
from qwen3lab.widgets.components.layout import GAP, card, columns, heading, page
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.components.textview import TextView
from qwen3lab.widgets.explorers.attention_compute import (
    frame_on_wall,
    head_at,
    head_note,
    map_heatmap,
    pooling_note,
    text_span,
    text_weights,
    wall_heatmap,
)
from qwen3lab.widgets.explorers.attention_maps import Maps, Wanted
from qwen3lab.widgets.explorers.attention_state import DIRECTIONS, WHOLE, AttentionState
from qwen3lab.widgets.explorers.chat_compute import token_spans
from qwen3lab.widgets.explorers.controls import WIDE, Pickers
from qwen3lab.widgets.explorers.reply_panel import ReplyPanel

WAITING = "The plot appears when the first run has ended."


class AttentionPanel(ReplyPanel):
    """Controls and reply, with a wall of heads, one head's map, and the text."""

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
        self.held.append(self.pickers)
        self.wall = Canvas(height=max(260, min(760, 80 + 46 * config.n_layers)))
        self.map = Canvas(height=560, zooms=True)
        self.text = TextView()
        self.maps = Maps(self.show_map, self.show_error)
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

        self.pooling = picker(["max", "mean"], "pooling", "What stands for many cells", "140px")
        self.direction = picker(DIRECTIONS, "shade", "What the pointer shades", "190px")
        self.reset = w.Button(
            description="Whole map",
            icon="expand",
            tooltip="Show all of the map again",
            layout=w.Layout(width="120px"),
        )
        self.done = w.FloatProgress(
            description="measuring", max=1.0, layout=w.Layout(width="260px")
        )
        self.measure = w.Button(layout=w.Layout(width="150px"))
        for name in ("pooling", "direction"):
            self.ties.tie(name, getattr(self, name))
        self.reset.on_click(lambda _: self.zoom(WHOLE))

    def _follow(self) -> None:
        watch = self.ties.watch
        watch(lambda _: self.draw_all(), ["recording"])
        watch(lambda _: self.draw_head(), ["layer", "head"])
        watch(lambda _: self.draw_map(), ["window", "pooling"])
        watch(lambda _: self.draw_text(), ["window"])
        watch(lambda _: self.shade(), ["token", "direction"])
        watch(lambda _: self.list_heads(), ["scores"])
        watch(lambda _: self.draw_measuring(), ["scores", "measuring", "measured", "recording"])
        on_pick(self.wall, "selected", lambda cell: self.pick_thumbnail(*cell))
        on_pick(self.map, "selected", lambda cell: self.pick_token(cell[0]))
        on_pick(self.map, "zoomed", self.zoom)
        self.text.on_token(self.pick_token)

    def draw_all(self) -> None:
        """Draw all that another recording changes."""
        self.draw_wall()
        self.draw_text()
        self.draw_head()
        self.list_heads()
        self.draw_measuring()

    def close(self) -> None:
        """End what goes on in the background, and leave the page."""
        self.maps.stop()
        super().close()

    @says_undrawn
    def draw_wall(self) -> None:
        """Draw every head in small."""
        with self.lock:
            if self.state.seen is None:
                self.wall.show_nothing(WAITING)
            else:
                self.wall.show(wall_heatmap(self.state.seen))

    def draw_head(self) -> None:
        """Draw what another head changes."""
        self.state.undrawn = ""
        self.draw_map()
        self.shade()
        self.describe()
        self.mark_wall()

    @says_undrawn
    def draw_map(self) -> None:
        """Draw the window of the picked head's map."""
        state, seen = self.state, self.state.seen
        with self.lock:
            if seen is None:
                self.map.show_nothing(WAITING)
                return
            rows, keys = self._window(seen)
        self.maps.show(seen, Wanted(state.layer, state.head, rows, keys, state.pooling))

    def show_map(self, wanted: Wanted, found: MapWindow) -> None:
        """Show a window of the picked head's map, and say what its cells stand for."""
        seen = self.state.seen
        with self.lock:
            if seen is None:
                return
            self.map.show(map_heatmap(seen, wanted.layer, wanted.head, found))
            hint = pooling_note(found) or "drag over a part to zoom into it"
            self.note.value = f'<span class="q3-hint">{hint}</span>'

    def show_error(self, error: Exception) -> None:
        """Show what went wrong in the background."""
        self.state.undrawn = sentence(error)

    @says_undrawn
    def draw_text(self) -> None:
        """Show the text of the window."""
        seen = self.state.seen
        with self.lock:
            if seen is None:
                self.text.show([], [], 0)
                return
            first, end = text_span(seen, self._window(seen)[0])
            parts = [""] * len(seen)
            for span in token_spans(seen):
                parts[span.start : span.end] = [span.name] * (span.end - span.start)
            self.text.show(seen.tokens[first:end], parts[first:end], first)
        self.shade()

    @says_undrawn
    def shade(self) -> None:
        """Shade the text for the token that is pointed at, and mark it on the map."""
        state, seen = self.state, self.state.seen
        with self.lock:
            self.map.marked = [state.token, -1]
            self.mark_reply()
            if seen is None or not 0 <= state.token < len(seen):
                return
            shown = text_span(seen, self._window(seen)[0])
            place = (state.layer, state.head, state.token, state.direction)
            self.text.shade(state.token, text_weights(seen, *place, shown))

    @says_undrawn
    def list_heads(self) -> None:
        """List the heads with their scores."""
        self.table.show(self.state.scores)
        self.describe()

    def draw_measuring(self) -> None:
        """Show how far the measurement of the heads is, and how to end or to begin it."""
        state = self.state
        has_work = state.seen is not None and state.scores is None
        self.done.value = state.measured
        self.done.layout.display = "" if has_work and state.measuring else "none"
        self.measure.layout.display = "" if has_work else "none"
        self.measure.description = "Stop measuring" if state.measuring else "Measure all heads"
        self.measure.icon = "stop" if state.measuring else "play"

    @says_undrawn
    def describe(self) -> None:
        """Say what the picked head is likely to do."""
        state, scores = self.state, self.state.scores
        is_head = 0 <= state.head < self.config.n_heads
        if scores is None or state.layer not in scores.layers or not is_head:
            self.about.value = ""
        else:
            self.about.value = head_note(scores, state.layer, state.head)

    @says_undrawn
    def mark_wall(self) -> None:
        """Mark the picked head's thumbnail."""
        state, seen = self.state, self.state.seen
        is_head = 0 <= state.head < self.config.n_heads
        if seen is not None and state.layer in seen.attention.layers and is_head:
            self.wall.framed = frame_on_wall(seen, state.layer, state.head)
            self.table.mark(state.layer, state.head)

    def pick_thumbnail(self, row: int, column: int) -> None:
        """Open the head whose thumbnail was clicked."""
        if self.state.seen is not None and min(row, column) >= 0:
            self.pick_head(head_at(self.state.seen, row, column))

    def pick_head(self, place: tuple[int, ...]) -> None:
        """Open a head, given its layer and its number; do nothing for no head."""
        if place:
            self.state.layer, self.state.head = place

    def pick_token(self, token: int) -> None:
        """Shade the text for a token."""
        if self.state.seen is not None and 0 <= token < len(self.state.seen):
            self.state.token = token

    def zoom(self, window: Sequence[int]) -> None:
        """Show a window of the map; all of it for `WHOLE`.

        The last block of a pooled map may reach over the end of the text: the window does not.
        """
        top, bottom, left, right = window
        n = max(bottom, right) if self.state.seen is None else len(self.state.seen)
        self.state.window = (top, min(bottom, n), left, min(right, n))

    def _window(
        self, recording: Recording
    ) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        """Queries and keys that are shown; a window of another text counts for nothing."""
        top, bottom, left, right = self.state.window
        n = len(recording)
        if not (0 <= top < bottom <= n and 0 <= left < right <= n):
            return None, None
        return (top, bottom), (left, right)

    def _arrange(self, name: str) -> w.VBox:
        wrap = w.Layout(flex_flow="row wrap", align_items="center", grid_gap="6px 10px")
        measuring = w.Box([self.done, self.measure], layout=wrap)
        tools = w.Box([self.pooling, self.reset, self.note], layout=wrap)
        about = "click one, or a row of the table, to open it"
        wall = card("Every head", about, self.wall, measuring, self.table)
        drawn = card(
            "Map",
            "each row: where a token looks",
            tools,
            self.map,
            self.about,
            pickers=[self.pickers.layer, self.pickers.head],
        )
        text = card("Text", "point at a token", self.text, pickers=[self.direction])
        asked = [self.controls.box()] if self.asks else []
        reply = [card("Conversation", "click a token", self.transcript)] if self.asks else []
        left = w.VBox([*reply, text, wall], layout=w.Layout(grid_gap=GAP))
        return page(
            heading(name, self.config, title="Qwen3 attention explorer"),
            *asked,
            self.alert,
            columns([left], drawn),
        )
