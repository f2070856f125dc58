"""What a reply costs, in floating-point operations."""

from qwen3lab.config.qwen3_config import Qwen3Config


def forward_flops(
    config: Qwen3Config, n_new: int, *, n_past: int = 0, n_logits: int | None = None
) -> int:
    """Operations of the matrix products in one pass; a multiply-add counts as two.

    Each token passes through the active weights, and each query meets every key that it may
    look at, twice: for the score and for the value. Norms, activations and the softmax are
    left out, as in Kaplan et al. (arXiv 2001.08361), table 1, which this follows.

    Args:
        config: the model's sizes.
        n_new: tokens in the pass.
        n_past: tokens before them, in the cache.
        n_logits: positions that are unembedded; all new ones if None.
    """
    seen = sum(range(n_past + 1, n_past + n_new + 1))
    attention = 4 * config.n_layers * config.n_heads * config.d_head * seen
    unembedded = n_new if n_logits is None else n_logits
    weights = 2 * n_new * _products_per_token(config)
    return weights + attention + 2 * unembedded * config.d_model * config.d_vocab


def reply_flops(config: Qwen3Config, prompt_tokens: int, reply_tokens: int) -> int:
    """Operations of the prefill of a prompt and of decoding a reply token by token.

    The last token that is written is not read.
    """
    n_read = prompt_tokens + max(reply_tokens - 1, 0)
    return forward_flops(config, n_read, n_logits=max(reply_tokens, 1))


def _products_per_token(config: Qwen3Config) -> int:
    """Multiply-adds of one token with the blocks' weights, and of mixing what experts wrote."""
    heads = 2 * config.n_heads + 2 * config.n_kv_heads
    attention = config.d_model * config.d_head * heads
    experts = config.n_experts_per_token * 3 * config.d_model * config.d_expert
    mixing = config.n_experts_per_token * config.d_model
    routed = config.d_model * config.n_experts + experts + mixing
    n_moe = len(config.moe_layers)
    dense = 3 * config.d_model * config.d_mlp
    return config.n_layers * attention + n_moe * routed + (config.n_layers - n_moe) * dense
