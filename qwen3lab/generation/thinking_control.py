"""What accompanies one row of a generation: where it thinks, when it is cut, when it ends."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qwen3lab.text.chat_template import early_stop_text
from qwen3lab.text.tokenizer import end_ids, single_id

ReplyPart = Literal["thinking", "answer"]
Stop = Literal["natural", "budget", "asked", "length", "string", "interrupted"]


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


@dataclass(frozen=True)
class Extension:
    """Makes a thinking longer: a `</think>` that comes too early is refused.

    In its place a continuation is inserted, and the model thinks on (s1, arXiv 2501.19393,
    section 3.1, "budget forcing").

    Attributes:
        times: how often at most.
        text: the continuation.
        below: only a thinking of fewer tokens than this is too short; any, if None.

    Raises:
        ValueError: a value outside its range.
    """

    times: int = 1
    text: str = "Wait"
    below: int | None = None

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError(f"times is {self.times}: expected 1 or more refusals of </think>")
        if self.below is not None and self.below < 1:
            raise ValueError(f"below is {self.below}: expected 1 or more tokens, or None for any")
        if not self.text:
            raise ValueError("the continuation is empty: expected a text such as “Wait”")


def opens_thinking(prompt_ids: Sequence[int], marks: Marks) -> bool:
    """Whether a prompt ends with a `<think>` of its own, as those of Qwen3-Thinking-2507 do."""
    if marks.think is None or marks.think not in prompt_ids[-1 - len(marks.newline) :]:
        return False
    last = len(prompt_ids) - 1 - list(prompt_ids[::-1]).index(marks.think)
    return tuple(prompt_ids[last + 1 :]) in ((), marks.newline)


class Steering:
    """What a person decides while a reply is being written; safe to call from another thread."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._granted = 0
        self._refusals = 0

    @property
    def stopped(self) -> bool:
        """True once the thinking is to stop."""
        return self._stop.is_set()

    @property
    def granted(self) -> int:
        """Thinking tokens on top of the budget."""
        return self._granted

    @property
    def refusals(self) -> int:
        """How often `</think>` is to be refused."""
        return self._refusals

    def stop_thinking(self) -> None:
        """End the thinking after the token in hand: the early-stop sentence, then the answer."""
        self._stop.set()

    def think_more(self, tokens: int) -> None:
        """Allow so many more thinking tokens than the budget, and refuse the next `</think>`."""
        self._granted += tokens
        self._refusals += 1


