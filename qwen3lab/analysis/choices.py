"""Router statistics by token: entropy, margin, effective number of experts."""

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
        0 if one expert has all the probability; log(experts), or 1, if all have the same.
    """
    log_p = logits.float().log_softmax(dim=-1)
    entropy = -(log_p.exp() * log_p.clamp_min(torch.finfo(log_p.dtype).min)).sum(dim=-1)
    return entropy / math.log(logits.shape[-1]) if relative else entropy


def margin(logits: Float[Tensor, "*places expert"], k: int) -> Float[Tensor, "*places"]:
    """Logit of the last chosen expert minus that of the first expert not chosen.

    The ratio of their probabilities is exp(margin): near 0 the choice was nearly a tie.

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
    """Effective number of experts of a token: 1 over the sum of squared weight shares.

    1 if one expert has all the weight; k if all k have the same. Renormalising the weights does
    not change it.

    Source: the inverse Herfindahl index, Hill number of order 2 (Hill 1973).
    """
    shares = weights.float() / weights.float().sum(dim=-1, keepdim=True)
    return 1 / shares.square().sum(dim=-1)


def new_experts(experts: Int[Tensor, "*layers token k"]) -> Float[Tensor, "*layers token"]:
    """Share of a token's experts that did not serve the previous token.

    0 if the set stays, 1 if all change; NaN for the first token. -1 is no expert.
    """
    later, before = experts[..., 1:, :], experts[..., :-1, :]
    served = later >= 0
    same = (later[..., :, None] == before[..., None, :]).any(dim=-1) & served
    kept = same.sum(dim=-1) / served.sum(dim=-1)
    first = torch.full_like(kept[..., :1], torch.nan)
    if not kept.shape[-1]:
        first = torch.full(experts.shape[:-1], torch.nan)
    return torch.cat([first, 1 - kept], dim=-1)
