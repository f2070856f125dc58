"""Attention without materialising the pattern: which kernel runs, and why."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from qwen3lab.device.dtypes import at_least_float32
from qwen3lab.model.positions import Positions


def mix_fused(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch kv_head key d_head"],
    v: Float[Tensor, "batch kv_head key d_head"],
    positions: Positions,
) -> Float[Tensor, "batch head query d_head"]:
    """Values mixed by attention, without the pattern in memory."""
    grouped = q.shape[1] != k.shape[1]
    if positions.needs_no_mask:
        causal = q.shape[2] > 1
        z = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)
        # In a decoding step it would cost 4% of the time, and the prompt's logits are NaN already.
        is_decoding_step = q.shape[2] == 1 and k.shape[2] > 1
        return z if q.is_cuda or is_decoding_step else _with_nan_of(q, k, z)
    if not q.is_cuda and positions.text_lengths():
        return mix_texts(q, k, v, positions.text_lengths())
    if q.shape[2] == 1:
        return mix_one_query(q, k, v, positions)
    if grouped and q.is_cuda:
        # CUDA's fused kernels with a mask do not support grouped heads; the fallback would
        # materialise the pattern.
        k, v = (each.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for each in (k, v))
        grouped = False
    mask = positions.attention_mask()
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)


def mix_texts(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch kv_head key d_head"],
    v: Float[Tensor, "batch kv_head key d_head"],
    lengths: list[int],
) -> Float[Tensor, "batch head query d_head"]:
    """Causal attention within each of the texts that are packed into the rows, one by one.

    With a mask, the CPU's kernel computes the scores between different texts as well: in rows of
    512 tokens most of its time.
    """
    rows = len(q)
    flat = [rearrange(each, "row head pos d_head -> 1 head (row pos) d_head") for each in (q, k, v)]
    texts = zip(*(each.split(lengths, dim=2) for each in flat), strict=True)
    grouped = q.shape[1] != k.shape[1]
    mixed = [
        F.scaled_dot_product_attention(*text, is_causal=True, enable_gqa=grouped) for text in texts
    ]
    z = torch.cat(mixed, dim=2)
    return rearrange(z, "1 head (row pos) d_head -> row head pos d_head", row=rows)


def _with_nan_of(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch kv_head key d_head"],
    z: Float[Tensor, "batch head query d_head"],
) -> Float[Tensor, "batch head query d_head"]:
    """`z`, but NaN at queries that are NaN: on short prompts the CPU's kernel returns zeros there.

    With a single key, it also overlooks a key that is NaN.
    """
    # In float32, where the sum of finite values is finite, too.
    options = {"dim": -1, "keepdim": True, "dtype": at_least_float32(q.dtype)}
    z = z + (0 * q.sum(**options)).to(z.dtype)
    if k.shape[2] == 1:
        nan = (0 * k.sum(**options)).to(z.dtype)
        z = z + nan.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    return z


def mix_one_query(
    q: Float[Tensor, "batch head 1 d_head"],
    k: Float[Tensor, "batch kv_head key d_head"],
    v: Float[Tensor, "batch kv_head key d_head"],
    positions: Positions,
) -> Float[Tensor, "batch head 1 d_head"]:
    """`mix_fused` for one query per row and a mask: a group's heads become queries of one head.

    Fused kernels with a mask do not support grouped heads, and on a GPU they walk through the keys
    of a head in sequence, where matrix products use the whole device.
    """
    batch, kv_head, _, d_head = k.shape
    together = q.squeeze(2).unflatten(1, (kv_head, -1))
    if has_float32_products(q):
        scores = torch.bmm(
            together.flatten(0, 1), k.flatten(0, 1).mT, out_dtype=torch.float32
        ).unflatten(0, (batch, kv_head))
        bias = positions.attention_bias(torch.float32)
        pattern = torch.add(bias, scores, alpha=d_head**-0.5).softmax(dim=-1)
        z = pattern.to(v.dtype) @ v
    else:
        # Of a boolean mask, the kernel makes the bias anew in every layer.
        bias = positions.attention_bias(q.dtype)
        z = F.scaled_dot_product_attention(together, k, v, attn_mask=bias)
    return z.flatten(1, 2).unsqueeze(2)


def has_float32_products(x: Tensor) -> bool:
    """Whether `bmm` returns products of such tensors in float32, not rounded."""
    half = x.dtype in (torch.bfloat16, torch.float16)
    return x.is_cuda and half and torch.__version__ >= "2.8" and not torch.is_grad_enabled()
