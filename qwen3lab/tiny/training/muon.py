"""Muon: steps along matrices whose singular values are all made about one."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal, for matrices and for stacks of them (experts).

    `torch.optim.Muon` takes no stacks and multiplies in bfloat16, which CPUs without instructions
    for it do about ten times slower than float32: here everything is float32. Steps are as large
    as AdamW's, so that both can share a learning rate.

    Args:
        params: matrices, or stacks of them.
        lr: learning rate.
        weight_decay: of the parameters, decoupled.
        momentum: share of the gradients' mean that is kept from step to step.

    Source: Jordan et al., https://kellerjordan.github.io/posts/muon; the size of a step is that of
    Moonlight (arXiv 2502.16982), equation 4.
    """

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step by the gradients that are there."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            for alike in _by_shape(p for p in group["params"] if p.grad is not None):
                self._turn(alike, **{k: group[k] for k in ("lr", "weight_decay", "momentum")})
        return loss

    def _turn(
        self, alike: list[Parameter], *, lr: float, weight_decay: float, momentum: float
    ) -> None:
        updates = orthogonal(torch.stack([self._onward(p, momentum) for p in alike]))
        size = lr * 0.2 * math.sqrt(max(updates.shape[-2:]))
        for parameter, update in zip(alike, updates, strict=True):
            parameter.mul_(1 - lr * weight_decay).sub_(update, alpha=size)

    def _onward(self, parameter: Parameter, momentum: float) -> Tensor:
        """Nesterov's momentum: the mean of the gradients, a step ahead."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(mean, momentum)


def orthogonal(matrices: Float[Tensor, "*stack row col"]) -> Float[Tensor, "*stack row col"]:
    """Each matrix with its singular values brought to between 0.7 and 1.2, about.

    Source: Newton and Schulz's iteration with the quintic of https://kellerjordan.github.io/posts/muon,
    chosen to be steep at 0 rather than to converge.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def _by_shape(parameters: Iterable[Parameter]) -> Iterator[list[Parameter]]:
    ordered = sorted(parameters, key=lambda parameter: parameter.shape)
    for _, alike in groupby(ordered, key=lambda parameter: parameter.shape):
        yield list(alike)
