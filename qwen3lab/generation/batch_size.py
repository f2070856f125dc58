"""The number of replies that are generated at once, by memory and by the model's size."""

import os

import torch

from qwen3lab.model.transformer import Qwen3

MAX_REPLIES = 32
"""Of a small model, or on a GPU; more add little speed."""
MAX_REPLIES_LARGE_ON_CPU = 16
"""Of a large model on a CPU, where an interrupt can lose minutes of a batch's thinking.

Measured with the shape of Qwen3-0.6B in bfloat16: a step takes 126 ms for one reply, and for each
of 8, 16 and 32 replies 21, 14 and 11 ms.
"""
LARGE_PARAMETERS = 10**8
"""Active parameters of a large model."""
CACHE_SHARE = 1 / 8
"""Share of the memory beside the weights for the tokens of the KV cache.

The cache allocates up to twice as much, copies itself when it grows, and is copied for answers.
"""
UNKNOWN_MEMORY = 8 * 2**30
"""Bytes that are assumed where the system does not say how much memory there is."""


def most_replies(model: Qwen3) -> int:
    """The number of replies beyond which a larger batch adds little speed."""
    return MAX_REPLIES_LARGE_ON_CPU if _is_slow(model) else MAX_REPLIES


def replies_at_once(model: Qwen3, tokens: int) -> int:
    """The number of replies in a batch; the same in every run on one machine, so that runs resume.

    Args:
        model: that generates.
        tokens: maximum number of tokens of a prompt and its reply.
    """
    config = model.config
    per_token = 2 * config.n_layers * config.n_kv_heads * config.d_head * model.dtype.itemsize
    weights = sum(value.nbytes for value in (*model.parameters(), *model.buffers()))
    fitting = int(CACHE_SHARE * max(_memory(model.device) - weights, 0) / (per_token * tokens))
    return max(1, min(fitting, most_replies(model)))


def _is_slow(model: Qwen3) -> bool:
    return model.device.type == "cpu" and model.config.n_active_params > LARGE_PARAMETERS


def _memory(device: torch.device) -> int:
    """All bytes of the device's memory; what is free may have changed when a run resumes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows.
        return UNKNOWN_MEMORY
