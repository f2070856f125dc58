"""How the experts of a layer run: five ways to dispatch tokens, and the cost model that chooses.

A slot is one pair of a token and one of its k experts. Every way gives the same outputs but for
rounding. Which one is fastest depends on the device, the size of an expert, and the number of
tokens per expert:

- *gathered*: copies the matrices of each slot's expert, for one batched product; for few tokens;
- *padded*: one batched product, each expert's group padded to the largest; for small experts that
  are evenly loaded;
- *grouped*: `torch.nn.functional.grouped_mm`, where torch has it for the device and dtype;
- *looped*: one expert after another; for many tokens per expert, and for weights that are streamed
  or quantised;
- *summed*: as looped, but added into one total, so that single outputs are never held; for long
  prompts on a CPU.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.device.dtypes import at_least_float32
from qwen3lab.errors import HookError

MAX_BATCHED_TOKENS_PER_EXPERT = 64
"""Above this mean number of tokens per expert, a loop over experts is as fast on a CPU as a grouped
product (measured with the experts of Qwen3-30B-A3B, in float32 and bfloat16)."""

MAX_GATHERED_BYTES = 2**28
"""Bytes of gate and up matrices (down comes on top) that are copied at most, on a GPU without a
grouped product."""

MAX_SMALL_EXPERT_VALUES = 2**17
"""Values in one expert's gate and up matrix up to which padding and gathering pay, and direct sums
do not."""

GROUPED_ROW_BYTES = 16
"""`grouped_mm` takes matrices whose rows have a multiple of so many bytes."""

MAX_PADDING_RATIO = 3
"""Padded rows per real row, at most."""


@runtime_checkable
class Product(Protocol):
    """The product of tokens and one matrix, as of a linear layer without bias."""

    def __call__(self, x: Float[Tensor, "token column"], /) -> Float[Tensor, "token row"]: ...


@runtime_checkable
class ExpertWeights(Protocol):
    """The matrices of a layer's experts: stacked in memory, streamed from disk, or quantised.

    Attributes:
        gate_up: gate and up, stacked, gate first; has the shape (expert, 2 d_expert, d_model). A
            tensor if `stacked`.
        down: has the shape (expert, d_model, d_expert). A tensor if `stacked`.
        stacked: True if both are plain tensors in memory, to be used in one product.
    """

    gate_up: Any
    down: Any
    stacked: bool

    def products(self, experts: list[int]) -> Iterator[tuple[Product, Product]]:
        """For each of these experts in turn: its product with gate and up, and that with down."""
        ...


def stacked_products(
    gate_up: Float[Tensor, "expert twice_d_expert d_model"],
    down: Float[Tensor, "expert d_model d_expert"],
    experts: list[int],
) -> Iterator[tuple[Product, Product]]:
    """`ExpertWeights.products` of matrices that are in memory."""
    # Unbound, not indexed: the gradient of an index fills a tensor of all experts.
    gates, downs = gate_up.unbind(), down.unbind()
    return (
        (partial(F.linear, weight=gates[e]), partial(F.linear, weight=downs[e])) for e in experts
    )


def reroute(
    experts: Int[Tensor, "batch pos k"], probabilities: Float[Tensor, "batch pos expert"], name: str
) -> tuple[Int[Tensor, "batch pos k"], Float[Tensor, "batch pos k"]]:
    """Experts and weights after an edit of the choice; an empty slot, -1, has weight 0.

    Raises:
        HookError: the chosen experts of a token have a total weight of about 0.
    """
    chosen = experts.clamp(min=0)
    weights = probabilities.gather(-1, chosen).where(experts >= 0, 0.0)
    # Below this, float32 loses digits, down to 0/0.
    empty = weights.sum(dim=-1) < torch.finfo(torch.float32).tiny
    if bool(empty.any()):
        row, token = empty.nonzero()[0].tolist()
        raise HookError(
            f"the edits of {name}.hook_expert_indices leave the token at position {token} of row "
            f"{row} with experts of router probability 0: raise their router logits too, or choose "
            "others"
        )
    return chosen, weights


def swiglu(gate_up: Float[Tensor, "*any twice"]) -> Float[Tensor, "*any once"]:
    """SiLU of the first half times the second half."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def dispatch(
    weights: ExpertWeights,
    x: Float[Tensor, "batch pos d_model"],
    experts: Int[Tensor, "batch pos k"],
) -> Float[Tensor, "batch pos k d_model"]:
    """The output of each chosen expert, not weighted."""
    tokens, chosen = x.flatten(0, 1), experts.flatten(0, 1)
    if gathering_pays(weights, chosen.numel(), x):
        return _gathered(weights, tokens, chosen).unflatten(0, x.shape[:2])
    by_expert, order = chosen.flatten().sort(stable=True)
    sources = order // chosen.shape[1]
    # Checked first: reading the load takes time, and would synchronise with a GPU.
    if grouping_pays(weights, chosen.numel(), x):
        out = _grouped(weights, tokens, sources, by_expert)
    elif padding_pays(weights, load := _load(weights, by_expert), chosen.numel()):
        out = _padded(weights, tokens, sources, by_expert, load)
    else:
        out = _looped(weights, tokens, sources, load)
    return _in_token_order(out, order).unflatten(0, experts.shape)


