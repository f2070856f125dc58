"""State of the thinking explorer."""

import traitlets

from qwen3lab.widgets.explorers.state import ExplorerState, Result


class ThinkingState(ExplorerState):
    """State of an explorer, with a marker in the thinking and the early answers.

    Attributes:
        refused: how many times the latest run replaced `</think>` by "Wait".
        marker: number of thinking tokens kept; -1 before the first run has ended.
        steps: the thinking, as `Piece`s.
        thoughts: the tokens of each step, as `Thought`s.
        answers: early answers, by the number of thinking tokens kept.
        direct_reply: the reply to the same question without thinking, or None.
        answering: True while early answers are generated.
        asking: number of thinking tokens kept for the answer generated now; -1 for none.
        answer_error: why the last early answers failed, or empty.
        pace: seconds that one token of the latest run took; 0 before the first.
    """

    refused = traitlets.Int(0)
    marker = traitlets.Int(-1)
    steps = traitlets.Tuple()
    thoughts = traitlets.Tuple()
    answers = traitlets.Any({})
    direct_reply = Result(None)
    answering = traitlets.Bool(False)
    asking = traitlets.Int(-1)
    answer_error = traitlets.Unicode()
    pace = traitlets.Float(0.0)

    @property
    def can_stop(self) -> bool:
        """True if Stop has an effect: a run or the early answers are being generated."""
        return super().can_stop or self.answering
