"""Runs each forward pass on as many CPU threads as its size pays for."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.threads import paying_threads

Forward = TypeVar("Forward", bound=Callable[..., Tensor])
Result = TypeVar("Result")


def run_on_paying_threads(
    config: Qwen3Config, device: torch.device, n_tokens: int, run: Callable[[], Result]
) -> Result:
    """What `run`, a pass over `n_tokens`, returns; on a GPU the number of threads stays."""
    if device.type != "cpu":
        return run()
    before = torch.get_num_threads()
    products = config.products_per_token / config.n_layers
    try:
        # The call is in C: Python looks for an interrupt after it, inside of `try`.
        torch.set_num_threads(paying_threads(before, n_tokens, products))
        return run()
    finally:
        torch.set_num_threads(before)


def on_paying_threads(forward: Forward) -> Forward:
    """Decorator of a model's `forward`; inside `torch.compile` it does nothing."""

    @wraps(forward)
    def limited(self: Any, token_ids: Tensor, **options: Any) -> Tensor:
        if torch.compiler.is_compiling():
            return forward(self, token_ids, **options)
        return run_on_paying_threads(
            self.config, self.device, token_ids.numel(), lambda: forward(self, token_ids, **options)
        )

    return cast(Forward, limited)
