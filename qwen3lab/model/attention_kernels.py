"""Attention without materialising the pattern: which kernel runs, and why."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from qwen3lab.model.positions import Place


def mix_fused(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch kv_head key d_head"],
    v: Float[Tensor, "batch kv_head key d_head"],
    place: Place,
) -> Float[Tensor, "batch head query d_head"]:
    """Values mixed by attention without ever making the pattern."""
    grouped = q.shape[1] != k.shape[1]
    if place.is_plain:
        causal = q.shape[2] > 1
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)
    if q.shape[2] == 1:
        return mix_one(q, k, v, place)
    if grouped and q.is_cuda:
        # There, kernels that take a mask know no groups: else the whole pattern would be made.
        k, v = (each.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for each in (k, v))
        grouped = False
    return F.scaled_dot_product_attention(q, k, v, attn_mask=place.allowed(), enable_gqa=grouped)


def mix_one(
    q: Float[Tensor, "batch head 1 d_head"],
    k: Float[Tensor, "batch kv_head key d_head"],
    v: Float[Tensor, "batch kv_head key d_head"],
    place: Place,
) -> Float[Tensor, "batch head 1 d_head"]:
    """The same for one query a row and a mask: heads that share keys are queries of one head.

    (Fused kernels that take a mask know no groups; and those of a GPU go through the keys of a
    head one after another, where products use all of it.)
    """
    batch, kv_head, _, d_head = k.shape
    together = rearrange(q, "batch (kv group) 1 d_head -> batch kv group d_head", kv=kv_head)
    if can_widen(q):
        scores = torch.bmm(
            together.flatten(0, 1), k.flatten(0, 1).mT, out_dtype=torch.float32
        ).unflatten(0, (batch, kv_head))
        pattern = torch.add(place.bias(), scores, alpha=d_head**-0.5).softmax(dim=-1)
        z = pattern.to(v.dtype) @ v
    else:
        z = F.scaled_dot_product_attention(together, k, v, attn_mask=place.allowed())
    return rearrange(z, "batch kv group d_head -> batch (kv group) 1 d_head")


def can_widen(x: Tensor) -> bool:
    """Whether `bmm` gives products of such tensors in float32, without rounding them."""
    few_bits = x.dtype in (torch.bfloat16, torch.float16)
    return x.is_cuda and few_bits and torch.__version__ >= "2.8" and not torch.is_grad_enabled()
