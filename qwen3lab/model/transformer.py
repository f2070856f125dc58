"""The forward pass of Qwen3, dense and mixture of experts, from whole to parts.

Source: Qwen3 technical report (arXiv 2505.09388), section 2. Numbers agree with
`transformers`' eager Qwen3 and Qwen3-MoE on the same weights; see `tests/test_model.py`.
Every named activation passes through `tap`; `qwen3lab.hooks.points.HOOK_POINTS` lists the names.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.hooks.taps import NOTHING, Tap
from qwen3lab.model.attention_kernels import mix_fused
from qwen3lab.model.kv_cache import CacheWindow, KVCache
from qwen3lab.model.positions import Place

LONG = 64
"""Tokens for each expert from which on a loop over experts is as fast on a CPU as a product of
groups (measured with the experts of 30B-A3B, in float32 and bfloat16)."""

Product = Callable[[Float[Tensor, "token column"]], Float[Tensor, "token row"]]
"""The product of tokens and a matrix, as of a linear layer."""

GATHERED = 2**28
"""Bytes of experts' first matrices that a GPU copies at most, where it has no product of groups."""

SMALL = 2**17
"""Values in an expert's first matrix up to which experts are padded to one length."""


class Qwen3(nn.Module):
    """A decoder of blocks that read from and write to one residual stream.

    Args:
        config: sizes and switches.
        device: where the parameters live; "meta" allocates nothing.
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
        made = {"device": device, "dtype": dtype}
        self.config = config
        self.embed = nn.Embedding(config.d_vocab, config.d_model, **made)
        self.blocks = nn.ModuleList(
            Block(config, layer, **made) for layer in range(config.n_layers)
        )
        self.ln_final = RMSNorm(config.d_model, config.eps, "ln_final", **made)
        if not config.tied_embeddings:
            self.unembed = nn.Linear(config.d_model, config.d_vocab, bias=False, **made)

    def forward(
        self,
        token_ids: Int[Tensor, "batch pos"],
        *,
        mask: Bool[Tensor, "batch pos"] | None = None,
        cache: KVCache | CacheWindow | None = None,
        segments: Int[Tensor, "batch pos"] | None = None,
        tap: Tap = NOTHING,
        last_only: bool = False,
    ) -> Float[Tensor, "batch out vocab"]:
        """Logits of the next token at every position.

        Args:
            token_ids: the tokens; with a cache, those that follow what it holds.
            mask: True where a token is real; prompts of unequal length are padded on the left.
            cache: keys and values of past positions; advanced once the pass is complete. (A
                window of a cache is advanced by the one who runs the pass.)
            segments: numbers the texts that are packed into a row; none sees another. (They
                need no positions of their own: rotary attention knows distances only.)
            tap: is handed every named activation, and may replace it.
            last_only: unembed the last position only, as generation needs.

        Returns:
            `out` is `pos`, or 1 if `last_only`.
        """
        place = Place.of(token_ids, mask, cache, self.config, segments)

        resid = tap("hook_embed", self.embed(token_ids))
        for block in self.blocks:
            resid = block(resid, place, tap)
        final = self.ln_final(resid[:, -1:] if last_only else resid, tap)
        logits = tap("hook_unembed", F.linear(final, self.unembedding))

        if isinstance(cache, KVCache):
            cache.advance(place.mask, padded=place.padded)
        return logits

    @property
    def unembedding(self) -> Float[Tensor, "vocab d_model"]:
        """The matrix that turns the final residual stream into logits."""
        return self.embed.weight if self.config.tied_embeddings else self.unembed.weight

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' dtype."""
        return self.embed.weight.dtype

    def new_cache(self, *, batch: int = 1, capacity: int = 256) -> KVCache:
        """An empty key/value cache on the model's device, in its dtype."""
        return KVCache(
            self.config, batch=batch, capacity=capacity, device=self.device, dtype=self.dtype
        )

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator, *, std: float = 0.02) -> None:
        """Draw every matrix from a normal distribution; norms start at 1."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, std, generator=generator)
            else:
                parameter.fill_(1.0)


class Block(nn.Module):
    """Attention, then an MLP or experts; each reads the normalised stream and adds to it."""

    def __init__(self, config: Qwen3Config, layer: int, **made) -> None:
        super().__init__()
        self.name = f"blocks.{layer}"
        self.ln1 = RMSNorm(config.d_model, config.eps, f"{self.name}.ln1", **made)
        self.attn = Attention(config, layer, **made)
        self.ln2 = RMSNorm(config.d_model, config.eps, f"{self.name}.ln2", **made)
        self.mlp = (Experts if layer in config.moe_layers else MLP)(config, layer, **made)

    def forward(
        self, resid: Float[Tensor, "batch pos d_model"], place: Place, tap: Tap
    ) -> Float[Tensor, "batch pos d_model"]:
        resid = tap(f"{self.name}.hook_resid_pre", resid)
        attn_out = tap(f"{self.name}.hook_attn_out", self.attn(self.ln1(resid, tap), place, tap))
        resid = tap(f"{self.name}.hook_resid_mid", resid + attn_out)
        mlp_out = tap(f"{self.name}.hook_mlp_out", self.mlp(self.ln2(resid, tap), tap))
        return tap(f"{self.name}.hook_resid_post", resid + mlp_out)


class Attention(nn.Module):
    """Grouped-query attention with QK-norm and rotary positions.

    Queries and keys are normalised per head before they are rotated (arXiv 2505.09388,
    section 2). The fused kernel runs unless the tap wants scores or pattern.
    """

    def __init__(self, config: Qwen3Config, layer: int, **made) -> None:
        super().__init__()
        self.name, self.layer = f"blocks.{layer}.attn", layer
        self.d_head = config.d_head
        d_q, d_kv = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
        self.q = nn.Linear(config.d_model, d_q, bias=False, **made)
        self.k = nn.Linear(config.d_model, d_kv, bias=False, **made)
        self.v = nn.Linear(config.d_model, d_kv, bias=False, **made)
        self.o = nn.Linear(d_q, config.d_model, bias=False, **made)
        self.q_norm = RMSNorm(config.d_head, config.eps, **made)
        self.k_norm = RMSNorm(config.d_head, config.eps, **made)

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], place: Place, tap: Tap
    ) -> Float[Tensor, "batch pos d_model"]:
        split = "batch pos (head d_head) -> batch pos head d_head"
        q = tap(f"{self.name}.hook_q", rearrange(self.q(x), split, d_head=self.d_head))
        k = tap(f"{self.name}.hook_k", rearrange(self.k(x), split, d_head=self.d_head))
        v = tap(f"{self.name}.hook_v", rearrange(self.v(x), split, d_head=self.d_head))
        q = tap(f"{self.name}.hook_rot_q", place.rotate(self.q_norm(q)))
        k = tap(f"{self.name}.hook_rot_k", place.rotate(self.k_norm(k)))

        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if place.cache is not None:
            k, v = place.cache.write(self.layer, k, v)
        explicit = tap.wants(f"{self.name}.hook_attn_scores") or tap.wants(
            f"{self.name}.hook_pattern"
        )
        z = self.mix_explicitly(q, k, v, place, tap) if explicit else mix_fused(q, k, v, place)
        z = tap(f"{self.name}.hook_z", z.transpose(1, 2))

        if tap.wants(f"{self.name}.hook_result"):
            return self.write_per_head(z, tap).sum(dim=2)
        return self.o(rearrange(z, "batch pos head d_head -> batch pos (head d_head)"))

    def mix_explicitly(
        self,
        q: Float[Tensor, "batch head query d_head"],
        k: Float[Tensor, "batch kv_head key d_head"],
        v: Float[Tensor, "batch kv_head key d_head"],
        place: Place,
        tap: Tap,
    ) -> Float[Tensor, "batch head query d_head"]:
        """Values mixed by a pattern that is made in full, so that it can be read or edited."""
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        scores = q @ k.mT * self.d_head**-0.5
        scores = scores.masked_fill(~place.allowed(), -torch.inf)
        scores = tap(f"{self.name}.hook_attn_scores", scores)
        pattern = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
        return tap(f"{self.name}.hook_pattern", pattern) @ v

    def write_per_head(
        self, z: Float[Tensor, "batch pos head d_head"], tap: Tap
    ) -> Float[Tensor, "batch pos head d_model"]:
        """What each head adds to the residual stream; their sum is the layer's output."""
        w_out = rearrange(
            self.o.weight, "d_model (head d_head) -> head d_head d_model", d_head=self.d_head
        )
        result = einsum(
            z, w_out, "batch pos head d_head, head d_head d_model -> batch pos head d_model"
        )
        return tap(f"{self.name}.hook_result", result)


