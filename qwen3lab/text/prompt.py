"""Decides what a prompt or a batch of prompts can be, and converts it to validated token ids."""

import operator
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.text.chat_template import Message, render_ids
from qwen3lab.text.tokenizer import encode_text
from qwen3lab.translation import later, tr

Prompt = str | Sequence[Message] | Sequence[SupportsIndex] | Int[Tensor, " token"]
"""Plain text, chat messages (rendered with the chat template), or token ids."""

KINDS = later("give text, chat messages, or token ids")


def prompt_ids(
    tokenizer: Any,
    config: Qwen3Config,
    prompt: object,
    *,
    thinking: bool | None = None,
    continue_reply: bool = False,
) -> list[int]:
    """A prompt as token ids; chat messages are rendered with the chat template.

    Args:
        tokenizer: of the model.
        config: of the model; gives the vocabulary size and the context length.
        prompt: a `Prompt`; everything else is refused.
        thinking: the template's `enable_thinking`; None leaves its default. Only chat messages
            have one.
        continue_reply: for chat messages that end with the assistant's: leave that one open.

    Raises:
        ValueError: an empty prompt, an object of another kind, an unknown token, or more tokens
            than the context length.
    """
    ids = unchecked_ids(tokenizer, prompt, thinking=thinking, continue_reply=continue_reply)
    return checked(ids, config)


def unchecked_ids(
    tokenizer: Any,
    prompt: object,
    *,
    thinking: bool | None = None,
    continue_reply: bool = False,
) -> list[int]:
    """A prompt as token ids of any number, which `checked` compares with the model.

    Raises:
        ValueError: an object of another kind.
    """
    if thinking is not None and not is_messages(prompt):
        raise ValueError(
            tr(
                "thinking={thinking!r} sets the chat template, and this prompt is no "
                'conversation: give [{{"role": "user", "content": "..."}}], or leave '
                "thinking out",
                thinking=thinking,
            )
        )
    if isinstance(prompt, str):
        return encode_text(tokenizer, prompt)
    if is_messages(prompt):
        messages: Any = prompt
        return render_ids(tokenizer, messages, thinking=thinking, continue_reply=continue_reply)
    return _given_ids(prompt)


def as_prompts(prompts: object) -> list[Any]:
    """The prompts of a batch as a list; one prompt in place of several is refused.

    Args:
        prompts: an iterable of prompts, or token ids with two dimensions.

    Raises:
        ValueError: one text, one conversation, or one prompt of token ids.
    """
    if isinstance(prompts, Mapping):
        raise ValueError(_about_dict(prompts))
    if isinstance(prompts, str | bytes | Set) or not isinstance(prompts, Iterable):
        raise ValueError(_one_for_several(prompts))
    if isinstance(prompts, Tensor) and prompts.is_meta:
        raise ValueError(tr("the prompts hold no values (device meta): give integer token ids"))
    if isinstance(prompts, Tensor | np.ndarray) and prompts.ndim != 2:
        raise ValueError(_one_for_several(prompts))
    rows = list(prompts)
    if any(isinstance(row, Mapping | int | np.integer) for row in rows):
        raise ValueError(_one_for_several(rows))
    return rows


def _one_for_several(prompts: object) -> str:
    kind = f"one {type(prompts).__name__}"
    if isinstance(prompts, str):
        kind = tr("one text")
    elif isinstance(prompts, list):
        kind = (
            tr("one conversation")
            if isinstance(prompts[0], Mapping)
            else tr("one list of token ids")
        )
    return tr(
        "{kind} stands where a list of prompts is expected: put it in a list, [prompt]",
        kind=kind,
    )


def is_messages(prompt: object) -> bool:
    """True for a conversation: a list of messages, which are mappings."""
    return (
        isinstance(prompt, Sequence)
        and len(prompt) > 0
        and all(isinstance(part, Mapping) for part in prompt)
    )


