"""Checks of a recording that was read from a file against the table of hook points."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

import torch
from jaxtyping import Int
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display.plain import one_line
from qwen3lab.hooks.points import hook_names
from qwen3lab.storage.checked_tensors import digest_of

EXPERTS = "hook_expert_indices"


class Layout(NamedTuple):
    """Dtype and shape of a tensor in a file, without the batch axis; None for an unknown dtype."""

    dtype: torch.dtype | None
    shape: tuple[int, ...]


def check_layouts(
    tensors: Mapping[str, Layout], config: Qwen3Config, n_tokens: int, *, k: int | None = None
) -> None:
    """Check the names, dtypes and shapes of activations; it needs no values.

    Args:
        tensors: by hook name, without the batch axis.
        config: of the model that ran.
        n_tokens: number of tokens of the recording.
        k: chosen experts of a token. If None, edits may have changed the model's number, and the
            hooks of each layer must agree on it.

    Raises:
        ValueError: one does not fit; the message names it.
    """
    known, sizes = hook_names(config), _sizes(config, n_tokens)
    for name, value in tensors.items():
        if name not in known:
            raise ValueError(f"{name} is not a hook of its model")
        if not _is_number(value.dtype) or value.dtype.is_floating_point == name.endswith(EXPERTS):
            raise ValueError(f"{name} has dtype {value.dtype}")
        axes = known[name].axes.split()[1:]
        in_layer = _k_of(tensors, name) if k is None else k
        expected = [in_layer if axis == "k" else sizes[axis] for axis in axes]
        matches = (want in (None, size) for want, size in zip(expected, value.shape, strict=False))
        if len(value.shape) != len(axes) or not all(matches) or value.shape[-1:] == (0,):
            shape = ", ".join(str(axes[i] if n is None else n) for i, n in enumerate(expected))
            raise ValueError(f"{name} has shape {tuple(value.shape)} in place of ({shape})")


def _k_of(tensors: Mapping[str, Layout], name: str) -> int | None:
    """Chosen experts of a token in the layer of another hook; None if they were not recorded."""
    experts = f"{name.rpartition('.')[0]}.{EXPERTS}"
    if experts == name or experts not in tensors or not tensors[experts].shape:
        return None
    return tensors[experts].shape[-1]


def check_experts(name: str, value: Tensor, config: Qwen3Config) -> None:
    """Raises `ValueError` if this is a hook of expert indices, and one is out of range."""
    if name.endswith(EXPERTS):
        check_range(name, value, -1, config.n_experts - 1)


def check_token_ids(token_ids: Tensor, config: Qwen3Config) -> None:
    """Raises `ValueError` unless these are token ids of the model's vocabulary."""
    # An empty tensor may have any dtype: torch.tensor([]) is float32.
    is_integer = _is_number(token_ids.dtype) and not token_ids.is_floating_point()
    if token_ids.ndim != 1 or not (is_integer or not len(token_ids)):
        raise ValueError(f"token_ids has shape {tuple(token_ids.shape)}, dtype {token_ids.dtype}")
    check_range("token_ids", token_ids, 0, config.d_vocab - 1)


def check_range(name: str, values: Int[Tensor, "*any"], least: int, greatest: int) -> None:
    """Raises `ValueError` for the first value outside of a range."""
    outside = values[(values < least) | (values > greatest)]
    if len(outside):
        raise ValueError(f"{name} holds {int(outside[0])}: expected {least} to {greatest}")


def checked_texts(tokens: Any) -> list[str]:
    """The texts of the tokens.

    Raises:
        ValueError: it is not a list of strings.
    """
    if not isinstance(tokens, list) or not all(isinstance(text, str) for text in tokens):
        raise ValueError("tokens is not a list of strings")
    return tokens


def checked_spans(spans: Any, n_tokens: int) -> dict[str, tuple[int, int]]:
    """The named ranges of tokens.

    Raises:
        ValueError: one has no two integer ends, or leaves the tokens.
    """
    if not isinstance(spans, dict):
        raise ValueError("spans is not a mapping")
    checked = {}
    for name, ends in spans.items():
        integers = isinstance(ends, list) and all(type(end) is int for end in ends)
        if not integers or len(ends) != 2 or not 0 <= ends[0] <= ends[1] <= n_tokens:
            raise ValueError(f"span {name} is {one_line(str(ends), width=40)} of {n_tokens} tokens")
        checked[name] = (ends[0], ends[1])
    return checked


def check_digests(tensors: Mapping[str, Tensor], digests: Any) -> None:
    """Check each tensor against its digest; format 1 has them, or none.

    Raises:
        ValueError: a tensor is not the one that was saved; the message names it.
    """
    if digests is None:
        return
    if not isinstance(digests, dict) or digests.keys() != tensors.keys():
        raise ValueError("its tensors are not those that were saved")
    for name, value in tensors.items():
        if digests[name] != digest_of(name, value):
            raise ValueError(f"{name} has other values than were saved")


def _is_number(dtype: torch.dtype | None) -> TypeGuard[torch.dtype]:
    return dtype is not None and dtype != torch.bool and not dtype.is_complex


def _sizes(config: Qwen3Config, n_tokens: int) -> dict[str, int]:
    return {
        **{name: getattr(config, name) for name in ("d_model", "d_head", "d_mlp")},
        **dict.fromkeys(("pos", "query", "key"), n_tokens),
        "head": config.n_heads,
        "kv_head": config.n_kv_heads,
        "expert": config.n_experts,
        "vocab": config.d_vocab,
        "1": 1,
    }