class MLP(nn.Module):
    """SwiGLU: SiLU(gate) times up, projected down."""

    def __init__(self, config: Qwen3Config, layer: int, **made) -> None:
        super().__init__()
        self.name = f"blocks.{layer}.mlp"
        self.gate = nn.Linear(config.d_model, config.d_mlp, bias=False, **made)
        self.up = nn.Linear(config.d_model, config.d_mlp, bias=False, **made)
        self.down = nn.Linear(config.d_mlp, config.d_model, bias=False, **made)

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], tap: Tap
    ) -> Float[Tensor, "batch pos d_model"]:
        gate = tap(f"{self.name}.hook_pre", self.gate(x))
        up = tap(f"{self.name}.hook_pre_linear", self.up(x))
        return self.down(tap(f"{self.name}.hook_post", F.silu(gate) * up))


class Experts(nn.Module):
    """A router that sends each token to its top-k SwiGLU experts and weighs what they write."""

    at_hand = True
    """Whether the matrices of all experts lie in memory as they are, to be used all at once."""

    def __init__(self, config: Qwen3Config, layer: int, **made) -> None:
        super().__init__()
        self.name = f"blocks.{layer}.mlp"
        self.k, self.renormalise = config.n_experts_per_token, config.norm_topk_prob
        n, d_model, d_expert = config.n_experts, config.d_model, config.d_expert
        self.router = nn.Linear(d_model, n, bias=False, **made)
        # Gate and up stacked, gate first: one product instead of two.
        self.gate_up = nn.Parameter(torch.empty(n, 2 * d_expert, d_model, **made))
        self.down = nn.Parameter(torch.empty(n, d_model, d_expert, **made))

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], tap: Tap
    ) -> Float[Tensor, "batch pos d_model"]:
        logits = tap(f"{self.name}.hook_router_logits", self.router(x))
        probabilities = logits.softmax(dim=-1, dtype=torch.float32)
        weights, chosen = probabilities.topk(self.k, dim=-1)
        experts = tap(f"{self.name}.hook_expert_indices", chosen)
        if experts is not chosen:
            # An edit of the choice finds its own weights; it may leave a slot empty with -1.
            chosen = experts.clamp(min=0)
            weights = probabilities.gather(-1, chosen).where(experts >= 0, 0.0)
        if self.renormalise:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        weights = tap(f"{self.name}.hook_expert_weights", weights.to(logits.dtype))

        chosen = chosen.flatten(0, 1)
        if self.adds_up(chosen) and not tap.wants(f"{self.name}.hook_expert_out"):
            return self.run_adding(x.flatten(0, 1), chosen, weights.flatten()).view_as(x)
        out = self.run(x.flatten(0, 1), chosen).unflatten(0, x.shape[:2])
        out = tap(f"{self.name}.hook_expert_out", out)
        return (weights[..., None, :] @ out).squeeze(-2)

    def adds_up(self, experts: Int[Tensor, "token k"]) -> bool:
        """Whether a long prompt's outputs are added up at once, and never held expert by expert.

        On a CPU that is quicker where experts have many tokens; on a GPU the order of additions
        would change from run to run.
        """
        n, rows, columns = self.gate_up.shape
        long = experts.numel() > LONG * n and rows * columns > SMALL
        return long and experts.device.type == "cpu" and not torch.is_grad_enabled()

    def run_adding(
        self,
        x: Float[Tensor, "token d_model"],
        experts: Int[Tensor, "token k"],
        weights: Float[Tensor, " slot"],
    ) -> Float[Tensor, "token d_model"]:
        """The weighted sum of each token's experts, expert after expert."""
        flat = experts.flatten()
        order = flat.argsort(stable=True)
        load = torch.bincount(flat, minlength=self.down.shape[0]).tolist()
        tokens = (order // experts.shape[1]).split(load)
        shares = weights[order, None].split(load)
        hit = [e for e, n in enumerate(load) if n]
        total = torch.zeros_like(x, dtype=torch.float32)
        for e, (gate_up, down) in zip(hit, self.products(hit), strict=True):
            out = down(swiglu(gate_up(x.index_select(0, tokens[e]))))
            total.index_add_(0, tokens[e], (out * shares[e]).float())
        return total.to(x.dtype)

    def run(
        self, x: Float[Tensor, "token d_model"], experts: Int[Tensor, "token k"]
    ) -> Float[Tensor, "token k d_model"]:
        """Each chosen expert's output, unweighted; tokens are grouped by expert."""
        flat = experts.flatten()
        if self.pays_to_gather(len(flat)):
            return self.run_gathered(x, experts)
        by_expert, order = flat.sort(stable=True)
        sources = order // experts.shape[1]
        groups = self.can_group(x, len(flat))
        if groups and x.is_cuda:
            # To look at the load would be to wait for the GPU.
            out = self.run_grouped(x, sources, by_expert)
        elif self.pays_to_pad(load := self.load(flat), len(flat)):
            out = self.run_padded(x, sources, by_expert, load)
        elif groups:
            out = self.run_grouped(x, sources, by_expert)
        else:
            out = self.run_one_by_one(x, sources, load)
        return _back_in_order(out, order).unflatten(0, experts.shape)

    def load(self, experts: Int[Tensor, " slot"]) -> Int[Tensor, " expert"]:
        """Slots of each expert. (Not bincount, for which a GPU would be waited for.)"""
        nothing = experts.new_zeros(self.down.shape[0])
        return nothing.scatter_add_(0, experts, torch.ones_like(experts))

    def pays_to_gather(self, n_slots: int) -> bool:
        """A few tokens' experts are copied side by side where they are small.

        Nothing has to be sorted then, and no device to be waited for: on a GPU that would have to
        be, it pays for larger ones.
        """
        n, rows, columns = self.gate_up.shape
        if not self.at_hand or n_slots > n:
            return False
        few = n_slots * rows * columns * self.gate_up.itemsize <= GATHERED
        waits = self.gate_up.is_cuda and not can_multiply_groups(self.router.weight)
        return rows * columns <= SMALL or (few and waits)

    def needs_no_load(self, n_tokens: int) -> bool:
        """Whether so many tokens always run in the same steps, however many go where."""
        n_slots = n_tokens * self.k
        return self.pays_to_gather(n_slots) or self.can_group(self.router.weight, n_slots)

    def pays_to_pad(self, load: Int[Tensor, " expert"], n_slots: int) -> bool:
        """One batched product beats a loop where experts are small and evenly loaded.

        On a CPU the loop is quicker again where each has many tokens.
        """
        n, rows, columns = self.gate_up.shape
        few = n_slots <= LONG * n or load.device.type != "cpu"
        small = self.at_hand and few and rows * columns <= SMALL
        return small and int(load.max()) * n <= 3 * n_slots

    def can_group(self, x: Float[Tensor, "token d_model"], n_slots: int) -> bool:
        """Whether this torch has a product of groups for such tensors, and it pays.

        On a CPU a loop is as fast where an expert has many tokens.
        """
        few = n_slots <= LONG * self.down.shape[0] or x.device.type != "cpu"
        return self.at_hand and few and can_multiply_groups(x)

    def run_gathered(
        self, x: Float[Tensor, "token d_model"], experts: Int[Tensor, "token k"]
    ) -> Float[Tensor, "token k d_model"]:
        """Every token beside copies of its own experts' matrices."""
        flat, k = experts.flatten(), experts.shape[1]
        tokens = x.repeat_interleave(k, dim=0)[:, None]
        hidden = swiglu(torch.bmm(tokens, self.gate_up.index_select(0, flat).mT))
        out = torch.bmm(hidden, self.down.index_select(0, flat).mT)
        return rearrange(out, "(token k) 1 d_model -> token k d_model", k=k)

    def run_grouped(
        self,
        x: Float[Tensor, "token d_model"],
        sources: Int[Tensor, " slot"],
        experts: Int[Tensor, " slot"],
    ) -> Float[Tensor, "slot d_model"]:
        """All experts in two products of groups; `sources` are token rows sorted by expert."""
        every = torch.arange(self.down.shape[0], device=x.device)
        ends = torch.searchsorted(experts, every, right=True, out_int32=True)
        hidden = swiglu(F.grouped_mm(x.index_select(0, sources), self.gate_up.mT, offs=ends))
        return F.grouped_mm(hidden, self.down.mT, offs=ends)

    def run_one_by_one(
        self,
        x: Float[Tensor, "token d_model"],
        sources: Int[Tensor, " slot"],
        load: Int[Tensor, " expert"],
    ) -> Float[Tensor, "slot d_model"]:
        """Loop over the experts that were hit; `sources` are token rows sorted by expert."""
        groups = x.index_select(0, sources).split(load.tolist())
        hit = {e: group for e, group in enumerate(groups) if len(group)}
        # Cast: all that give products are generators. Closed for sure: left to itself, one would
        # hold what it lends for as long as someone holds the exception of an interrupt.
        products = cast(Generator[tuple[Product, Product], None, None], self.products(list(hit)))
        with closing(products):
            return torch.cat(
                [
                    down(swiglu(gate_up(group)))
                    for group, (gate_up, down) in zip(hit.values(), products, strict=True)
                ]
            )

    def products(self, experts: list[int]) -> Iterator[tuple[Product, Product]]:
        """Products with gate and up, and with down, of some experts, one after another."""
        # Unbound, not indexed: else each expert's gradient would fill a tensor of all experts.
        gate_up, down = self.gate_up.unbind(), self.down.unbind()
        return (
            (partial(F.linear, weight=gate_up[e]), partial(F.linear, weight=down[e]))
            for e in experts
        )

    def run_padded(
        self,
        x: Float[Tensor, "token d_model"],
        sources: Int[Tensor, " slot"],
        experts: Int[Tensor, " slot"],
        load: Int[Tensor, " expert"],
    ) -> Float[Tensor, "slot d_model"]:
        """All experts in one batched product, each group padded to the largest."""
        n, room = len(load), int(load.max())
        first = load.cumsum(0) - load
        cell = experts * room + torch.arange(len(sources), device=x.device) - first[experts]
        rows = sources.new_zeros(n * room).scatter_(0, cell, sources)
        padded = x.index_select(0, rows).unflatten(0, (n, room))
        hidden = swiglu(torch.bmm(padded, self.gate_up.mT))
        return torch.bmm(hidden, self.down.mT).flatten(0, 1).index_select(0, cell)


class RMSNorm(nn.Module):
    """Divide by the root mean square, in float32, then multiply by a learned weight."""

    def __init__(self, size: int, eps: float, name: str = "", **made) -> None:
        super().__init__()
        self.name, self.eps = name, eps
        self.weight = nn.Parameter(torch.ones(size, **made))

    def forward(
        self, x: Float[Tensor, "*any size"], tap: Tap = NOTHING
    ) -> Float[Tensor, "*any size"]:
        if x.is_cuda and not (
            tap.wants(f"{self.name}.hook_scale") or tap.wants(f"{self.name}.hook_normalized")
        ):
            return self.weight * F.rms_norm(x, x.shape[-1:], eps=self.eps)
        wide = x.float()
        scale = (wide.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()
        scale = tap(f"{self.name}.hook_scale", scale)
        # Cast back before the weight, as the reference does.
        return self.weight * tap(f"{self.name}.hook_normalized", (wide / scale).to(x.dtype))


def can_multiply_groups(x: Tensor) -> bool:
    """Whether `grouped_mm` takes such a tensor; gradients are left to what all torches have."""
    if not hasattr(F, "grouped_mm") or torch.is_grad_enabled():
        return False
    if x.device.type == "cuda":
        # Others loop over the groups, and wait until they know them.
        able = torch.cuda.get_device_capability(x.device)[0] in (9, 10)
        return able and x.dtype == torch.bfloat16
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)


def _back_in_order(
    out: Float[Tensor, "slot d_model"], order: Int[Tensor, " slot"]
) -> Float[Tensor, "slot d_model"]:
    """Rows that were put in an order, as they were before."""
    if not torch.is_grad_enabled():
        return torch.empty_like(out).index_copy_(0, order, out)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=out.device))
    # index_select, whose gradient is far quicker than that of indexing.
    return out.index_select(0, place)


def swiglu(gate_up: Float[Tensor, "*any twice"]) -> Float[Tensor, "*any once"]:
    """SiLU of the first half times the second half."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up
