"""The verdict on an answer, and the answers that are no number or no head."""

import html
import operator
from dataclasses import dataclass
from typing import Any, cast

from qwen3lab.arguments import is_whole

NO_ANSWER = "No answer yet: replace None with your answer and run the cell again."


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and why.

    Attributes:
        solved: True, False, or None without an answer.
        reason: one sentence.
    """

    solved: bool | None
    reason: str

    def __repr__(self) -> str:
        return f"{self._mark()} {self.reason}"

    def _repr_html_(self) -> str:
        hue = {True: "#009e73", False: "#d55e00", None: "#6a737d"}[self.solved]
        # Mixed with the page's text colour for contrast on light and dark pages.
        colour = f"color-mix(in srgb, {hue} 65%, currentcolor)"
        return f'<b style="color: {colour}">{self._mark()}</b> {html.escape(self.reason)}'

    def _mark(self) -> str:
        return {True: "Right.", False: "Not yet.", None: "…"}[self.solved]


def number_of(answer: object) -> int | Verdict:
    """The answer as an integer, or the verdict on an answer that is not one."""
    if answer is None:
        return Verdict(None, NO_ANSWER)
    if is_whole(answer):
        return operator.index(cast(Any, answer))
    return Verdict(False, f"{answer!r} is not an integer: give one, as in answer=3.")


def head_of(answer: object) -> tuple[int, int] | Verdict:
    """The answer as layer and head, or the verdict on an answer that is not a pair."""
    if answer is None:
        return Verdict(None, NO_ANSWER)
    if isinstance(answer, list | tuple) and len(answer) == 2 and all(map(is_whole, answer)):
        return operator.index(answer[0]), operator.index(answer[1])
    return Verdict(False, f"{answer!r} is not a head: give layer and head, as in answer=(3, 1).")
