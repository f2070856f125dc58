"""Layouts in which serving engines export the experts of each token, decoded and checked.

vLLM (`enable_return_routed_experts`) counts the layers with experts, and gives int16 arrays
[token, layer, k]: one for the prompt and one for the reply, or one for both without the last token,
which no pass has read. Over HTTP they are nested lists, or an object with base64 data, dtype and
shape. SGLang (`return_routed_experts`) gives base64 of flat int32 over all layers of the model, the
dense ones among them, without the last token.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Integer

from qwen3lab.config.qwen3_config import Qwen3Config

DTYPES = ("uint8", "int8", "int16", "uint16", "int32", "int64")
MAX_VALUES = 2**31
NONE = -1


@dataclass(frozen=True)
class EngineRoutes:
    """The routes of one text.

    Attributes:
        token_ids: of prompt and reply.
        experts: of the layers with experts; -1 where the engine gave none.
    """

    token_ids: list[int]
    experts: Int[np.ndarray, "layer token k"]


def from_vllm(fields: Mapping[str, Any], config: Qwen3Config) -> EngineRoutes:
    """Routes of one output of vLLM.

    Args:
        fields: `prompt_token_ids`, `token_ids` of the reply, `routed_experts`, and optionally
            `prompt_routed_experts` and `routed_experts_prompt_start`.
        config: of the model.

    Raises:
        ValueError: the routes do not fit the tokens or the model.
    """
    prompt, reply = _ids(fields, "prompt_token_ids"), _ids(fields, "token_ids", optional=True)
    layers = len(config.moe_layers)
    start = _start(fields.get("routed_experts_prompt_start"), len(prompt))
    arrays = [
        _array(fields[name], name)
        for name in ("prompt_routed_experts", "routed_experts")
        if fields.get(name) is not None
    ]
    for array in arrays:
        _check_shape(array.shape, (None, layers, config.n_experts_per_token))
    if not arrays:
        raise ValueError("it has no routed_experts")
    if len(arrays) == 2 and len(arrays[0]) != len(prompt) - start:
        raise ValueError(
            f"prompt_routed_experts has {len(arrays[0])} rows for {len(prompt)} tokens of the "
            "prompt: a prefix cache may have cut it; give routed_experts_prompt_start"
        )
    return _placed([*prompt, *reply], np.concatenate(arrays), start, config)


def from_sglang(fields: Mapping[str, Any], config: Qwen3Config) -> EngineRoutes:
    """Routes of one reply of SGLang.

    Args:
        fields: `prompt_token_ids`, `output_ids`, and `meta_info` with `routed_experts`.
        config: of the model.

    Raises:
        ValueError: the routes do not fit the tokens or the model.
    """
    meta = fields.get("meta_info")
    if not isinstance(meta, Mapping) or not isinstance(meta.get("routed_experts"), str):
        raise ValueError("its meta_info has no text of base64 in routed_experts")
    ids = [*_ids(fields, "prompt_token_ids"), *_ids(fields, "output_ids", optional=True)]
    flat = np.frombuffer(_bytes(meta["routed_experts"]), "<i4")
    size = config.n_layers * config.n_experts_per_token
    if len(flat) % size:
        raise ValueError(
            f"routed_experts has {len(flat)} values, which is no multiple of {config.n_layers} "
            f"layers times {config.n_experts_per_token} experts"
        )
    array = flat.reshape(-1, config.n_layers, config.n_experts_per_token)
    return _placed(ids, array[:, list(config.moe_layers)], 0, config)


def _placed(
    token_ids: list[int], array: np.ndarray, start: int, config: Qwen3Config
) -> EngineRoutes:
    """The routes at their tokens; the last token may lack one, as it was not read."""
    n = len(token_ids)
    if not n - 1 <= start + len(array) <= n:
        raise ValueError(
            f"there are routes of {len(array)} tokens from token {start} on, and {n} tokens: a "
            "prefix cache may have cut them; give routed_experts_prompt_start"
        )
    outside = [each for each in token_ids if not 0 <= each < config.d_vocab]
    if outside:
        raise ValueError(f"token {outside[0]} does not exist in a vocabulary of {config.d_vocab}")
    experts = np.full((n, *array.shape[1:]), NONE, np.int64)
    experts[start : start + len(array)] = array
    _check_experts(experts, config)
    return EngineRoutes(token_ids, experts.transpose(1, 0, 2))


def _check_experts(experts: np.ndarray, config: Qwen3Config) -> None:
    """Blank tokens without routes, and refuse routes that no router gives.

    Engines write zeros or -1 where they have nothing: for cached or unread tokens.
    """
    k = experts.shape[2]
    is_blank = (experts == NONE).all(axis=2)
    if k > 1:  # One expert 0 can be a choice; k equal ones cannot.
        is_blank |= (experts == 0).all(axis=2)
    partly = is_blank.any(axis=1) & ~is_blank.all(axis=1)
    if partly.any():
        token = int(partly.nonzero()[0][0])
        layer = config.moe_layers[int(is_blank[token].nonzero()[0][0])]
        raise ValueError(f"token {token} has no experts in layer {layer}, and has some in others")
    experts[is_blank] = NONE
    known = experts[~is_blank.all(axis=1)]
    wrong = known[(known < 0) | (known >= config.n_experts)]
    if wrong.size:
        raise ValueError(
            f"expert {int(wrong[0])} does not exist: a layer has experts 0 to "
            f"{config.n_experts - 1}"
        )
    in_order = np.sort(known, axis=2)
    if (in_order[..., 1:] == in_order[..., :-1]).any():
        raise ValueError("a token is routed to the same expert twice")
    if not known.size:
        raise ValueError("none of its tokens has a route")


def _array(value: Any, name: str) -> Integer[np.ndarray, "token layer k"]:
    """An array of the Python interface, or what HTTP makes of it."""
    if isinstance(value, Mapping):
        shape, dtype = value.get("shape"), value.get("dtype")
        if dtype not in DTYPES or shape is None or not _is_shape(shape):
            raise ValueError(f"{name} has no known dtype and shape: {dtype!s:.20}, {shape!r:.40}")
        found = np.frombuffer(_bytes(value.get("data")), np.dtype(dtype).newbyteorder("<"))
        if found.size != int(np.prod(shape, dtype=np.int64)):
            raise ValueError(f"{name} has {found.size} values, and its shape is {shape}")
        return found.reshape(shape)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} has rows of different lengths") from error
    if array.dtype.kind not in "iu" or array.ndim != 3:
        raise ValueError(
            f"{name} has dtype {array.dtype} and {array.ndim} axes: expected integers with the "
            "axes token, layer, k"
        )
    return array


def _is_shape(shape: Any) -> bool:
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) != 3:
        return False
    return all(type(n) is int and 0 <= n < MAX_VALUES for n in shape)


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ValueError("its data are no text of base64")
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"its data are no base64 ({error})") from error
    return found


def _check_shape(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> None:
    if len(shape) != 3 or any(b not in (None, a) for a, b in zip(shape, expected, strict=True)):
        raise ValueError(
            f"its routes have the shape {shape}: the model has {expected[1]} layers with experts, "
            f"and {expected[2]} experts for a token"
        )


def _ids(fields: Mapping[str, Any], name: str, *, optional: bool = False) -> list[int]:
    value = fields.get(name)
    if value is None and optional:
        return []
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str):
        raise ValueError(f"it has no list of token ids in {name!r}")
    ids = [int(each) for each in value if isinstance(each, int | np.integer)]
    if len(ids) != len(value) or (not ids and not optional):
        raise ValueError(f"{name!r} is no list of token ids")
    return ids


def _start(value: Any, n_prompt: int) -> int:
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= n_prompt:
        raise ValueError(f"routed_experts_prompt_start is {value!r:.20}: expected 0 to {n_prompt}")
    return value
