"""Entropy and divergence of next-token distributions, in nats."""

from jaxtyping import Float
from torch import Tensor


def entropy_of(logprobs: Float[Tensor, "token vocab"]) -> Float[Tensor, " token"]:
    """The entropy of each row of log-probabilities, nats."""
    return -(logprobs.exp() * logprobs).sum(dim=-1)


def kl_divergence(
    final: Float[Tensor, "token vocab"], logits: Float[Tensor, "token vocab"]
) -> Float[Tensor, " token"]:
    """KL(final || lens) of the distributions of two sets of logits, nats."""
    log_p, log_q = final.log_softmax(dim=-1), logits.log_softmax(dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)
