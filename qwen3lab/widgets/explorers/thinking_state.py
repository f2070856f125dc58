"""What a thinking explorer is showing."""

import traitlets

from qwen3lab.widgets.explorers.state import ExplorerState


class ThinkingState(ExplorerState):
    """An explorer's state, with a marker along the thinking and what is answered there.

    Attributes:
        refused: how often the next run's `</think>` is refused.
        marker: thinking tokens up to which the answer is asked for; -1 before a run has ended.
        steps: the thinking in `Piece`s.
        answers: the answers that are known, by thinking tokens.
        at_once: the same question's reply without thinking, or None.
        looking: True while answers along the thinking are being written.
    """

    refused = traitlets.Int(0)
    marker = traitlets.Int(-1)
    steps = traitlets.Tuple()
    answers = traitlets.Any({})
    at_once = traitlets.Any(None)
    looking = traitlets.Bool(False)

    @property
    def can_stop(self) -> bool:
        """Whether there is something that Stop ends: a run, or answers that are asked for."""
        return super().can_stop or self.looking
