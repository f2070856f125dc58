"""The forward pass of Qwen3, dense and mixture of experts, from the model down to its parts.

Source: Qwen3 technical report (arXiv 2505.09388), section 2. Every named activation passes through
`tap`; `qwen3lab.hooks.HOOK_POINTS` lists the names.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import at_least_float32
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.hooks.taps import NO_TAP, Tap
from qwen3lab.model import experts as moe
from qwen3lab.model.attention_kernels import mix_fused
from qwen3lab.model.blocks import BlockList, Blocks
from qwen3lab.model.kv_cache import CacheWindow, KVCache
from qwen3lab.model.normalisation import RMSNorm
from qwen3lab.model.pass_threads import on_paying_threads
from qwen3lab.model.positions import Positions

Stream = Float[Tensor, "batch pos d_model"]
"""The residual stream, or what is read from it or added to it."""


class Qwen3(nn.Module):
    """A decoder: blocks that read from one residual stream and add to it.

    Args:
        config: sizes and switches.
        device: where the parameters are; "meta" allocates nothing.
        dtype: of the parameters; torch's default if None.
    """

    def __init__(
        self,
        config: Qwen3Config,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        options = {"device": device, "dtype": dtype}
        self.config = config
        self.embed = _embedding(config, **options)
        self.blocks: Blocks[Block] = BlockList(
            Block(config, layer, **options) for layer in range(config.n_layers)
        )
        self.ln_final = RMSNorm(config.d_model, config.eps, "ln_final", **options)
        if config.has_unembedding and not config.tied_embeddings:
            self.unembed = nn.Linear(config.d_model, config.d_vocab, bias=False, **options)
        if config.labels:  # Of a classifier: read by `lab.classify`, not by the forward pass.
            self.score = nn.Linear(config.d_model, len(config.labels), bias=False, **options)

    @on_paying_threads
    def forward(
        self,
        token_ids: Int[Tensor, "batch pos"],
        *,
        mask: Bool[Tensor, "batch pos"] | None = None,
        cache: KVCache | CacheWindow | None = None,
        segments: Int[Tensor, "batch pos"] | None = None,
        tap: Tap = NO_TAP,
        last_only: bool = False,
    ) -> Float[Tensor, "batch out vocab"]:
        """Logits of the next token at every position.

        Args:
            token_ids: the prompt; with a cache, the tokens that follow the cached positions.
            mask: True at real tokens; shorter prompts are padded on the left.
            cache: past positions. A `KVCache` is advanced when the pass is complete; a
                `CacheWindow` is advanced by the caller.
            segments: numbers the texts packed into a row; no text attends to another.
            tap: receives every named activation and may replace it.
            last_only: unembed the last position only, as generation needs.

        Returns:
            The logits; `out` is `pos`, or 1 with `last_only`. Of a model without unembedding the
            last axis is empty.

        Raises:
            ValueError: mask, segments or cache do not fit the tokens.
        """
        positions = Positions.of(token_ids, mask, cache, self.config, segments)

        resid = tap("hook_embed", self.embed(token_ids))
        for block in self.blocks:
            resid = block(resid, positions, tap)
        final = self.ln_final(resid[:, -1:] if last_only else resid, tap)
        if self.config.has_unembedding:
            logits = tap("hook_unembed", F.linear(final, self.unembedding))
        else:
            logits = final[..., :0]

        if isinstance(cache, KVCache):
            cache.advance(positions.mask, padded=positions.padded)
        return logits

    @property
    def unembedding(self) -> Float[Tensor, "vocab d_model"]:
        """The matrix from the normalised final residual stream to the logits.

        Raises:
            HeadlessError: the model has none.
        """
        self.config.require_unembedding()
        return self.embed.weight if self.config.tied_embeddings else self.unembed.weight

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the parameters."""
        return self.embed.weight.dtype

    def new_cache(self, *, batch: int = 1, capacity: int = 256) -> KVCache:
        """An empty key/value cache on the model's device, in its dtype."""
        return KVCache(
            self.config, batch=batch, capacity=capacity, device=self.device, dtype=self.dtype
        )

    @without_grad
    def init_weights(self, generator: torch.Generator, *, std: float = 0.02) -> None:
        """Draw every matrix from a normal distribution; set the norms' weights to 1."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, std, generator=generator)
            else:
                parameter.fill_(1.0)


class Block(nn.Module):
    """Attention, then an MLP or experts; each adds its output to the residual stream."""

    def __init__(self, config: Qwen3Config, layer: int, **options) -> None:
        super().__init__()
        self.name = f"blocks.{layer}"
        self.ln1 = RMSNorm(config.d_model, config.eps, f"{self.name}.ln1", **options)
        self.attn = Attention(config, layer, **options)
        self.ln2 = RMSNorm(config.d_model, config.eps, f"{self.name}.ln2", **options)
        self.mlp = (Experts if layer in config.moe_layers else MLP)(config, layer, **options)

    def forward(self, resid: Stream, positions: Positions, tap: Tap) -> Stream:
        resid = tap(f"{self.name}.hook_resid_pre", resid)
        attn_out = self.attn(self.ln1(resid, tap), positions, tap)
        resid = resid + tap(f"{self.name}.hook_attn_out", attn_out)
        resid = tap(f"{self.name}.hook_resid_mid", resid)
        mlp_out = tap(f"{self.name}.hook_mlp_out", self.mlp(self.ln2(resid, tap), tap))
        return tap(f"{self.name}.hook_resid_post", resid + mlp_out)


class Attention(nn.Module):
    """Grouped-query attention with QK-norm and rotary positions.

    Queries and keys are normalised per head before they are rotated (arXiv 2505.09388,
    section 2). The fused kernel runs unless the tap wants scores or pattern.
    """

    def __init__(self, config: Qwen3Config, layer: int, **options) -> None:
        super().__init__()
        self.name, self.layer, self.d_head = f"blocks.{layer}.attn", layer, config.d_head
        d_q, d_kv = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
        self.q = nn.Linear(config.d_model, d_q, bias=False, **options)
        self.k = nn.Linear(config.d_model, d_kv, bias=False, **options)
        self.v = nn.Linear(config.d_model, d_kv, bias=False, **options)
        self.o = nn.Linear(d_q, config.d_model, bias=False, **options)
        self.q_norm = RMSNorm(config.d_head, config.eps, **options)
        self.k_norm = RMSNorm(config.d_head, config.eps, **options)

    def forward(self, x: Stream, positions: Positions, tap: Tap) -> Stream:
        heads = (-1, self.d_head)
        q = tap(f"{self.name}.hook_q", self.q(x).unflatten(-1, heads))
        k = tap(f"{self.name}.hook_k", self.k(x).unflatten(-1, heads))
        v = tap(f"{self.name}.hook_v", self.v(x).unflatten(-1, heads))
        q = tap(f"{self.name}.hook_rot_q", positions.rotate(self.q_norm(q)))
        k = tap(f"{self.name}.hook_rot_k", positions.rotate(self.k_norm(k)))

        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if positions.cache is not None:
            k, v = positions.cache.write(self.layer, k, v)
        if tap.wants(f"{self.name}.hook_attn_scores") or tap.wants(f"{self.name}.hook_pattern"):
            z = self.mix_explicitly(q, k, v, positions, tap)
        else:
            z = mix_fused(q, k, v, positions)
        z = tap(f"{self.name}.hook_z", z.transpose(1, 2))

        if tap.wants(f"{self.name}.hook_result"):
            return self.result_per_head(z, tap).sum(dim=2)
        return self.o(z.flatten(2))

    def mix_explicitly(
        self,
        q: Float[Tensor, "batch head query d_head"],
        k: Float[Tensor, "batch kv_head key d_head"],
        v: Float[Tensor, "batch kv_head key d_head"],
        positions: Positions,
        tap: Tap,
    ) -> Float[Tensor, "batch head query d_head"]:
        """Mixed values, with scores and pattern as tensors that a tap can read or replace."""
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        scores = q @ k.mT * self.d_head**-0.5
        scores = scores.masked_fill(~positions.attention_mask(), -torch.inf)
        scores = tap(f"{self.name}.hook_attn_scores", scores)
        pattern = scores.softmax(dim=-1, dtype=at_least_float32(q.dtype)).to(q.dtype)
        return tap(f"{self.name}.hook_pattern", pattern) @ v

    def result_per_head(
        self, z: Float[Tensor, "batch pos head d_head"], tap: Tap
    ) -> Float[Tensor, "batch pos head d_model"]:
        """What each head adds to the residual stream; the sum over heads is the layer's output."""
        split = "d_model (head d_head) -> head d_head d_model"
        w_out = rearrange(self.o.weight, split, d_head=self.d_head)
        mix = "batch pos head d_head, head d_head d_model -> batch pos head d_model"
        return tap(f"{self.name}.hook_result", einsum(z, w_out, mix))


