"""State of the thinking explorer."""

import traitlets

from qwen3lab.widgets.explorers.state import ExplorerState, Result


class ThinkingState(ExplorerState):
    """State of an explorer, with a marker in the thinking and the early answers.

    Attributes:
        refused: how many times the latest run replaced `</think>` by "Wait".
        marker: number of thinking tokens kept; -1 before the first run has ended.
        steps: the thinking, as `Piece`s.
        answers: early answers, by the number of thinking tokens kept.
        direct_reply: the reply to the same question without thinking, or None.
        answering: True while early answers are generated.
    """

    refused = traitlets.Int(0)
    marker = traitlets.Int(-1)
    steps = traitlets.Tuple()
    answers = traitlets.Any({})
    direct_reply = Result(None)
    answering = traitlets.Bool(False)

    @property
    def can_stop(self) -> bool:
        """True if Stop has an effect: a run or the early answers are being generated."""
        return super().can_stop or self.answering
