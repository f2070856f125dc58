"""A reply without its recording, as values that JSON can hold."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.generation.reply import Chat
from qwen3lab.generation.thinking_control import Stop
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr


@dataclass(frozen=True)
class SavedReply:
    """The fields of a `Chat`; a number that is not finite is None."""

    prompt_ids: list[int]
    token_ids: list[int]
    tokens: list[str]
    text: str
    stop: Stop
    logprobs: list[float | None]
    entropy: list[float | None]
    forced: list[bool]
    messages: list[dict[str, Any]]
    thinking: str
    answer: str
    thinking_tokens: int
    answer_tokens: int
    spans: dict[str, tuple[int, int]]
    thinking_asked: bool | None


def saved_reply(chat: Chat) -> SavedReply:
    """The fields of a reply."""
    return SavedReply(
        prompt_ids=list(chat.prompt_ids),
        token_ids=list(chat.token_ids),
        tokens=list(chat.tokens),
        text=chat.text,
        stop=chat.stop,
        logprobs=_finite(chat.logprobs),
        entropy=_finite(chat.entropy),
        forced=[bool(each) for each in chat.forced],
        messages=[dict(message) for message in chat.messages],
        thinking=chat.thinking,
        answer=chat.answer,
        thinking_tokens=chat.thinking_tokens,
        answer_tokens=chat.answer_tokens,
        spans={name: (start, end) for name, (start, end) in chat.spans.items()},
        thinking_asked=chat.thinking_asked,
    )


def chat_of(saved: SavedReply, recording: Recording) -> Chat:
    """The reply again.

    Raises:
        ValueError: its parts do not fit each other, or not the recording.
    """
    _check(saved, recording)
    return Chat(
        prompt_ids=saved.prompt_ids,
        token_ids=saved.token_ids,
        tokens=saved.tokens,
        text=saved.text,
        stop=saved.stop,
        logprobs=_tensor(saved.logprobs, -torch.inf),
        entropy=_tensor(saved.entropy, torch.nan),
        forced=torch.tensor(saved.forced, dtype=torch.bool),
        recording=recording,
        messages=[*saved.messages],
        thinking=saved.thinking,
        answer=saved.answer,
        thinking_tokens=saved.thinking_tokens,
        answer_tokens=saved.answer_tokens,
        spans=saved.spans,
        thinking_asked=saved.thinking_asked,
    )


def _check(saved: SavedReply, recording: Recording) -> None:
    n = len(saved.token_ids)
    lists = (saved.tokens, saved.logprobs, saved.entropy, saved.forced)
    if any(len(each) != n for each in lists):
        raise ValueError(tr("its reply has lists of different lengths"))
    ids = [*saved.prompt_ids, *saved.token_ids]
    if recording.token_ids.tolist() != ids[: len(recording)]:
        raise ValueError(tr("its reply has other tokens than the recording"))
    if "prompt" not in saved.spans:
        raise ValueError(tr("its reply has no prompt"))
    for name, (start, end) in saved.spans.items():
        if not 0 <= start <= end <= len(ids):
            raise ValueError(
                tr(
                    "its reply has {name} at tokens {start} to {end} of {n_ids}",
                    name=name,
                    start=start,
                    end=end,
                    n_ids=len(ids),
                )
            )
    if saved.spans["prompt"] != (0, len(saved.prompt_ids)):
        raise ValueError(tr("its reply does not begin after its prompt"))


def _finite(values: Float[Tensor, " token"]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _tensor(values: list[float | None], other: float) -> Float[Tensor, " token"]:
    found = [other if value is None else value for value in values]
    return torch.tensor(found, dtype=torch.float32)