def sums_directly(weights: ExpertWeights, experts: Int[Tensor, "batch pos k"]) -> bool:
    """Whether `weighted_sum` is faster than `dispatch`: large experts and a long prompt, on a CPU.

    On a GPU the order of additions in `index_add_` would change from run to run.
    """
    n, rows, columns = weights.gate_up.shape
    long = experts.numel() > MAX_BATCHED_TOKENS_PER_EXPERT * n
    large = rows * columns > MAX_SMALL_EXPERT_VALUES
    return long and large and experts.device.type == "cpu" and not torch.is_grad_enabled()


def weighted_sum(
    weights: ExpertWeights,
    x: Float[Tensor, "batch pos d_model"],
    experts: Int[Tensor, "batch pos k"],
    expert_weights: Float[Tensor, "batch pos k"],
) -> Float[Tensor, "batch pos d_model"]:
    """The weighted sum of each token's experts, accumulated in float32, expert after expert.

    The outputs of single experts are never held, which saves k times the memory.
    """
    tokens, flat, k = x.flatten(0, 1), experts.flatten(), experts.shape[-1]
    order = flat.argsort(stable=True)
    load = torch.bincount(flat, minlength=weights.down.shape[0]).tolist()
    sources = (order // k).split(load)
    shares = expert_weights.flatten()[order, None].split(load)
    used = [e for e, n in enumerate(load) if n]
    total = torch.zeros_like(tokens, dtype=at_least_float32(tokens.dtype))
    for e, (gate_up, down) in zip(used, weights.products(used), strict=True):
        out = down(swiglu(gate_up(tokens.index_select(0, sources[e]))))
        total.index_add_(0, sources[e], (out * shares[e]).to(total.dtype))
    return total.to(x.dtype).view_as(x)


def has_fixed_steps(weights: ExpertWeights, n_slots: int, x: Tensor) -> bool:
    """Whether `dispatch` of so many slots runs the same kernels wherever tokens are routed.

    Only such a pass can be captured as a CUDA graph.

    Args:
        weights: of the layer.
        n_slots: tokens times k.
        x: a tensor of the activations' device and dtype.
    """
    return gathering_pays(weights, n_slots, x) or grouping_pays(weights, n_slots, x)


def gathering_pays(weights: ExpertWeights, n_slots: int, x: Tensor) -> bool:
    """Whether copies of the matrices, one per slot, beat sorting tokens by expert.

    That is so for few tokens and small experts. On a GPU without a grouped product it is so for
    larger ones as well, as any other way would synchronise with the GPU.
    """
    n, rows, columns = weights.gate_up.shape
    if not weights.stacked or n_slots > n:
        return False
    few_bytes = n_slots * rows * columns * weights.gate_up.itemsize <= MAX_GATHERED_BYTES
    grouped = has_grouped_product(x) and fits_grouped_product(weights)
    synchronises = weights.gate_up.is_cuda and not grouped
    return rows * columns <= MAX_SMALL_EXPERT_VALUES or (few_bytes and synchronises)


def padding_pays(weights: ExpertWeights, load: Int[Tensor, " expert"], n_slots: int) -> bool:
    """Whether one padded product beats a loop: for small experts that are evenly loaded."""
    n, rows, columns = weights.gate_up.shape
    few = n_slots <= MAX_BATCHED_TOKENS_PER_EXPERT * n or load.device.type != "cpu"
    small = weights.stacked and few and rows * columns <= MAX_SMALL_EXPERT_VALUES
    return small and int(load.max()) * n <= MAX_PADDING_RATIO * n_slots


def grouping_pays(weights: ExpertWeights, n_slots: int, x: Tensor) -> bool:
    """Whether there is a grouped product for these tensors, and it beats a loop."""
    few = n_slots <= MAX_BATCHED_TOKENS_PER_EXPERT * weights.down.shape[0]
    pays = weights.stacked and (few or x.device.type != "cpu")
    return pays and fits_grouped_product(weights) and has_grouped_product(x)


def fits_grouped_product(weights: ExpertWeights) -> bool:
    """Whether rows of both matrices are as long as `grouped_mm` asks for."""
    widths = (weights.gate_up.shape[-1], weights.down.shape[-1])
    return all(width * weights.down.itemsize % GROUPED_ROW_BYTES == 0 for width in widths)


def has_grouped_product(x: Tensor) -> bool:
    """Whether `grouped_mm` takes tensors of this device and dtype, without gradients."""
    if not hasattr(F, "grouped_mm") or torch.is_grad_enabled():
        return False
    if x.device.type == "cuda":
        # Other GPUs loop over the groups on the host, which synchronises.
        able = torch.cuda.get_device_capability(x.device)[0] in (9, 10)
        return able and x.dtype == torch.bfloat16
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)


