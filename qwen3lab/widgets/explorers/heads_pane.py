"""All heads in the attention explorer: a wall of thumbnails, or a score map and one layer's."""

from collections.abc import Callable
from threading import RLock

import ipywidgets as w

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.figures.heads import SCORES
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.layout import card
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.explorers.attention_compute import (
    frame_on_wall,
    head_at,
    score_heatmap,
    wall_heatmap,
)
from qwen3lab.widgets.explorers.attention_state import AttentionState
from qwen3lab.widgets.explorers.controls import WIDE, Bindings
from qwen3lab.widgets.explorers.reply_panel import WAITING

MAX_LAYERS, MAX_HEADS = 12, 8
"""Largest model whose thumbnails are all shown: each has 48 pixels on half a page of 610."""

FEW_HEADS = 16
"""Maximum number of heads per layer for larger thumbnails, four in a row."""

AXIS_HEIGHT = 60

NOT_MEASURED = "The map appears when the heads are measured."


def is_large(config: Qwen3Config) -> bool:
    """True if a model has too many heads for a wall of legible thumbnails."""
    return config.n_layers > MAX_LAYERS or config.n_heads > MAX_HEADS


def thumbnail_rows(n_heads: int) -> tuple[int, int]:
    """Thumbnails in a row, and rows, of one layer of a large model."""
    per_row = 4 if n_heads <= FEW_HEADS else 8
    return per_row, -(-n_heads // per_row)


class HeadsPane:
    """Thumbnails of all heads; of a large model, a map of scores and one layer's thumbnails.

    Args:
        state: has the recording, the scores, and the layer and head that are picked.
        config: of the model.
        lock: held while a widget is drawn.
        pick: called with the layer and head that were clicked.
    """

    def __init__(
        self,
        state: AttentionState,
        config: Qwen3Config,
        lock: RLock,
        pick: Callable[[tuple[int, int]], None],
    ) -> None:
        self.state, self.config, self.lock, self.pick = state, config, lock, pick
        self.is_large = is_large(config)
        self.bindings = Bindings(state)
        self.scores = Canvas(height=max(440, min(640, 60 + 10 * config.n_layers)))
        per_row, rows = thumbnail_rows(config.n_heads)
        self.per_row = per_row if self.is_large else None
        height = AXIS_HEIGHT + 448 * rows // per_row  # Square: 448 pixels are eight of 56.
        if not self.is_large:
            height = max(260, 80 + 46 * config.n_layers)
        self.wall = Canvas(height=height)
        self.score = w.Dropdown(
            options=[(title, name) for name, title in SCORES.items()],
            description="score",
            tooltip="What the colour of a head shows",
            style=WIDE,
            layout=w.Layout(width="300px"),
        )
        self.bindings.bind("score", self.score)
        self.bindings.watch(lambda _: self.draw_scores(), ["scores", "score", "recording"])
        if self.is_large:
            self.bindings.watch(lambda _: self.draw(), ["layer"])
        on_pick(self.wall, "selected", lambda cell: self.pick_thumbnail(*cell))
        on_pick(self.scores, "selected", lambda cell: self.pick_cell(*cell))

    @shows_drawing_errors
    def draw(self) -> None:
        """Draw the thumbnails: of all heads, or of the layer that is picked."""
        recording = self.state.recording
        with self.lock:
            if recording is None:
                self.wall.show_nothing(WAITING)
            elif not self.is_large:
                self.wall.show(wall_heatmap(recording))
            elif self.state.layer in recording.attention.layers:
                self.wall.show(wall_heatmap(recording, self._layers(), self.per_row))

    @shows_drawing_errors
    def draw_scores(self) -> None:
        """Draw one cell per head, coloured by the score that is picked."""
        state = self.state
        if not self.is_large:
            return
        with self.lock:
            if state.recording is None or state.scores is None:
                self.scores.show_nothing(WAITING if state.recording is None else NOT_MEASURED)
            else:
                self.scores.show(score_heatmap(state.scores, state.score))
        self.mark()

    @shows_drawing_errors
    def mark(self) -> None:
        """Frame the head that is picked."""
        state, recording = self.state, self.state.recording
        if recording is None or not 0 <= state.head < self.config.n_heads:
            return
        layers = recording.attention.layers
        if state.layer not in layers:
            return
        row = layers.index(state.layer)
        self.scores.framed = [row, state.head, row, state.head]
        self.wall.framed = frame_on_wall(
            recording, state.layer, state.head, layers=self._layers(), per_row=self.per_row
        )

    def pick_thumbnail(self, row: int, column: int) -> None:
        """Open the head whose thumbnail was clicked."""
        if self.state.recording is not None and min(row, column) >= 0:
            found = head_at(self.state.recording, row, column, self._layers(), self.per_row)
            if found[1] < self.config.n_heads:
                self.pick(found)

    def pick_cell(self, row: int, head: int) -> None:
        """Open the head whose cell was clicked, and its layer's thumbnails."""
        if self.state.recording is not None and min(row, head) >= 0:
            self.pick((self.state.recording.attention.layers[row], head))

    def cards(self, *below: w.Widget) -> list[w.Widget]:
        """The cards, from the top; `below` is placed in the first one."""
        if not self.is_large:
            hint = "click a thumbnail or a table row to open a head"
            return [card("All heads", hint, self.wall, *below)]
        hint = "one cell a head: click one to open it and its layer"
        return [
            card("All heads", hint, self.scores, *below, pickers=[self.score]),
            card("Heads of the layer", "click a thumbnail", self.wall),
        ]

    def _layers(self) -> tuple[int, ...]:
        """The layers whose thumbnails are shown."""
        assert self.state.recording is not None
        return (self.state.layer,) if self.is_large else self.state.recording.attention.layers
