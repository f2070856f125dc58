"""What a generation gives back: tokens, text, and where the thinking ends and the answer begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from qwen3lab.generation.reply_display import (
    chat_html,
    chat_line,
    generation_html,
    generation_line,
)
from qwen3lab.generation.thinking_control import Marks, ReplyPart, Stop
from qwen3lab.recording.recording import Recording
from qwen3lab.text.chat_template import Message


@dataclass(frozen=True)
class ChatStep:
    """One token as it streams.

    Attributes:
        token_id: of the token.
        text: what it adds to the reply; empty for marks and for unfinished characters.
        part: "thinking" or "answer".
        logprob: the model's log-probability of it, nats.
        entropy: of the model's next-token distribution, nats.
        forced: True if it was inserted by the thinking budget.
        row: which of several prompts it belongs to.
    """

    token_id: int
    text: str
    part: ReplyPart
    logprob: float
    entropy: float
    forced: bool
    row: int = 0


@dataclass(frozen=True)
class Generation:
    """A prompt and what the model wrote after it.

    Attributes:
        prompt_ids: the tokens that the model was given.
        token_ids: the tokens that it wrote.
        tokens: their text, one readable string each.
        text: all of it, without the token that ends it.
        stop: "natural", "budget", "asked" (to stop thinking), "length", "string" or "interrupted".
        logprobs: the model's own log-probability of each token, nats, before sampling filters.
        entropy: of its next-token distribution, nats, before sampling filters.
        forced: True where the thinking budget inserted the token.
        recording: of prompt and written tokens, where it was asked for.
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


@dataclass(frozen=True)
class Chat(Generation):
    """A conversation and the model's reply, thinking and answer told apart.

    Attributes:
        messages: the conversation that was replied to.
        thinking: what was written between `<think>` and `</think>`, stripped.
        answer: what was written after it, stripped.
        thinking_tokens: tokens that the model spent on thinking, inserted ones not counted.
        answer_tokens: tokens of the answer.
        spans: first and past-the-end token of "prompt", "thinking" and "answer", counted over
            the whole conversation, as in its recording.
    """

    messages: list[Message]
    thinking: str
    answer: str
    thinking_tokens: int
    answer_tokens: int
    spans: Mapping[str, tuple[int, int]]

    def __repr__(self) -> str:
        return chat_line(self)

    def _repr_html_(self) -> str:
        return chat_html(self)


class Split(NamedTuple):
    """First and past-the-end tokens of a reply's two parts."""

    thinking: tuple[int, int]
    answer: tuple[int, int]


def split_reply(
    token_ids: Sequence[int], tokens: Sequence[str], marks: Marks, *, opened: bool = False
) -> Split:
    """Where a reply thinks and where it answers, blank tokens at the borders left out.

    A reply without `<think>` is all answer, unless the prompt has `opened` the thinking; one
    whose thinking never closes has no answer.
    """
    end = len(token_ids) - bool(token_ids and token_ids[-1] in marks.ends)
    if not opened and marks.think not in token_ids:
        return Split((0, 0), trimmed(tokens, 0, end))
    first = 0 if opened else token_ids.index(marks.think) + 1
    closed = marks.end_think in token_ids[first:]
    close = token_ids.index(marks.end_think, first) if closed else end
    return Split(trimmed(tokens, first, close), trimmed(tokens, min(close + 1, end), end))


def trimmed(tokens: Sequence[str], first: int, end: int) -> tuple[int, int]:
    """A stretch of tokens without the blank ones at its borders."""
    while first < end and not tokens[first].strip():
        first += 1
    while first < end and not tokens[end - 1].strip():
        end -= 1
    return first, end
