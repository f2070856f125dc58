"""Matrix products in bfloat16 during a training on a CPU with instructions for them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode

MAX_WEIGHT_ROWS = 1024
"""Matrices with more rows, as the unembedding, keep a float32 product in the forward pass: its
rounding would add noise to the logits. The products of its gradients are rounded all the same."""

MIN_TOKENS = 2048
"""Products with fewer tokens stay float32. They are those of the experts, with another number of
tokens each time: the bfloat16 kernel is compiled again for every new shape."""


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 several times faster than of float32."""
    return torch.cpu._is_amx_tile_supported()


class Bfloat16Products(TorchFunctionMode):
    """Inside of this context, linear layers multiply in bfloat16, forward and backward.

    Weights, activations and gradients stay float32; so do all other operations. `torch.autocast`
    would also round the inputs of attention, whose gradient in bfloat16 is slow on a CPU.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.linear:
            return _linear(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _linear(input: Tensor, weight: Tensor, bias: None = None) -> Tensor:
    assert bias is None, "no layer of Qwen3 has a bias"
    n_tokens = input.shape[:-1].numel()
    return F.linear(input, weight) if n_tokens < MIN_TOKENS else _Linear.apply(input, weight)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Float[Tensor, "*any column"], weight: Float[Tensor, "row column"]
    ) -> Float[Tensor, "*any row"]:
        short_x, short_weight = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(short_x, short_weight)
        if len(weight) > MAX_WEIGHT_ROWS:
            return F.linear(x, weight)
        return F.linear(short_x, short_weight).float()

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Float[Tensor, "*any row"]
    ) -> tuple[Float[Tensor, "*any column"], Float[Tensor, "row column"]]:
        x, weight = ctx.saved_tensors
        short = gradient.bfloat16()
        to_x = (short @ weight).float()
        to_weight = short.flatten(0, -2).mT @ x.flatten(0, -2)
        return to_x, to_weight.float()
