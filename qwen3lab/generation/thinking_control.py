"""Control of one reply: tracks its thinking, enforces the thinking budget and detects its end."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qwen3lab.arguments import check_fields, whole
from qwen3lab.text.chat_template import early_stop_text
from qwen3lab.text.tokenizer import end_ids, single_id
from qwen3lab.translation import later, tr

ReplyPart = Literal["thinking", "answer"]
Stop = Literal["natural", "budget", "asked", "length", "string", "interrupted"]

STOP_REASONS = {
    "natural": later("reply ended by the model"),
    "budget": later("thinking budget reached"),
    "asked": later("thinking stopped on request"),
    "length": later("token limit reached"),
    "string": later("stop string generated"),
    "interrupted": later("interrupted"),
}
"""Stop reasons as figures and results show them."""


@dataclass(frozen=True)
class Marks:
    """Token ids that structure a reply.

    Attributes:
        ends: tokens that end a reply, such as `<|im_end|>`.
        think: `<think>`, or None for a tokenizer without thinking.
        end_think: `</think>`, or None.
        newline: the line break after `<think>`.
        early_stop: the early-stop sentence, `</think>` and the line breaks after it.
        starts_blank: True if `early_stop` begins with a line break of its own.
    """

    ends: frozenset[int]
    think: int | None
    end_think: int | None
    newline: tuple[int, ...]
    early_stop: tuple[int, ...]
    starts_blank: bool = False


def marks_of(tokenizer: Any, ends: Iterable[int] = ()) -> Marks:
    """The marks of a tokenizer; `ends` are further tokens that end a reply.

    A thinking block that could be opened but not closed is none.
    """
    sentence = early_stop_text(tokenizer)
    think, end_think = (single_id(tokenizer, token) for token in ("<think>", "</think>"))
    has_both = think is not None and end_think is not None
    return Marks(
        ends=end_ids(tokenizer) | frozenset(ends),
        think=think if has_both else None,
        end_think=end_think if has_both else None,
        newline=tuple(tokenizer.encode("\n", add_special_tokens=False)),
        early_stop=tuple(tokenizer.encode(sentence, add_special_tokens=False)),
        starts_blank=sentence.startswith("\n"),
    )


def stop_strings(stop: object) -> tuple[str, ...]:
    """Stop strings as a tuple; a text is one stop string.

    Raises:
        ValueError: something else than strings that are not empty.
    """
    if stop is None:
        return ()
    listed = [stop] if isinstance(stop, str) or not isinstance(stop, Iterable) else list(stop)
    texts = tuple(text for text in listed if isinstance(text, str) and text)
    if len(texts) < len(listed):
        raise ValueError(
            tr("stop is {listed!r}: expected strings that are not empty", listed=listed)
        )
    return texts


def stop_check(tokenizer: Any, stop: str | Sequence[str]) -> Callable[[list[int]], bool] | None:
    """A function that is True if the text of an answer's tokens contains a stop string."""
    stop = stop_strings(stop)
    if not stop:
        return None
    # A character has at most four tokens; earlier calls have checked the tokens before these.
    window = 4 * max(len(text) for text in stop) + 4

    def stopped(token_ids: list[int]) -> bool:
        tail = tokenizer.decode(token_ids[-window:], skip_special_tokens=False)
        return any(text in tail for text in stop)

    return stopped


@dataclass(frozen=True)
class Extension:
    """Extends the thinking: an early `</think>` is refused.

    A continuation is inserted in its place, and the model continues to think (s1, arXiv
    2501.19393, section 3.1, "budget forcing").

    Attributes:
        times: maximum number of refusals.
        text: the continuation.
        below: `</think>` is early before this many thinking tokens; None means always.

    Raises:
        ValueError: a value of another type, or outside its range.
    """

    times: int = 1
    text: str = "Wait"
    below: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.times < 1:
            raise ValueError(f"times is {self.times}: expected 1 or more refusals of </think>")
        if self.below is not None and self.below < 1:
            raise ValueError(
                tr("below is {below}: expected 1 or more tokens, or None for any", below=self.below)
            )
        if not self.text:
            raise ValueError(tr("the continuation is empty: expected a text such as “Wait”"))