class ReplyGuide:
    """Follows one reply token by token; cuts its thinking at a budget; ends it.

    A thinking token is one after `<think>` and the line break that opens the block. After
    `budget` of them without `</think>`, the early-stop sentence is inserted and the answer
    follows (Qwen3 technical report, arXiv 2505.09388, section 4.3, "thinking budget").
    Inserted tokens do not count.

    Args:
        marks: the tokenizer's structure.
        budget: thinking tokens at most; None for no limit.
        stopped: told the answer's tokens so far, returns True once a stop string is complete.
        extension: refuses a `</think>` that comes too early.
        continuation: what is inserted where `</think>` is refused.
        steering: what a person decides meanwhile.
        answer_tokens: of the answer at most, blank ones counted and inserted ones not; None for
            no limit.
        prompt_ids: what the reply follows; it may have opened the thinking.

    Attributes:
        token_ids: what has been written.
        inserted: of each of them, whether it was inserted.
        part: what is being written.
        stop: why it ended, or would if it did now.
        ended: True once it has ended.
        n_thinking: thinking tokens so far.
        refused: how often `</think>` was refused.
        opened: True if the prompt opened the thinking.
    """

    def __init__(
        self,
        marks: Marks,
        *,
        budget: int | None = None,
        stopped: Callable[[list[int]], bool] | None = None,
        extension: Extension | None = None,
        continuation: Sequence[int] = (),
        steering: Steering | None = None,
        answer_tokens: int | None = None,
        prompt_ids: Sequence[int] = (),
    ) -> None:
        self.marks, self.budget, self.stopped = marks, budget, stopped
        self.extension, self.continuation = extension, tuple(continuation)
        self.steering, self.longest_answer = steering, answer_tokens
        self.token_ids: list[int] = []
        self.inserted: list[bool] = []
        self.part: ReplyPart = "answer"
        self.stop: Stop = "length"
        self.ended = False
        self.n_thinking = 0
        self.refused = 0
        self._refused_for_person = 0
        self._answer_from = 0
        self._drawn_answer = 0
        self._opening = False
        self._cut: Stop | None = None
        self._queue: list[int] = []
        self._inserting = False
        self.opened = opens_thinking(prompt_ids, marks)
        if self.opened:
            self._open(has_newline=prompt_ids[-1] != marks.think)

    @property
    def cut_by_budget(self) -> bool:
        """True if the budget ended the thinking."""
        return self._cut == "budget"

    @property
    def answer_ids(self) -> list[int]:
        """What has been written of the answer; nothing while it thinks."""
        return [] if self.part == "thinking" else self.token_ids[self._answer_from :]

    @property
    def inserts(self) -> tuple[int, ...]:
        """The tokens that are going to be inserted next."""
        return tuple(self._queue)

    def next(self, drawn: int) -> int | None:
        """The token to write in place of the one that was drawn, or None to keep that one."""
        if self.part == "thinking" and not self._queue and self._cut is None:
            if self.steering is not None and self.steering.stopped:
                self._cut_thinking("asked")
            elif drawn == self.marks.end_think and self._refuses():
                self.refused += 1
                self._queue = list(self.continuation)
        self._inserting = bool(self._queue)
        return self._queue.pop(0) if self._queue else None

    def take(self, token_id: int, *, inserted: bool = False) -> bool:
        """See a token, which may have been inserted before; True if the reply ends with it."""
        self._inserting = self._inserting or inserted
        self.token_ids.append(token_id)
        self.inserted.append(self._inserting)
        self._follow(token_id)
        self._inserting = False
        if token_id in self.marks.ends:
            self.stop, self.ended = self._cut or "natural", True
        elif self.part == "answer" and self.stopped and self.stopped(self.answer_ids):
            self.stop, self.ended = "string", True
        elif self._is_long():
            self.ended = True
        return self.ended

    def _follow(self, token_id: int) -> None:
        if token_id == self.marks.think:
            self._open(has_newline=False)
        elif token_id == self.marks.end_think:
            self.part, self._answer_from = "answer", len(self.token_ids)
        elif self.part == "answer":
            self._drawn_answer += not self._inserting
        elif self._inserting:
            self._opening = False
        elif self._cut is None and token_id not in self.marks.ends:
            self._count(token_id)

    def _open(self, *, has_newline: bool) -> None:
        self.part, self._opening = "thinking", not has_newline
        if self._allowed() == 0:
            self._cut_thinking("budget")

    def _count(self, token_id: int) -> None:
        opens = self._opening and (token_id,) == self.marks.newline
        self._opening = False
        self.n_thinking += not opens
        allowed = self._allowed()
        if allowed is not None and self.n_thinking >= allowed:
            self._cut_thinking("budget")

    def _allowed(self) -> int | None:
        granted = self.steering.granted if self.steering is not None else 0
        return None if self.budget is None else self.budget + granted

    def _refuses(self) -> bool:
        """Whether a `</think>` is refused now: because a person asked, or because it is early."""
        if not self.continuation:
            return False
        if self.steering is not None and self._refused_for_person < self.steering.refusals:
            self._refused_for_person += 1
            return True
        asked = self.extension
        return (
            asked is not None
            and self.refused - self._refused_for_person < asked.times
            and (asked.below is None or self.n_thinking < asked.below)
        )

    def _is_long(self) -> bool:
        return self.longest_answer is not None and self._drawn_answer >= self.longest_answer

    def _cut_thinking(self, why: Stop) -> None:
        """Insert the early-stop sentence, after the line break where there is none yet."""
        self._cut = why
        self._queue = [*(self.marks.newline if self._opening else ()), *self.marks.early_stop]
