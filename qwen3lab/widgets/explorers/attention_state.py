"""What an attention explorer is showing."""

import traitlets

from qwen3lab.recording.recording import Recording
from qwen3lab.widgets.explorers.state import ExplorerState

DIRECTIONS = ("where it looks", "who looks at it")
WHOLE = (-1, -1, -1, -1)


class AttentionState(ExplorerState):
    """An explorer's state, with the recording that is looked at, and how.

    Attributes:
        recording: what the panes show; of the last run, or the one that was handed over.
        window: first and past-the-end query, then key, that the map shows; -1 for all.
        pooling: what stands for a block of a large map, "max" or "mean".
        direction: what is shaded in the text for the token under the pointer.
        scores: of the heads, once they have been measured.
        measured: how much of that work is done, from 0 to 1.
        measuring: whether it goes on.
    """

    recording = traitlets.Any(None)
    window = traitlets.Tuple(default_value=WHOLE)
    pooling = traitlets.Enum(["max", "mean"], "max")
    direction = traitlets.Enum(DIRECTIONS, DIRECTIONS[0])
    scores = traitlets.Any(None)
    measured = traitlets.Float(0.0)
    measuring = traitlets.Bool(False)

    @property
    def seen(self) -> Recording | None:
        """The recording that is looked at."""
        return self.recording