def _given_ids(prompt: object) -> list[int]:
    """Token ids that were given as such."""
    if isinstance(prompt, Mapping):
        raise ValueError(_about_dict(prompt))
    if isinstance(prompt, Tensor | np.ndarray):
        return _array_ids(prompt)
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes | bytearray | memoryview):
        raise ValueError(
            tr(
                "the prompt is of type {kind}: {kinds}",
                kind=type(prompt).__name__,
                kinds=tr(KINDS),
            )
        )
    if all(type(part) is int for part in prompt):  # The usual case, many times faster.
        return list(prompt)
    return [_one_id(part) for part in prompt]


def _array_ids(prompt: Tensor | np.ndarray) -> list[int]:
    if prompt.ndim != 1:
        raise ValueError(
            tr(
                "the prompt has the shape {shape}: give token ids with one dimension, or "
                "the rows one by one to record_batch",
                shape=tuple(prompt.shape),
            )
        )
    if isinstance(prompt, Tensor) and (prompt.is_meta or prompt.layout != torch.strided):
        kind = tr("holds no values (device meta)") if prompt.is_meta else tr("is sparse")
        raise ValueError(
            tr("the prompt {kind}: give integer token ids in a plain tensor", kind=kind)
        )
    if prompt.shape[0] and not _holds_integers(prompt):
        raise ValueError(
            tr("the prompt has the dtype {dtype}: expected integer token ids", dtype=prompt.dtype)
        )
    return prompt.tolist()


def _holds_integers(array: Tensor | np.ndarray) -> bool:
    if isinstance(array, np.ndarray):
        return array.dtype.kind in "iu"
    return not (array.is_floating_point() or array.is_complex() or str(array.dtype) == "torch.bool")


def _one_id(part: object) -> int:
    if isinstance(part, str):
        raise ValueError(
            tr(
                "the prompt is a list that holds text: give one text, or use "
                "record_batch for several"
            )
        )
    if isinstance(part, Mapping):
        raise ValueError(tr("the prompt mixes kinds: {kinds}", kinds=tr(KINDS)))
    if isinstance(part, Sequence) or getattr(part, "ndim", 0) > 0:
        raise ValueError(
            tr("the prompt is a list of lists: give one list of token ids, or use record_batch")
        )
    is_bool = isinstance(part, bool | np.bool_) or str(getattr(part, "dtype", "")) == "torch.bool"
    try:
        if not is_bool:
            return operator.index(part)  # pyright: ignore[reportArgumentType]
    except TypeError:
        pass
    raise ValueError(
        tr(
            "the prompt mixes kinds or holds no ids ({part!r:.40}): {kinds}",
            part=part,
            kinds=tr(KINDS),
        )
    )


def _about_dict(given: Mapping[Any, Any]) -> str:
    if "input_ids" in given:
        return tr("the prompt is what a tokenizer returned: give one row of its 'input_ids'")
    if "role" in given:
        return tr("the prompt is a single message: put it in a list, [message]")
    return tr("the prompt is a {kind}: {kinds}", kind=type(given).__name__, kinds=tr(KINDS))


def checked(ids: list[int], config: Qwen3Config) -> list[int]:
    """The ids unchanged.

    Raises:
        ValueError: no ids, an id outside the vocabulary, or more ids than the context length.
    """
    if not ids:
        raise ValueError(tr("the prompt is empty: give text, chat messages or token ids"))
    invalid = next((token for token in ids if not 0 <= token < config.d_vocab), None)
    if invalid is not None:
        raise ValueError(
            tr(
                "token {invalid} does not exist: the vocabulary has tokens 0 to {last}",
                invalid=invalid,
                last=config.d_vocab - 1,
            )
        )
    if len(ids) > config.n_ctx:
        raise ValueError(
            tr(
                "the prompt has {n_ids} tokens and the context holds {n_ctx}: shorten it",
                n_ids=len(ids),
                n_ctx=config.n_ctx,
            )
        )
    return ids
