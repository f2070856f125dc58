"""How a router chose, token by token: how open the choice was, how near the next expert."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def router_entropy(
    logits: Float[Tensor, "*places expert"], *, relative: bool = False
) -> Float[Tensor, "*places"]:
    """Entropy of the router's distribution over all experts, in nats.

    Args:
        logits: before the softmax, from `hook_router_logits`.
        relative: as a share of its maximum, the logarithm of the number of experts.

    Returns:
        0 where one expert has it all; log(experts), or 1, where all are alike.
    """
    log_p = logits.float().log_softmax(dim=-1)
    entropy = -(log_p.exp() * log_p.clamp_min(torch.finfo(log_p.dtype).min)).sum(dim=-1)
    return entropy / math.log(logits.shape[-1]) if relative else entropy


def margin(logits: Float[Tensor, "*places expert"], k: int) -> Float[Tensor, "*places"]:
    """Logit of the last chosen expert minus that of the first refused one.

    The probability of the one is exp(margin) times that of the other: near 0 the choice could
    have fallen either way.

    Args:
        logits: before the softmax.
        k: how many experts are chosen.

    Raises:
        ValueError: with this k, none is chosen or none refused.
    """
    n_experts = logits.shape[-1]
    if not 1 <= k < n_experts:
        raise ValueError(
            f"with k = {k} of {n_experts} experts no choice is near another: expected 1 to "
            f"{n_experts - 1}"
        )
    best = logits.float().topk(k + 1, dim=-1).values
    return best[..., k - 1] - best[..., k]


def effective_experts(weights: Float[Tensor, "*places k"]) -> Float[Tensor, "*places"]:
    """How many experts a token is served by in effect: 1 over the sum of squared shares.

    1 where one expert's weight is all that counts; k where all k weigh alike. It does not
    depend on whether the weights were renormalised.

    Source: the inverse Herfindahl index, Hill number of order 2 (Hill 1973).
    """
    shares = weights.float() / weights.float().sum(dim=-1, keepdim=True)
    return 1 / shares.square().sum(dim=-1)


def new_experts(experts: Int[Tensor, "*layers token k"]) -> Float[Tensor, "*layers token"]:
    """Share of a token's experts that did not serve the token before it.

    0 where the set stays, 1 where all change; NaN for the first token, which has none before.
    -1 among the experts is none.
    """
    later, before = experts[..., 1:, :], experts[..., :-1, :]
    served = later >= 0
    same = (later[..., :, None] == before[..., None, :]).any(dim=-1) & served
    kept = same.sum(dim=-1) / served.sum(dim=-1)
    first = torch.full_like(kept[..., :1], torch.nan)
    if not kept.shape[-1]:
        first = torch.full(experts.shape[:-1], torch.nan)
    return torch.cat([first, 1 - kept], dim=-1)
