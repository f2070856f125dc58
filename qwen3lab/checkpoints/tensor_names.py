"""Our parameters' names and the published ones, of which they are made."""

from collections.abc import Iterator, Set
from typing import NamedTuple

from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config

OUTER = {
    "embed.weight": "model.embed_tokens.weight",
    "ln_final.weight": "model.norm.weight",
    "unembed.weight": "lm_head.weight",
}
# Inside of a block; `{l}` would be the layer.
IN_BLOCK = {
    "ln1.weight": "input_layernorm.weight",
    "ln2.weight": "post_attention_layernorm.weight",
    **{f"attn.{x}.weight": f"self_attn.{x}_proj.weight" for x in "qkvo"},
    **{f"attn.{x}_norm.weight": f"self_attn.{x}_norm.weight" for x in "qk"},
    **{f"mlp.{x}.weight": f"mlp.{x}_proj.weight" for x in ("gate", "up", "down")},
    "mlp.router.weight": "mlp.gate.weight",
}
EXPERTS = {"mlp.gate_up": ("gate_proj", "up_proj"), "mlp.down": ("down_proj",)}
FUSED = {"mlp.gate_up": "mlp.experts.gate_up_proj", "mlp.down": "mlp.experts.down_proj"}
UNUSED = "lm_head.weight"
"""What a checkpoint may hold although its model, whose embeddings are tied, does not need it."""


class StoredPart(NamedTuple):
    """A published tensor, or one entry of its first axis."""

    name: str
    entry: int | None = None


def published_name(name: str) -> str:
    """The published name of one of our parameters, `{e}` standing for the expert."""
    layer, inner = split_name(name)
    if not layer:
        return OUTER[name]
    if inner in EXPERTS:
        return f"model.layers.{layer}.mlp.experts.{{e}}.{'|'.join(EXPERTS[inner])}.weight"
    return f"model.layers.{layer}.{IN_BLOCK[inner]}"


def split_name(name: str) -> tuple[str, str]:
    """Layer and rest of `blocks.3.attn.q.weight`; no layer outside of the blocks."""
    if not name.startswith("blocks."):
        return "", name
    _, layer, inner = name.split(".", 2)
    return layer, inner


def parts_of(name: str, config: Qwen3Config, available: Set[str]) -> list[StoredPart]:
    """What one of our parameters is made of, in the order in which its rows stand."""
    layer, inner = split_name(name)
    if inner not in EXPERTS:
        return [StoredPart(published_name(name))]
    fused = f"model.layers.{layer}.{FUSED[inner]}"
    if fused in available:
        return [StoredPart(fused)]
    return [
        part
        for expert in range(config.n_experts)
        for part in parts_of_expert(int(layer), expert, inner, available)
    ]


def parts_of_expert(layer: int, expert: int, inner: str, available: Set[str]) -> list[StoredPart]:
    """What one expert's `mlp.gate_up` or `mlp.down` is made of."""
    fused = f"model.layers.{layer}.{FUSED[inner]}"
    if fused in available:
        return [StoredPart(fused, expert)]
    return [
        StoredPart(f"model.layers.{layer}.mlp.experts.{expert}.{leaf}.weight")
        for leaf in EXPERTS[inner]
    ]


def is_fused(name: str) -> bool:
    """Whether a published tensor holds all experts of a layer."""
    return name.endswith(tuple(FUSED.values()))


def as_published(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """One of our tensors as the published ones that it is made of."""
    layer, inner = split_name(name)
    if inner not in EXPERTS:
        yield published_name(name), value
        return
    for expert, whole in enumerate(value):
        parts = parts_of_expert(int(layer), expert, inner, set())
        for part, piece in zip(parts, whole.chunk(len(parts)), strict=True):
            # Cloned: the file format refuses tensors that share memory.
            yield part.name, piece.clone()
