"""Runs each forward pass on as many CPU threads as its size pays for."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.threads import paying_threads

Forward = TypeVar("Forward", bound=Callable[..., Tensor])


def threads_of(
    config: Qwen3Config, device: torch.device, n_tokens: int
) -> AbstractContextManager[object]:
    """The threads of one pass over `n_tokens`; on a GPU their number stays as it is."""
    if device.type != "cpu":
        return nullcontext()
    return paying_threads(n_tokens, config.products_per_token / config.n_layers)


def on_paying_threads(forward: Forward) -> Forward:
    """Decorator of a model's `forward`; inside `torch.compile` it does nothing."""

    @wraps(forward)
    def limited(self: Any, token_ids: Tensor, **options: Any) -> Tensor:
        if torch.compiler.is_compiling():
            return forward(self, token_ids, **options)
        with threads_of(self.config, self.device, token_ids.numel()):
            return forward(self, token_ids, **options)

    return cast(Forward, limited)
