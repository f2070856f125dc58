"""Value-weighted attention: attention weights times the norm of the transformed values."""

from collections.abc import Iterator
from typing import Any

from einops import einsum, rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.attention.statistics import BLOCK
from qwen3lab.analysis.one_model import check_recorded_by
from qwen3lab.arguments import Count, checked
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.lab import Lab
from qwen3lab.recording.recording import Recording

NEEDED = "blocks.*.attn.hook_v"
"""Hook to record in addition to the default ones."""


@checked
@without_grad
def carried(lab: Lab, recording: Recording, layer: int) -> Float[Tensor, "head key"]:
    """Norm of each head's output for each key token at an attention weight of 1.

    The norm of the token's value times the head's part of W_O (Kobayashi et al.,
    arXiv 2004.10102, equation 5). Their transform has a bias; Qwen3 has none.

    Args:
        lab: the recorded model.
        recording: with values; record with `capture=value_weighted.NEEDED`.
        layer: its number.

    Raises:
        RecordingError: values were not recorded.
    """
    check_recorded_by(lab, recording)
    config = lab.config
    group = config.n_heads // config.n_kv_heads
    values = repeat(
        recording[f"blocks.{layer}.attn.hook_v"].float(),
        "key kv_head d_head -> key (kv_head group) d_head",
        group=group,
    )
    block: Any = lab.model.blocks[layer]
    w_out = rearrange(
        block.attn.o.weight.float().cpu(),
        "d_model (head d_head) -> head d_head d_model",
        d_head=config.d_head,
    )
    # |v W|^2 = v (W W^T) v^T avoids one vector of d_model per token and head.
    square = einsum(w_out, w_out, "head i d_model, head j d_model -> head i j")
    squared = einsum(values, square, values, "key head i, head i j, key head j -> head key")
    return squared.clamp(min=0).sqrt()


@checked
def moved_blocks(
    lab: Lab, recording: Recording, layer: int, *, block: Count = BLOCK
) -> Iterator[tuple[int, Float[Tensor, "head query key"]]]:
    """Value-weighted attention of a layer, in blocks of queries.

    Yields:
        The position of a block's first query, and the block.

    Raises:
        RecordingError: attention or values were not recorded.
    """
    lengths = carried(lab, recording, layer)
    for start, pattern in recording.attention.blocks(layer, size=block):
        yield start, pattern * lengths[:, None]
