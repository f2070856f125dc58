"""Results of generation: tokens, text, and the spans of thinking and answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from jaxtyping import Bool, Float
from torch import Tensor

from qwen3lab.generation.reply_display import (
    chat_html,
    chat_line,
    generation_html,
    generation_line,
)
from qwen3lab.generation.thinking_control import Marks, ReplyPart, Stop
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.recording import Recording
from qwen3lab.text.chat_template import Message


@dataclass(frozen=True)
class ChatStep:
    """One streamed token.

    Attributes:
        token_id: of the token.
        text: text to append to the reply; empty for `<think>`, `</think>`, end tokens and
            incomplete characters.
        part: "thinking" or "answer".
        logprob: the model's log-probability of the token, nats.
        entropy: of the model's next-token distribution, nats.
        forced: True if the token was inserted, not sampled.
        row: index of the prompt in its batch.
    """

    token_id: int
    text: str
    part: ReplyPart
    logprob: float
    entropy: float
    forced: bool
    row: int = 0


@dataclass(frozen=True, eq=False)
class Generation(EqualByValue):
    """A prompt and the generated continuation.

    Attributes:
        prompt_ids: token ids of the prompt.
        token_ids: generated token ids.
        tokens: text of each generated token, one readable string each.
        text: the generated text, without end tokens and stop strings.
        stop: "natural", "budget", "asked" (thinking stopped on request), "length", "string" or
            "interrupted".
        logprobs: the model's log-probability of each token, nats, before sampling filters.
        entropy: of its next-token distribution, nats, before sampling filters.
        forced: True for inserted tokens, such as the early-stop sentence.
        recording: of prompt and generated tokens; None unless `record` was set.
    """

    prompt_ids: list[int]
    token_ids: list[int]
    tokens: list[str]
    text: str
    stop: Stop
    logprobs: Float[Tensor, " token"]
    entropy: Float[Tensor, " token"]
    forced: Bool[Tensor, " token"]
    recording: Recording | None

    def __repr__(self) -> str:
        return generation_line(self)

    def _repr_html_(self) -> str:
        return generation_html(self)


G = TypeVar("G", bound=Generation)


@dataclass(frozen=True, eq=False)
class Chat(Generation):
    """A conversation and the model's reply, split into thinking and answer.

    Attributes:
        messages: the conversation up to the reply.
        thinking: text between `<think>` and `</think>`, stripped.
        answer: text after `</think>`, stripped.
        thinking_tokens: number of thinking tokens, without inserted ones.
        answer_tokens: number of answer tokens.
        spans: first and past-the-end token of "prompt", "thinking" and "answer", as positions in
            the whole conversation and its recording.
        thinking_asked: True if the prompt let the model think; None if that is not known.
        chosen: indices in the reply of tokens that were chosen in place of the sampled ones, by
            `Lab.branch`. They are forced, too, but count as thinking tokens.
    """

    messages: list[Message]
    thinking: str
    answer: str
    thinking_tokens: int
    answer_tokens: int
    spans: Mapping[str, tuple[int, int]]
    thinking_asked: bool | None = None
    chosen: tuple[int, ...] = ()

    @property
    def inserted(self) -> Bool[Tensor, " token"]:
        """True for tokens that were inserted (an early stop, a refusal): forced and not chosen."""
        found = self.forced.clone()
        found[list(self.chosen)] = False
        return found

    def __repr__(self) -> str:
        return chat_line(self)

    def _repr_html_(self) -> str:
        return chat_html(self)


def all_finished(replies: Sequence[G]) -> Sequence[G]:
    """The replies, for a measurement over all of them.

    Raises:
        KeyboardInterrupt: one was interrupted, so the measurement would be of something else.
    """
    if any(reply.stop == "interrupted" for reply in replies):
        raise KeyboardInterrupt
    return replies


class Split(NamedTuple):
    """First and past-the-end tokens of a reply's two parts."""

    thinking: tuple[int, int]
    answer: tuple[int, int]


def split_reply(
    token_ids: Sequence[int], tokens: Sequence[str], marks: Marks, *, opened: bool = False
) -> Split:
    """Spans of thinking and answer in a reply, without blank tokens at their ends.

    A reply without `<think>` is all answer, unless the prompt has `opened` the thinking. A reply
    that thinks again after its first answer thinks up to the last block's `</think>`, as in Qwen's
    template; one whose last block stays open has no answer.
    """
    end = len(token_ids) - bool(token_ids and token_ids[-1] in marks.ends)
    if not opened and marks.think not in token_ids:
        return Split((0, 0), trimmed(tokens, 0, end))
    first = 0 if opened else token_ids.index(marks.think) + 1
    again = [i for i in range(first, len(token_ids)) if token_ids[i] == marks.think]
    last = again[-1] if again else first
    closed = marks.end_think in token_ids[last:]
    close = token_ids.index(marks.end_think, last) if closed else end
    return Split(trimmed(tokens, first, close), trimmed(tokens, min(close + 1, end), end))


def trimmed(tokens: Sequence[str], first: int, end: int) -> tuple[int, int]:
    """A span of tokens without the blank ones at its ends."""
    while first < end and not tokens[first].strip():
        first += 1
    while first < end and not tokens[end - 1].strip():
        end -= 1
    return first, end
