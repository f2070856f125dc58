"""The fixed prompts of `qwen3lab verify`: English, Chinese, code, and a rendered chat."""

from contextlib import suppress
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from qwen3lab.errors import ChatError
from qwen3lab.lab import Lab

TEXTS = {
    "English": (
        "The river rose in the night, and nobody in the village noticed before the bridge was "
        "gone. Anna counted 17 boats in the morning; the evening before there had been 23."
    ),
    "Chinese": (
        "一只蜘蛛有八条腿，三只蜘蛛有多少条腿？先想一想，再回答。昨天晚上下了大雨，河水涨了很多。"
    ),
    "code": (
        "def total(prices: list[float], rate: float = 0.19) -> float:\n"
        '    """Sum of prices, with tax."""\n'
        "    return sum(price * (1 + rate) for price in prices if price > 0)\n\n\nprint(total(["
    ),
}
QUESTION = "A train leaves at 9:40 and arrives at 11:05. How long is the journey? 3+2*7-1=?"
CHAT = "chat"
MAX_PROMPT_TOKENS = 128
"""Longer prompts, as a small vocabulary makes them, are cut."""


@dataclass(frozen=True)
class Run:
    """A prompt and the tokens with which our model continues it, greedily.

    Attributes:
        name: "English", "Chinese", "code" or "chat".
        ids: the prompt and the new tokens but the last.
        n_prompt: length of the prompt.
        written: the new tokens.
    """

    name: str
    ids: Int[Tensor, "1 pos"]
    n_prompt: int
    written: tuple[int, ...]


def prompt_ids(lab: Lab) -> dict[str, list[int]]:
    """Token ids of every prompt by name; the chat is rendered with thinking.

    A model without a chat template has no chat.
    """
    found = {name: lab.token_ids(text) for name, text in TEXTS.items()}
    with suppress(ChatError):
        found[CHAT] = lab.token_ids([{"role": "user", "content": QUESTION}], thinking=True)
    return {name: ids[:MAX_PROMPT_TOKENS] for name, ids in found.items()}


def continued(lab: Lab, ids: list[int], name: str, *, tokens: int) -> Run:
    """A prompt with the tokens that our model writes after it, by its own cached decoding.

    Args:
        lab: the model.
        ids: of the prompt.
        name: of the prompt.
        tokens: number of new tokens, at least 1; fewer if the model ends its reply.
    """
    room = lab.config.n_ctx - len(ids)
    written = lab.generate(ids, max_new_tokens=max(1, min(tokens, room))).token_ids
    return Run(name, torch.tensor([[*ids, *written[:-1]]]), len(ids), tuple(written))
