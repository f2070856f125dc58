"""State of the attention explorer."""

import traitlets

from qwen3lab.figures.heads import SCORES
from qwen3lab.widgets.explorers.state import ExplorerState, Result

DIRECTIONS = ("tokens it attends to", "tokens that attend to it")
"""What the text pane shades for a token: a row or a column of the attention map."""

WHOLE = (-1, -1, -1, -1)
"""The window that stands for the whole map."""


class AttentionState(ExplorerState):
    """State of an explorer, with a recording, a window of its attention map, and head scores.

    Attributes:
        recording: the recording shown: of the last run, or the one passed to the explorer.
        window: first query, end query, first key and end key of the map (ends exclusive);
            `WHOLE` for all.
        pooling: how blocks of a large map are pooled, "max" or "mean".
        direction: what the text pane shades, one of `DIRECTIONS`.
        score: what a map with one cell per head shows: a field of `scores`.
        scores: the head profile, or None before it is measured.
        measured: progress of the measurement, from 0 to 1.
        measuring: True while the measurement runs.
    """

    recording = Result(None)
    window = traitlets.Tuple(default_value=WHOLE)
    pooling = traitlets.Enum(["max", "mean"], "max")
    direction = traitlets.Enum(DIRECTIONS, DIRECTIONS[0])
    score = traitlets.Enum(list(SCORES), "previous")
    scores = Result(None)
    measured = traitlets.Float(0.0)
    measuring = traitlets.Bool(False)
