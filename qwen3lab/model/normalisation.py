"""RMSNorm: fused where nothing looks inside, in named steps where a tap does."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from qwen3lab.device.dtypes import at_least_float32
from qwen3lab.hooks.taps import NO_TAP, Tap


class RMSNorm(nn.Module):
    """Divide by the root mean square, in float32, then multiply by a learned weight."""

    def __init__(self, size: int, eps: float, name: str = "", **options) -> None:
        super().__init__()
        self.name, self.eps = name, eps
        self.weight = nn.Parameter(torch.ones(size, **options))

    def forward(
        self, x: Float[Tensor, "*any size"], tap: Tap = NO_TAP
    ) -> Float[Tensor, "*any size"]:
        return self.weight * rms_normalise(x, self.eps, self.name, tap)


def rms_normalise(
    x: Float[Tensor, "*any size"], eps: float, name: str, tap: Tap
) -> Float[Tensor, "*any size"]:
    """Divide by the root mean square in float32, and cast back before any weight is applied.

    The cast comes before the multiplication by the weight, as in `transformers`.

    Args:
        x: activations; the last axis is normalised.
        eps: added to the mean square.
        name: prefix of the hook names `hook_scale` and `hook_normalized`.
        tap: receives scale and normalised activations.
    """
    scale_name, normalised_name = f"{name}.hook_scale", f"{name}.hook_normalized"
    fused = x.is_cuda or (torch.is_grad_enabled() and x.dtype == torch.float32)
    if fused and not (tap.wants(scale_name) or tap.wants(normalised_name)):
        return F.rms_norm(x, x.shape[-1:], eps=eps)
    wide = x.to(at_least_float32(x.dtype))
    scale = tap(scale_name, (wide.square().mean(dim=-1, keepdim=True) + eps).sqrt())
    return tap(normalised_name, (wide / scale).to(x.dtype))
