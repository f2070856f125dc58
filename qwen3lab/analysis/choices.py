"""Router statistics by token: entropy, margin, effective number of experts."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.translation import tr


@checked
def router_entropy(
    logits: Float[Tensor, "*places expert"], *, relative: bool = False
) -> Float[Tensor, "*places"]:
    """Entropy of the router's distribution over all experts, in nats.

    Args:
        logits: before the softmax, from `hook_router_logits`.
        relative: divide by the maximum, the logarithm of the number of experts.

    Returns:
        0 if one expert has all the probability; log(experts), or 1 if relative, if all experts
        have the same.
    """
    log_p = logits.float().log_softmax(dim=-1)
    entropy = -(log_p.exp() * log_p.clamp_min(torch.finfo(log_p.dtype).min)).sum(dim=-1)
    return entropy / math.log(logits.shape[-1]) if relative else entropy


@checked
def margin(logits: Float[Tensor, "*places expert"], k: int) -> Float[Tensor, "*places"]:
    """Logit of the last chosen expert minus that of the first expert not chosen.

    The ratio of their probabilities is exp(margin): a margin near 0 is nearly a tie.

    Args:
        logits: before the softmax.
        k: experts per token.

    Raises:
        ValueError: k is below 1, or all experts are chosen.
    """
    n_experts = logits.shape[-1]
    if not 1 <= k < n_experts:
        raise ValueError(
            tr(
                "k is {k}: a margin between chosen and other experts needs 1 to {last}",
                k=k,
                last=n_experts - 1,
            )
        )
    best = logits.float().topk(k + 1, dim=-1).values
    return best[..., k - 1] - best[..., k]


@checked
def effective_experts(weights: Float[Tensor, "*places k"]) -> Float[Tensor, "*places"]:
    """Effective number of experts of a token: 1 over the sum of squared weight shares.

    1 if one expert has all the weight; k if all k have the same. Renormalising the weights does
    not change it.

    Raises:
        ValueError: a weight is negative.

    Source: the inverse Herfindahl index, Hill number of order 2 (Hill 1973).
    """
    if bool((weights < 0).any()):
        raise ValueError(tr("a weight is negative: expected weights of 0 or more"))
    shares = weights.float() / weights.float().sum(dim=-1, keepdim=True)
    return 1 / shares.square().sum(dim=-1)


@checked
def new_experts(experts: Int[Tensor, "*layers token k"]) -> Float[Tensor, "*layers token"]:
    """Share of a token's experts that the previous token was not routed to.

    0 if the experts stay the same, 1 if all change; NaN for the first token. -1 is no expert.
    """
    later, before = experts[..., 1:, :], experts[..., :-1, :]
    real = later >= 0
    same = (later[..., :, None] == before[..., None, :]).any(dim=-1) & real
    shared = same.sum(dim=-1) / real.sum(dim=-1)
    first = torch.full_like(shared[..., :1], torch.nan)
    if not shared.shape[-1]:
        first = torch.full(experts.shape[:-1], torch.nan)
    return torch.cat([first, 1 - shared], dim=-1)