def _load(weights: ExpertWeights, experts: Int[Tensor, " slot"]) -> Int[Tensor, " expert"]:
    """Slots of each expert; unlike `bincount` it does not synchronise with a GPU."""
    zeros = experts.new_zeros(weights.down.shape[0])
    return zeros.scatter_add_(0, experts, torch.ones_like(experts))


def _gathered(
    weights: ExpertWeights, x: Float[Tensor, "token d_model"], experts: Int[Tensor, "token k"]
) -> Float[Tensor, "token k d_model"]:
    flat, k = experts.flatten(), experts.shape[1]
    tokens = x.repeat_interleave(k, dim=0)[:, None]
    hidden = swiglu(torch.bmm(tokens, weights.gate_up.index_select(0, flat).mT))
    out = torch.bmm(hidden, weights.down.index_select(0, flat).mT)
    return rearrange(out, "(token k) 1 d_model -> token k d_model", k=k)


def _grouped(
    weights: ExpertWeights,
    x: Float[Tensor, "token d_model"],
    sources: Int[Tensor, " slot"],
    experts: Int[Tensor, " slot"],
) -> Float[Tensor, "slot d_model"]:
    """`sources`: the token of each slot, slots sorted by expert; `experts`: the expert of each."""
    every = torch.arange(weights.down.shape[0], device=x.device)
    ends = torch.searchsorted(experts, every, right=True, out_int32=True)
    hidden = swiglu(F.grouped_mm(x.index_select(0, sources), weights.gate_up.mT, offs=ends))
    return F.grouped_mm(hidden, weights.down.mT, offs=ends)


def _padded(
    weights: ExpertWeights,
    x: Float[Tensor, "token d_model"],
    sources: Int[Tensor, " slot"],
    experts: Int[Tensor, " slot"],
    load: Int[Tensor, " expert"],
) -> Float[Tensor, "slot d_model"]:
    """`sources`: the token of each slot, slots sorted by expert; `experts`: the expert of each."""
    n, width = len(load), int(load.max())
    first = load.cumsum(0) - load
    cell = experts * width + torch.arange(len(sources), device=x.device) - first[experts]
    rows = sources.new_zeros(n * width).scatter_(0, cell, sources)
    # Without a name, the padded tokens are freed before the activations are computed.
    hidden = swiglu(torch.bmm(x.index_select(0, rows).unflatten(0, (n, width)), weights.gate_up.mT))
    return torch.bmm(hidden, weights.down.mT).flatten(0, 1).index_select(0, cell)


def _looped(
    weights: ExpertWeights,
    x: Float[Tensor, "token d_model"],
    sources: Int[Tensor, " slot"],
    load: Int[Tensor, " expert"],
) -> Float[Tensor, "slot d_model"]:
    """`sources`: the token of each slot, slots sorted by expert."""
    groups = x.index_select(0, sources).split(load.tolist())
    used = {e: group for e, group in enumerate(groups) if len(group)}
    # All `products` are generators. Closed here, so that after an interrupt the exception's
    # traceback does not keep streamed weights alive.
    products = cast(Generator[tuple[Product, Product], None, None], weights.products(list(used)))
    with closing(products):
        return torch.cat(
            [
                down(swiglu(gate_up(group)))
                for group, (gate_up, down) in zip(used.values(), products, strict=True)
            ]
        )


def _in_token_order(
    out: Float[Tensor, "slot d_model"], order: Int[Tensor, " slot"]
) -> Float[Tensor, "slot d_model"]:
    """Rows sorted by expert, put back into the order of the slots."""
    if not torch.is_grad_enabled():
        return torch.empty_like(out).index_copy_(0, order, out)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=out.device))
    # index_select, whose gradient is much faster than that of indexing.
    return out.index_select(0, place)
