"""State of the attention explorer."""

import traitlets

from qwen3lab.figures.heads import SCORES
from qwen3lab.widgets.explorers.state import ExplorerState, Result

WHOLE = (-1, -1, -1, -1)
"""The window that stands for the whole map."""


class AttentionState(ExplorerState):
    """State of an explorer, with a window of an attention map, and head scores.

    Attributes:
        window: first query, end query, first key and end key of the map (ends exclusive);
            `WHOLE` for all.
        pooling: how blocks of a large map are pooled, "max" or "mean".
        score: what a map with one cell per head shows: a field of `scores`.
        scores: the head profile, or None before it is measured.
        measured: progress of the measurement, from 0 to 1.
        measuring: True while the measurement runs.
    """

    window = traitlets.Tuple(default_value=WHOLE)
    pooling = traitlets.Enum(["max", "mean"], "max")
    score = traitlets.Enum(list(SCORES), "previous")
    scores = Result(None)
    measured = traitlets.Float(0.0)
    measuring = traitlets.Bool(False)
