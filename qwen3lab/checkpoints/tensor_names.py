"""Translates the model's parameter names to the tensor names of published checkpoints."""

from collections.abc import Iterable, Iterator, Set
from typing import NamedTuple

from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config

OUTSIDE_BLOCKS = {
    "embed.weight": "model.embed_tokens.weight",
    "ln_final.weight": "model.norm.weight",
    "unembed.weight": "lm_head.weight",
    "score.weight": "score.weight",
}
# Names within one block, without the prefix `blocks.{layer}.` or `model.layers.{layer}.`.
INSIDE_BLOCK = {
    "ln1.weight": "input_layernorm.weight",
    "ln2.weight": "post_attention_layernorm.weight",
    **{f"attn.{x}.weight": f"self_attn.{x}_proj.weight" for x in "qkvo"},
    **{f"attn.{x}_norm.weight": f"self_attn.{x}_norm.weight" for x in "qk"},
    **{f"mlp.{x}.weight": f"mlp.{x}_proj.weight" for x in ("gate", "up", "down")},
    "mlp.router.weight": "mlp.gate.weight",
}
EXPERT_MATRICES = {"mlp.gate_up": ("gate_proj", "up_proj"), "mlp.down": ("down_proj",)}
FUSED_EXPERTS = {"mlp.gate_up": "mlp.experts.gate_up_proj", "mlp.down": "mlp.experts.down_proj"}
STACKED_EXPERTS = "mlp.switch_mlp."
"""MLX's name of a layer's experts: one stack for each of their matrices."""
TIED_UNEMBEDDING = "lm_head.weight"
"""A checkpoint with tied embeddings may store this copy, or only this one."""
OF_BASE_MODEL = ("embed_tokens.", "layers.", "norm.")
"""Names without the prefix `model.`: of a checkpoint that was saved without its `lm_head`."""


class StoredPart(NamedTuple):
    """A published tensor, or one entry of its first axis."""

    name: str
    entry: int | None = None


def stored_names(names: Iterable[str]) -> dict[str, str]:
    """The stored name of each tensor, by its published name with the prefix `model.`.

    Where some names have the prefix, all keep their names: `transformers` joins the experts of a
    mixture of both in another order.
    """
    stored = list(names)
    if any(name.startswith("model.") for name in stored):
        return {name: name for name in stored}
    return {f"model.{n}" if n.startswith(OF_BASE_MODEL) else n: n for n in stored}


def is_base_model(names: Iterable[str]) -> bool:
    """True if a model was saved without any head: no name has the prefix `model.`."""
    stored = list(names)
    has_prefix = any(name.startswith("model.") for name in stored)
    return not has_prefix and any(name.startswith(OF_BASE_MODEL) for name in stored)


def published_name(name: str) -> str:
    """The published name of a parameter; in names of experts, `{e}` stands for the expert."""
    layer, inner = split_name(name)
    if not layer:
        return OUTSIDE_BLOCKS[name]
    if inner in EXPERT_MATRICES:
        return f"model.layers.{layer}.mlp.experts.{{e}}.{'|'.join(EXPERT_MATRICES[inner])}.weight"
    return f"model.layers.{layer}.{INSIDE_BLOCK[inner]}"


def split_name(name: str) -> tuple[str, str]:
    """`blocks.3.attn.q.weight` as ("3", "attn.q.weight"); the layer is "" outside the blocks."""
    if not name.startswith("blocks."):
        return "", name
    _, layer, inner = name.split(".", 2)
    return layer, inner


def stored_parts(name: str, config: Qwen3Config, available: Set[str]) -> list[StoredPart]:
    """The published tensors that make up a parameter, in row order."""
    layer, inner = split_name(name)
    if inner not in EXPERT_MATRICES:
        published = published_name(name)
        only_unembedding = config.tied_embeddings and published not in available
        if name == "embed.weight" and only_unembedding and TIED_UNEMBEDDING in available:
            return [StoredPart(TIED_UNEMBEDDING)]
        return [StoredPart(published)]
    fused = f"model.layers.{layer}.{FUSED_EXPERTS[inner]}"
    if fused in available:
        return [StoredPart(fused)]
    return [
        part
        for expert in range(config.n_experts)
        for part in stored_parts_of_expert(int(layer), expert, inner, available)
    ]


def stored_parts_of_expert(
    layer: int, expert: int, inner: str, available: Set[str]
) -> list[StoredPart]:
    """The published tensors that make up one expert's `mlp.gate_up` or `mlp.down`."""
    fused = f"model.layers.{layer}.{FUSED_EXPERTS[inner]}"
    if fused in available:
        return [StoredPart(fused, expert)]
    leaves = EXPERT_MATRICES[inner]
    stacks = [f"model.layers.{layer}.{STACKED_EXPERTS}{leaf}.weight" for leaf in leaves]
    if set(stacks) <= available:
        return [StoredPart(stack, expert) for stack in stacks]
    return [
        StoredPart(f"model.layers.{layer}.mlp.experts.{expert}.{leaf}.weight")
        for leaf in EXPERT_MATRICES[inner]
    ]


def is_fused(name: str) -> bool:
    """Whether a published tensor holds all experts of a layer."""
    return name.endswith(tuple(FUSED_EXPERTS.values()))


def published_tensors(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A parameter split into published tensors: pairs of name and value."""
    layer, inner = split_name(name)
    if inner not in EXPERT_MATRICES:
        yield published_name(name), value
        return
    for expert, matrix in enumerate(value):
        parts = stored_parts_of_expert(int(layer), expert, inner, set())
        for part, piece in zip(parts, matrix.chunk(len(parts)), strict=True):
            # Cloned: the file format refuses tensors that share memory.
            yield part.name, piece.clone()