def opens_thinking(prompt_ids: Sequence[int], marks: Marks) -> bool:
    """True if a prompt's last turn has a `<think>` without `</think>`.

    Prompts of Qwen3-Thinking-2507 end with `<think>`; a continued reply may hold begun thinking.
    """
    if marks.think is None:
        return False
    for token in reversed(prompt_ids):
        if token == marks.think:
            return True
        if token == marks.end_think or token in marks.ends:
            return False
    return False


class Steering:
    """Controls the thinking of a reply during generation; safe to call from another thread."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._granted = 0
        self._refusals = 0

    @property
    def stopped(self) -> bool:
        """True after `stop_thinking`."""
        return self._stop.is_set()

    @property
    def granted(self) -> int:
        """Thinking tokens added to the budget."""
        return self._granted

    @property
    def refusals(self) -> int:
        """Number of `</think>` to refuse."""
        return self._refusals

    def stop_thinking(self) -> None:
        """Insert the early-stop sentence after the current token; the answer follows."""
        self._stop.set()

    def think_more(self, tokens: int) -> None:
        """Add this many tokens to the thinking budget and refuse the next `</think>`.

        Raises:
            ValueError: `tokens` is no integer of 0 or more.
        """
        self._granted += whole(tokens, "tokens", least=0)
        self._refusals += 1


class ReplyGuide:
    """Processes one reply token by token; enforces the thinking budget and detects the end.

    Thinking tokens are the tokens after `<think>` and the line break behind it. After `budget`
    thinking tokens without `</think>`, the early-stop sentence is inserted and the answer
    follows (Qwen3 technical report, arXiv 2505.09388, section 4.3, "thinking budget").
    Inserted tokens do not count. The budget is that of the whole reply: a later `<think>` uses what
    is left of it.

    Args:
        marks: structural tokens of the tokenizer.
        budget: maximum number of thinking tokens; None for no limit.
        stopped: gets the answer's tokens, returns True if they contain a stop string.
        extension: refuses an early `</think>`.
        continuation: tokens that replace a refused `</think>`.
        steering: ends or extends the thinking from another thread.
        answer_tokens: maximum number of answer tokens, including blank but not inserted ones;
            None for no limit.
        prompt_ids: tokens before the reply; they may have opened the thinking.

    Attributes:
        token_ids: tokens so far.
        inserted: True for each of these tokens that was inserted.
        part: "thinking" or "answer", of the next token.
        stop: the stop reason; "length" until the reply has ended.
        ended: True after the last token of the reply.
        n_thinking: number of thinking tokens so far.
        refused: number of refused `</think>`.
        max_new_tokens: maximum number of tokens of the reply; None for no limit.
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
        self.steering, self.max_answer_tokens = steering, answer_tokens
        self.token_ids: list[int] = []
        self.inserted: list[bool] = []
        self.part: ReplyPart = "answer"
        self.stop: Stop = "length"
        self.ended = False
        self.n_thinking = 0
        self.refused = 0
        self.max_new_tokens: int | None = None
        self._refused_by_steering = 0
        self._answer_start = 0
        self._n_answer = 0
        self._opening = False
        self._cut: Stop | None = None
        self._queue: list[int] = []
        self._choice: int | None = None
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
        """Tokens of the answer so far; empty during the thinking."""
        return [] if self.part == "thinking" else self.token_ids[self._answer_start :]

    @property
    def inserts(self) -> tuple[int, ...]:
        """Tokens to insert next."""
        return tuple(self._queue)

    def next(self, drawn: int) -> int | None:
        """The token to insert in place of the sampled one, or None to keep the sampled one."""
        if self._choice is not None:
            chosen, self._choice = self._choice, None
            return chosen
        if self.part == "thinking" and not self._queue:
            if self.steering is not None and self.steering.stopped:
                self._cut_thinking("asked")
            elif drawn == self.marks.end_think and self._refuses():
                self.refused += 1
                self._queue = list(self.continuation)
        self._inserting = bool(self._queue)
        return self._queue.pop(0) if self._queue else None

    def take(self, token_id: int, *, inserted: bool = False) -> bool:
        """Process a token; True if it ends the reply.

        Args:
            token_id: sampled or inserted.
            inserted: True for an inserted token that is replayed without `next`.
        """
        self._inserting = self._inserting or inserted
        self.token_ids.append(token_id)
        self.inserted.append(self._inserting)
        self._follow(token_id)
        self._inserting = False
        if token_id in self.marks.ends:
            self.stop, self.ended = self._cut or "natural", True
        elif self.part == "answer" and self.stopped and self.stopped(self.answer_ids):
            self.stop, self.ended = "string", True
        elif self._is_too_long():
            self.ended = True
        return self.ended

    def replay(self, token_id: int, *, inserted: bool, cut: Stop) -> None:
        """Process a token of a reply that is written on, in place of `next` and `take`.

        Args:
            token_id: of the token; it does not end the reply.
            inserted: True if it was inserted.
            cut: why an early stop that this guide would not insert was inserted.
        """
        if inserted and not self._queue and self.part == "thinking":
            self._expect(token_id, cut)
        if inserted and self._queue[:1] == [token_id]:
            del self._queue[0]
        self.take(token_id, inserted=inserted)
        self.ended, self.stop = False, "length"
        if not inserted and self.part == "answer":
            self._queue = []

    def choose(self, token_id: int, *, inserted: bool, cut: Stop) -> bool:
        """Take this token next, in place of a sampled or an inserted one.

        It counts as a sampled token. The rest of an insertion is left out, unless the token is the
        one that is inserted next.

        Args:
            token_id: of the token.
            inserted: True if the same token was inserted here before.
            cut: as in `replay`.

        Returns:
            False if the token is inserted anyway.
        """
        if inserted and not self._queue and self.part == "thinking":
            self._expect(token_id, cut)
        if self._queue[:1] == [token_id]:
            return False
        self._queue, self._choice = [], token_id
        return True

    def _expect(self, token_id: int, cut: Stop) -> None:
        """Find the insertion that begins with a token: a refusal of `</think>`, or a stop."""
        if self.continuation[:1] == (token_id,):
            self.refused += 1
            self._queue = list(self.continuation)
        elif self._early_stop()[:1] == [token_id]:
            self._cut_thinking(cut)

    def _follow(self, token_id: int) -> None:
        if token_id == self.marks.think and self.part == "answer":
            self._open(has_newline=False)
        elif token_id == self.marks.end_think:
            self.part, self._answer_start = "answer", len(self.token_ids)
        elif self.part == "answer":
            self._n_answer += not self._inserting
        elif self._inserting:
            self._opening = False
        elif token_id not in self.marks.ends:
            self._count(token_id)

    def _open(self, *, has_newline: bool) -> None:
        self.part, self._opening = "thinking", not has_newline
        self._check_budget()

    def _count(self, token_id: int) -> None:
        opens = self._opening and (token_id,) == self.marks.newline
        self._opening = False
        self.n_thinking += not opens
        self._check_budget()

    def _check_budget(self) -> None:
        allowed = self._allowed()
        if allowed is not None and self.n_thinking >= allowed:
            self._cut_thinking("budget")

    def _allowed(self) -> int | None:
        granted = self.steering.granted if self.steering is not None else 0
        return None if self.budget is None else self.budget + granted

    def _refuses(self) -> bool:
        """True if a `</think>` is refused now, by `steering` or by `extension`."""
        if not self.continuation:
            return False
        if self.steering is not None and self._refused_by_steering < self.steering.refusals:
            self._refused_by_steering += 1
            return True
        extension = self.extension
        return (
            extension is not None
            and self.refused - self._refused_by_steering < extension.times
            and (extension.below is None or self.n_thinking < extension.below)
        )

    def _is_too_long(self) -> bool:
        if self.max_new_tokens is not None and len(self.token_ids) >= self.max_new_tokens:
            return True
        return self.max_answer_tokens is not None and self._n_answer >= self.max_answer_tokens

    def _cut_thinking(self, why: Stop) -> None:
        """Insert the early-stop sentence, after the line break if `<think>` has none yet."""
        self._cut = self._cut or why
        self._queue = self._early_stop()

    def _early_stop(self) -> list[int]:
        needs_newline = self._opening and not self.marks.starts_blank
        return [*(self.marks.newline if needs_newline else ()), *self.marks.early_stop]
