"""All heads in the attention view: a wall of thumbnails or a map of scores."""

from collections.abc import Callable
from threading import RLock

import ipywidgets as w

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.figures.heads import SCORES
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.explorers.attention_compute import (
    frame_on_wall,
    head_at,
    score_heatmap,
    wall_heatmap,
)
from qwen3lab.widgets.explorers.controls import WIDE, Bindings
from qwen3lab.widgets.workbench.state import WorkbenchState
from qwen3lab.widgets.workbench.views.view import WAITING

MAX_LAYERS, MAX_HEADS = 12, 8
"""Largest model whose thumbnails are all shown: each has 48 pixels on half a page of 610."""

FEW_HEADS = 16
"""Maximum number of heads per layer for larger thumbnails, four in a row."""

AXIS_HEIGHT = 60

NOT_MEASURED = later("The map appears when the heads are measured.")


def is_large(config: Qwen3Config) -> bool:
    """True if a model has too many heads for a wall of legible thumbnails."""
    return config.n_layers > MAX_LAYERS or config.n_heads > MAX_HEADS


def thumbnail_rows(n_heads: int) -> tuple[int, int]:
    """Thumbnails in a row, and rows, of one layer of a large model."""
    per_row = 4 if n_heads <= FEW_HEADS else 8
    return per_row, -(-n_heads // per_row)


class HeadsPane:
    """Thumbnails of all heads, of a large model those of one layer; and a map of their scores.

    Args:
        state: has the recording, the scores, and the layer and head that are picked.
        config: of the model.
        lock: held while a widget is drawn.
        pick: called with the layer and head that were clicked.
    """

    def __init__(
        self,
        state: WorkbenchState,
        config: Qwen3Config,
        lock: RLock,
        pick: Callable[[tuple[int, int]], None],
    ) -> None:
        self.state, self.config, self.lock, self.pick = state, config, lock, pick
        self.is_large = is_large(config)
        self._drawn: Recording | None = None  # Whose thumbnails are drawn.
        self.bindings = Bindings(state)
        self.scores = Canvas(height=max(160, min(640, 60 + 8 * config.n_layers)), fills=True)
        per_row, rows = thumbnail_rows(config.n_heads)
        self.per_row = per_row if self.is_large else None
        height = AXIS_HEIGHT + 448 * rows // per_row  # Square: 448 pixels are eight of 56.
        if not self.is_large:
            height = 80 + 36 * config.n_layers
        self.wall = Canvas(height=height, fills=True)
        self.score = w.Dropdown(
            options=[(tr(title), name) for name, title in SCORES.items()],
            description=tr("score"),
            tooltip=tr("What the colour of a head shows"),
            style=WIDE,
            layout=w.Layout(width="230px"),
        )
        self.bindings.bind("score", self.score)
        on_pick(self.wall, "selected", lambda cell: self.pick_thumbnail(*cell))
        on_pick(self.scores, "selected", lambda cell: self.pick_cell(*cell))

    @shows_drawing_errors
    def draw(self) -> None:
        """Draw the thumbnails or the scores, whichever are chosen."""
        with self.lock:
            if self.state.pane == "thumbnails":
                self._draw_wall()
            elif self.state.pane == "scores":
                self._draw_scores()

    def _draw_wall(self) -> None:
        """Draw the thumbnails: of all heads, or of the layer that is picked."""
        recording = self.state.recording
        if recording is None:
            self.wall.show_nothing(tr(WAITING))
        elif not self.is_large:
            if self._drawn is not recording:  # They show nothing else.
                self.wall.show(wall_heatmap(recording))
                self._drawn = recording
        elif self.state.layer in recording.attention.layers:
            self.wall.show(wall_heatmap(recording, self._layers(), self.per_row))

    def _draw_scores(self) -> None:
        """Draw one cell per head, coloured by the score that is picked."""
        state = self.state
        if state.recording is None or state.scores is None:
            self.scores.show_nothing(tr(WAITING if state.recording is None else NOT_MEASURED))
        else:
            self.scores.show(score_heatmap(state.scores, state.score))

    @shows_drawing_errors
    def mark(self) -> None:
        """Frame the head that is picked."""
        state, recording = self.state, self.state.recording
        if recording is None or not 0 <= state.head < self.config.n_heads:
            return
        layers = recording.attention.layers
        if state.layer not in layers:
            return
        if state.pane == "scores":
            row = layers.index(state.layer)
            self.scores.framed = [row, state.head, row, state.head]
        elif state.pane == "thumbnails":
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

    def _layers(self) -> tuple[int, ...]:
        """The layers whose thumbnails are shown."""
        assert self.state.recording is not None
        return (self.state.layer,) if self.is_large else self.state.recording.attention.layers
