"""The Muon optimiser: momentum updates with all singular values close to one."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from qwen3lab.device.grad_mode import without_grad

NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon for matrices and for stacks of matrices (experts).

    `torch.optim.Muon` does not accept stacks, and it multiplies in bfloat16, which is about ten
    times slower than float32 on CPUs without bfloat16 instructions. The RMS of an update matches
    AdamW, so that both optimisers can share a learning rate.

    Args:
        params: matrices, or stacks of matrices.
        lr: learning rate.
        weight_decay: decoupled weight decay.
        momentum: decay of the moving average of the gradients, from 0 to 1.
        dtype: in which matrices are multiplied; the weights and averages keep their own.

    Source: Jordan et al., https://kellerjordan.github.io/posts/muon; the scale of an update is
    that of Moonlight (arXiv 2502.16982), equation 4.
    """

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dtype = dtype
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @without_grad
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Update all parameters that have a gradient."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            for same_shape in _grouped_by_shape(p for p in group["params"] if p.grad is not None):
                self._update_group(
                    same_shape, **{k: group[k] for k in ("lr", "weight_decay", "momentum")}
                )
        return loss

    def _update_group(
        self, same_shape: list[Parameter], *, lr: float, weight_decay: float, momentum: float
    ) -> None:
        means = torch.stack([self._nesterov_momentum(p, momentum) for p in same_shape])
        updates = orthogonal(means.to(self.dtype)).to(means.dtype)
        size = lr * 0.2 * math.sqrt(max(updates.shape[-2:]))
        for parameter, update in zip(same_shape, updates, strict=True):
            parameter.mul_(1 - lr * weight_decay).sub_(update, alpha=size)

    def _nesterov_momentum(self, parameter: Parameter, momentum: float) -> Tensor:
        """The moving average of the gradients with Nesterov's correction."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(mean, momentum)


def orthogonal(matrices: Float[Tensor, "*stack row col"]) -> Float[Tensor, "*stack row col"]:
    """Each matrix with its singular values moved to about 0.7 to 1.2 and its vectors unchanged.

    Source: Newton-Schulz iteration with the quintic of https://kellerjordan.github.io/posts/muon.
    Its coefficients maximise the slope at 0; the iteration does not converge to 1 exactly.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def _grouped_by_shape(parameters: Iterable[Parameter]) -> Iterator[list[Parameter]]:
    ordered = sorted(parameters, key=lambda parameter: parameter.shape)
    for _, same_shape in groupby(ordered, key=lambda parameter: parameter.shape):
        yield list(same_shape)
