"""Floating-point operations of a forward pass and of a reply."""

from qwen3lab.arguments import Count, CountOrNone, checked
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.translation import tr


@checked
def forward_flops(
    config: Qwen3Config,
    n_new: Count,
    *,
    n_past: CountOrNone = 0,
    n_logits: CountOrNone | None = None,
) -> int:
    """Operations of the matrix products in one pass; a multiply-add counts as two.

    Each token is multiplied by the active weights. Each query is multiplied by its visible keys
    for the scores, and each attention weight by a value. Norms, activations and the softmax are
    not counted, as in Kaplan et al. (arXiv 2001.08361), table 1.

    Args:
        config: of the model.
        n_new: tokens in the pass.
        n_past: tokens before them, in the KV cache.
        n_logits: positions that are unembedded; all new ones if None.

    Raises:
        ValueError: a number of tokens is negative, no token is new, or more are unembedded.
    """
    if n_logits is not None and n_logits > n_new:
        raise ValueError(
            tr(
                "n_logits is {n_logits}: expected at most n_new, {n_new}",
                n_logits=n_logits,
                n_new=n_new,
            )
        )
    n_pairs = sum(range(n_past + 1, n_past + n_new + 1))
    attention = 4 * config.n_layers * config.n_heads * config.d_head * n_pairs
    unembedded = n_new if n_logits is None else n_logits
    weights = 2 * n_new * config.products_per_token
    d_vocab = config.d_vocab if config.has_unembedding else 0
    return weights + attention + 2 * unembedded * config.d_model * d_vocab


@checked
def reply_flops(config: Qwen3Config, prompt_tokens: Count, reply_tokens: CountOrNone) -> int:
    """Operations of the prefill of a prompt and of decoding a reply token by token.

    The last generated token does not run through the model.
    """
    n_read = prompt_tokens + max(reply_tokens - 1, 0)
    return forward_flops(config, n_read, n_logits=max(reply_tokens, 1))
