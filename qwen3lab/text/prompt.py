"""Converts prompts (text, chat messages or token ids) to validated token ids."""

from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex

from jaxtyping import Int
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.text.chat_template import Message, render_ids, thinking_mode

Prompt = str | Sequence[Message] | Sequence[SupportsIndex] | Int[Tensor, " token"]
"""Plain text, chat messages (rendered with the chat template), or token ids."""


def prompt_ids(
    tokenizer: Any, config: Qwen3Config, prompt: Prompt, *, thinking: bool | None = None
) -> list[int]:
    """A prompt as token ids; chat messages are rendered with the chat template.

    Args:
        tokenizer: of the model.
        config: of the model; gives the vocabulary size and the context length.
        prompt: text, chat messages or token ids.
        thinking: for chat messages, whether the reply starts with a thinking block.

    Raises:
        ValueError: an empty prompt, an unknown token, or more tokens than the context length.
    """
    return checked(_encoded(tokenizer, prompt, thinking), config)


def _encoded(tokenizer: Any, prompt: Prompt, thinking: bool | None) -> list[int]:
    if isinstance(prompt, str):
        return tokenizer.encode(prompt, add_special_tokens=False)
    if isinstance(prompt, Tensor):
        return prompt.flatten().tolist()
    messages = [part for part in prompt if isinstance(part, Mapping)]
    if messages and len(messages) == len(prompt):
        return render_ids(tokenizer, messages, thinking=thinking_mode(messages, thinking))
    ids = [int(part) for part in prompt if isinstance(part, SupportsIndex)]
    if len(ids) != len(prompt):
        raise ValueError("the prompt mixes kinds: give text, chat messages, or token ids")
    return ids


def checked(ids: list[int], config: Qwen3Config) -> list[int]:
    """The ids unchanged.

    Raises:
        ValueError: no ids, an id outside the vocabulary, or more ids than the context length.
    """
    if not ids:
        raise ValueError("the prompt is empty: give text, chat messages or token ids")
    invalid = next((token for token in ids if not 0 <= token < config.d_vocab), None)
    if invalid is not None:
        raise ValueError(
            f"token {invalid} does not exist: the vocabulary has tokens 0 to {config.d_vocab - 1}"
        )
    if len(ids) > config.n_ctx:
        raise ValueError(
            f"the prompt has {len(ids)} tokens and the context holds {config.n_ctx}: shorten it"
        )
    return ids
