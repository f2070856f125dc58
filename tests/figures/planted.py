"""Recordings and results of the shapes of large models, with structure at known places."""

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.recording.recording import Recording

D_HEAD = 32
SHAPES = ((28, 16), (48, 32), (94, 64))
"""Layers and heads of Qwen3-0.6B, 30B-A3B and 235B-A22B."""


def config(n_layers: int, n_heads: int, *, n_experts: int = 0) -> Qwen3Config:
    """A narrow model with these numbers of layers, heads and experts."""
    return Qwen3Config(
        d_model=32,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=2,
        d_head=D_HEAD,
        d_mlp=64,
        d_vocab=50,
        n_experts=n_experts,
        n_experts_per_token=min(8, n_experts),
        d_expert=8 if n_experts else 0,
        moe_layers=tuple(range(n_layers)) if n_experts else (),
    )


def planted(
    n_layers: int, n_heads: int, n_tokens: int, *, layer: int, head: int, n_experts: int = 0
) -> Recording:
    """Every head has a sink at token 0, but one attends to the previous token.

    Args:
        n_layers: all have attention.
        n_heads: query heads per layer, with two key heads.
        n_tokens: their texts are words and a few special characters.
        layer: of the head that attends to the previous token.
        head: its number.
        n_experts: random routing to 8 of them; no routing if 0.
    """
    chance = torch.Generator().manual_seed(0)
    keys = torch.nn.functional.normalize(torch.randn(n_tokens, 2, D_HEAD, generator=chance), dim=-1)
    kept: dict[str, Tensor] = {}
    for each in range(n_layers):
        noise = torch.randn(n_tokens, n_heads, D_HEAD, generator=chance)
        mine = keys.repeat_interleave(n_heads // 2, dim=1)
        queries = 35 * mine[:1] + 4 * noise
        if each == layer:
            queries[1:, head] = 90 * mine[:-1, head]
        kept[f"blocks.{each}.attn.hook_rot_q"] = queries
        kept[f"blocks.{each}.attn.hook_rot_k"] = keys
        if n_experts:
            logits = torch.randn(n_tokens, n_experts, generator=chance)
            weights, experts = logits.softmax(-1).topk(8)
            mlp = f"blocks.{each}.mlp.hook_"
            kept[f"{mlp}router_logits"] = logits
            kept[f"{mlp}expert_indices"] = experts
            kept[f"{mlp}expert_weights"] = weights / weights.sum(-1, keepdim=True)
    words = ("<b>", " the", " result", "\n", " 三只", "$x$", " therefore", ".")
    tokens = [words[place % len(words)] for place in range(n_tokens)]
    made = config(n_layers, n_heads, n_experts=n_experts)
    return Recording(torch.arange(n_tokens) % 50, tokens, made, "<i>made up</i>", kept)


def shares(rows: int, columns: int, *, row: int, column: int) -> Float[Tensor, "row column"]:
    """Rows of random shares that sum to 1; one cell has most of its row."""
    found = torch.rand(rows, columns, generator=torch.Generator().manual_seed(1)).exp()
    found[row, column] = 40 * columns
    return found / found.sum(dim=1, keepdim=True)
