"""The verdict on an answer, and the answers that are no number or no head."""

import html
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from qwen3lab.arguments import is_whole
from qwen3lab.exercises import progress
from qwen3lab.translation import later, tr

NO_ANSWER = later(
    "No answer yet: replace None with your answer and run the cell again; hint=1 gives a hint."
)
HINTS = 3
"""Each exercise has so many: what to look at, how to find it, and the answer."""

T = TypeVar("T")


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and why.

    Attributes:
        solved: True, False, or None without an answer.
        reason: one or two sentences; code stands between backticks.
    """

    solved: bool | None
    reason: str

    def __repr__(self) -> str:
        return tr("{mark} {reason}", mark=self._mark(), reason=self.reason)

    def _repr_html_(self) -> str:
        hue = {True: "#009e73", False: "#d55e00", None: "#6a737d"}[self.solved]
        # Mixed with the page's text colour for contrast on light and dark pages.
        colour = f"color-mix(in srgb, {hue} 65%, currentcolor)"
        reason = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(self.reason))
        mark = f'<b style="color: {colour}">{self._mark()}</b>'
        return tr("{mark} {reason}", mark=mark, reason=reason)

    def _mark(self) -> str:
        return {True: tr("Right."), False: tr("Not yet."), None: "…"}[self.solved]


@dataclass(frozen=True)
class Answer:
    """What a student gave to an exercise.

    Attributes:
        name: of the exercise.
        given: the answer; None for none.
        hint: number of the hint that is asked for; 0 for none.
    """

    name: str
    given: object
    hint: int = 0

    def judged(
        self, judge: Callable[[T], Verdict], read: Callable[[object], T | Verdict], *hints: str
    ) -> Verdict:
        """The hint or the verdict that is shown, entered into the student's progress.

        Args:
            judge: the verdict on an answer that could be read.
            read: the answer as the exercise needs it, or the verdict on one that is none.
            hints: what to look at, how to find it, and the answer.
        """
        if not 0 <= self.hint <= len(hints):
            text = tr("There is no hint {hint}: give hint=1, 2 or 3.", hint=self.hint)
            return Verdict(None, text)
        if self.given is None:
            return self._hinted(hints)
        read_answer = read(self.given)
        if isinstance(read_answer, Verdict):
            return read_answer
        verdict = judge(read_answer)
        progress.note(self.name, hint=self.hint, solved=bool(verdict.solved))
        return verdict

    def _hinted(self, hints: Sequence[str]) -> Verdict:
        if self.hint == 0:
            return Verdict(None, tr(NO_ANSWER))
        progress.note(self.name, hint=self.hint)
        text = hints[self.hint - 1]
        hint = tr("Hint {n} of {all}: {text}", n=self.hint, all=len(hints), text=text)
        return Verdict(None, hint)


def whole_number(answer: object) -> int | Verdict:
    """The answer as an integer, or the verdict on an answer that is not one."""
    if is_whole(answer):
        return operator.index(cast(Any, answer))
    return Verdict(
        False, tr("{answer} is not an integer: give one, as in answer=3.", answer=repr(answer))
    )


def layer_and_head(answer: object) -> tuple[int, int] | Verdict:
    """The answer as layer and head, or the verdict on an answer that is not a pair."""
    if isinstance(answer, list | tuple) and len(answer) == 2 and all(map(is_whole, answer)):
        return operator.index(answer[0]), operator.index(answer[1])
    text = tr(
        "{answer} is not a head: give layer and head, as in answer=(3, 1).", answer=repr(answer)
    )
    return Verdict(False, text)


def text_of(answer: object) -> str | Verdict:
    """The answer as a text that is not empty, or the verdict on one that is not."""
    if isinstance(answer, str) and answer.strip():
        return answer.strip()
    return Verdict(
        False,
        tr(
            "{answer} is not a text: give one in quotes, as in answer='7*8=?'.", answer=repr(answer)
        ),
    )


def missing_head(layer: int, head: int, layers: Sequence[int], n_heads: int) -> Verdict | None:
    """The verdict on a head that the model does not have, which notices layer and head swapped."""
    if layer in layers and 0 <= head < n_heads:
        return None
    said = tr(
        "Layer {layer}, head {head} does not exist: layers {first} to {last} have heads 0 to "
        "{most}.",
        layer=layer,
        head=head,
        first=layers[0],
        last=layers[-1],
        most=n_heads - 1,
    )
    swapped = head in layers and 0 <= layer < n_heads
    return Verdict(False, f"{said} {tr('The layer comes first.')}" if swapped else said)


def missing_expert(expert: int, n_experts: int) -> Verdict | None:
    """The verdict on an expert that does not exist; None if it does."""
    if 0 <= expert < n_experts:
        return None
    said = tr(
        "Expert {expert} does not exist: there are experts 0 to {last}.",
        expert=expert,
        last=n_experts - 1,
    )
    return Verdict(False, said)