def _embedding(config: Qwen3Config, **options) -> nn.Embedding:
    """The rows of all words; on "meta" not drawn: that would import `torch._dynamo`, for 1 s."""
    if not torch.empty(0, **options).is_meta:
        return nn.Embedding(config.d_vocab, config.d_model, **options)
    nothing = torch.empty(config.d_vocab, config.d_model, **options)
    return nn.Embedding.from_pretrained(nothing, freeze=False)


class MLP(nn.Module):
    """SwiGLU: SiLU(gate) times up, projected down."""

    def __init__(self, config: Qwen3Config, layer: int, **options) -> None:
        super().__init__()
        self.name = f"blocks.{layer}.mlp"
        self.gate = nn.Linear(config.d_model, config.d_mlp, bias=False, **options)
        self.up = nn.Linear(config.d_model, config.d_mlp, bias=False, **options)
        self.down = nn.Linear(config.d_mlp, config.d_model, bias=False, **options)

    def forward(self, x: Stream, tap: Tap) -> Stream:
        gate = tap(f"{self.name}.hook_pre", self.gate(x))
        up = tap(f"{self.name}.hook_pre_linear", self.up(x))
        return self.down(tap(f"{self.name}.hook_post", F.silu(gate) * up))


class Experts(nn.Module):
    """A mixture of experts: a router sends each token to its top-k SwiGLU experts."""

    stacked = True  # See `ExpertWeights`.

    def __init__(self, config: Qwen3Config, layer: int, **options) -> None:
        super().__init__()
        self.name, self.k = f"blocks.{layer}.mlp", config.n_experts_per_token
        self.renormalise = config.norm_topk_prob
        n, d_model, d_expert = config.n_experts, config.d_model, config.d_expert
        self.router = nn.Linear(d_model, n, bias=False, **options)
        # Gate and up stacked, gate first: one product instead of two.
        self.gate_up = nn.Parameter(torch.empty(n, 2 * d_expert, d_model, **options))
        self.down = nn.Parameter(torch.empty(n, d_model, d_expert, **options))

    def forward(self, x: Stream, tap: Tap) -> Stream:
        logits = tap(f"{self.name}.hook_router_logits", self.router(x))
        probabilities = logits.softmax(dim=-1, dtype=at_least_float32(logits.dtype))
        weights, chosen = probabilities.topk(self.k, dim=-1)
        edited = tap(f"{self.name}.hook_expert_indices", chosen)
        if edited is not chosen:
            chosen, weights = moe.reroute(edited, probabilities, self.name)
        if self.renormalise:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        weights = tap(f"{self.name}.hook_expert_weights", weights.to(logits.dtype))
        if moe.sums_directly(self, chosen) and not tap.wants(f"{self.name}.hook_expert_out"):
            return moe.weighted_sum(self, x, chosen, weights)
        out = tap(f"{self.name}.hook_expert_out", moe.dispatch(self, x, chosen))
        return (weights[..., None, :] @ out).squeeze(-2)

    def products(self, experts: list[int]) -> Iterator[tuple[moe.Product, moe.Product]]:
        """Products with the matrices of some experts, one after another; see `ExpertWeights`."""
        return moe.stacked_products(self.gate_up, self.down, experts)
