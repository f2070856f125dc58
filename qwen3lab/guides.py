"""What accompanies one row of a generation: where it thinks, when it is cut, when it ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qwen3lab.chat import early_stop_text, end_ids, single_id

Part = Literal["thinking", "answer"]
Stop = Literal["natural", "budget", "length", "string", "interrupted"]


@dataclass(frozen=True)
class Marks:
    """Token ids that structure a reply.

    Attributes:
        ends: end a reply, such as `<|im_end|>`.
        think: `<think>`, or None for a tokenizer without thinking.
        end_think: `</think>`, or None.
        newline: a line break, as it follows `<think>`.
        early_stop: the early-stop sentence with `</think>` and what follows it.
    """

    ends: frozenset[int]
    think: int | None
    end_think: int | None
    newline: tuple[int, ...]
    early_stop: tuple[int, ...]


def marks_of(tokenizer: Any) -> Marks:
    """The marks of a tokenizer."""
    return Marks(
        ends=end_ids(tokenizer),
        think=single_id(tokenizer, "<think>"),
        end_think=single_id(tokenizer, "</think>"),
        newline=tuple(tokenizer.encode("\n", add_special_tokens=False)),
        early_stop=tuple(tokenizer.encode(early_stop_text(tokenizer), add_special_tokens=False)),
    )


def stop_check(tokenizer: Any, stop: Sequence[str]) -> Callable[[list[int]], bool] | None:
    """Says of an answer's tokens whether their text holds one of the stop strings."""
    if not stop:
        return None
    if not all(isinstance(text, str) and text for text in stop):
        raise ValueError(f"stop is {list(stop)!r}: expected strings that are not empty")
    # A character takes at most four tokens; older ones have been looked at before.
    window = 4 * max(len(text) for text in stop) + 4

    def stopped(token_ids: list[int]) -> bool:
        tail = tokenizer.decode(token_ids[-window:], skip_special_tokens=False)
        return any(text in tail for text in stop)

    return stopped


class ReplyGuide:
    """Follows one reply token by token; cuts its thinking at a budget; ends it.

    A thinking token is one after `<think>` and the line break that opens the block. After
    `budget` of them without `</think>`, the early-stop sentence is inserted and the answer
    follows (Qwen3 technical report, arXiv 2505.09388, section 4.3, "thinking budget").

    Args:
        marks: the tokenizer's structure.
        budget: thinking tokens at most; None for no limit.
        stopped: told the answer's tokens so far, returns True once a stop string is complete.
    """

    def __init__(
        self,
        marks: Marks,
        *,
        budget: int | None = None,
        stopped: Callable[[list[int]], bool] | None = None,
    ) -> None:
        self.marks, self.budget, self.stopped = marks, budget, stopped
        self.token_ids: list[int] = []
        self.part: Part = "answer"
        self.stop: Stop = "length"
        self.ended = False
        self._answer_from = 0
        self.n_thinking = 0
        self._opening = False
        self._cut = False
        self._queue: list[int] = []

    @property
    def answer_ids(self) -> list[int]:
        """What has been written of the answer."""
        return self.token_ids[self._answer_from :]

    def next(self) -> int | None:
        """The token to insert now, or None to draw one."""
        return self._queue.pop(0) if self._queue else None

    def take(self, token_id: int) -> bool:
        """See a token; True if the reply ends with it."""
        self.token_ids.append(token_id)
        self._follow(token_id)
        if token_id in self.marks.ends:
            self.stop, self.ended = "budget" if self._cut else "natural", True
        elif self.part == "answer" and self.stopped and self.stopped(self.answer_ids):
            self.stop, self.ended = "string", True
        return self.ended

    def _follow(self, token_id: int) -> None:
        if token_id == self.marks.think:
            self.part, self._opening = "thinking", True
            if self.budget == 0:
                self._cut_thinking(opened=False)
        elif token_id == self.marks.end_think:
            self.part, self._answer_from = "answer", len(self.token_ids)
        elif self.part == "thinking" and not self._cut:
            self._count(token_id)

    def _count(self, token_id: int) -> None:
        opens = self._opening and (token_id,) == self.marks.newline
        self._opening = False
        self.n_thinking += not opens
        if self.budget is not None and self.n_thinking >= self.budget:
            self._cut_thinking(opened=True)

    def _cut_thinking(self, *, opened: bool) -> None:
        self._cut = True
        self._queue = [*(() if opened else self.marks.newline), *self.marks.early_stop]
