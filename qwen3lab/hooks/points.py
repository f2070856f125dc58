"""The table of hook points; names follow TransformerLens.

The table also gives the names of the same tensors in TransformerLens 4 and in interp-engine.
"""

import difflib
import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError
from qwen3lab.translation import later, tr


@dataclass(frozen=True)
class HookPoint:
    """One row of the table.

    Attributes:
        pattern: the hook's name, with `{l}` for the layer.
        axes: names of the tensor's axes.
        meaning: what the values are.
        where: layers that have the hook: all, dense layers, or layers with experts ("moe").
        on_request: True if the forward pass computes it only for a tap that wants it.
        lens_name: TransformerLens' name; None if it is the same as `pattern`, empty if
            TransformerLens has no such hook.
        interp_engine: interp-engine's name of the same tensor; empty if it has no such tensor.
    """

    pattern: str
    axes: str
    meaning: str
    where: Literal["all", "dense", "moe"] = "all"
    on_request: bool = False
    lens_name: str | None = None
    interp_engine: str = ""

    @property
    def transformer_lens(self) -> str:
        """TransformerLens' name of the same tensor; empty if it has no such hook."""
        return self.pattern if self.lens_name is None else self.lens_name


def _norm(pattern: str, scale: str, normalised: str) -> tuple[HookPoint, HookPoint]:
    """Both hooks of an RMSNorm; interp-engine has only its output, multiplied by the weight."""
    return (
        HookPoint(f"{pattern}.hook_scale", "batch pos 1", scale),
        HookPoint(f"{pattern}.hook_normalized", "batch pos d_model", normalised),
    )


_STREAM = "batch pos d_model"
_MLP = "batch pos d_mlp"
LOGITS = "hook_unembed"

HOOK_POINTS: tuple[HookPoint, ...] = (
    HookPoint("hook_embed", _STREAM, later("token embeddings"), interp_engine="embeddings"),
    HookPoint(
        "blocks.{l}.hook_resid_pre",
        _STREAM,
        later("residual stream entering the block"),
        interp_engine="resid_pre.{l}",
    ),
    *_norm(
        "blocks.{l}.ln1",
        later("root mean square of the attention's input"),
        later("the attention's input, normalised"),
    ),
    HookPoint(
        "blocks.{l}.attn.hook_q",
        "batch pos head d_head",
        later("queries before QK-norm"),
        interp_engine="q_norm_in.{l}",
    ),
    HookPoint(
        "blocks.{l}.attn.hook_k",
        "batch pos kv_head d_head",
        later("keys before QK-norm"),
        interp_engine="k_norm_in.{l}",
    ),
    HookPoint(
        "blocks.{l}.attn.hook_v",
        "batch pos kv_head d_head",
        later("values"),
        interp_engine="value.{l}",
    ),
    HookPoint(
        "blocks.{l}.attn.hook_rot_q",
        "batch pos head d_head",
        later("queries, QK-normed and rotated"),
    ),
    HookPoint(
        "blocks.{l}.attn.hook_rot_k",
        "batch pos kv_head d_head",
        later("keys, QK-normed and rotated"),
    ),
    HookPoint(
        "blocks.{l}.attn.hook_attn_scores",
        "batch head query key",
        later("attention scores, scaled and masked"),
        on_request=True,
        interp_engine="attn_scores.{l}",
    ),
    HookPoint(
        "blocks.{l}.attn.hook_pattern",
        "batch head query key",
        later("attention pattern, rows sum to 1"),
        on_request=True,
        interp_engine="attn_probs.{l}",
    ),
    HookPoint(
        "blocks.{l}.attn.hook_z",
        "batch pos head d_head",
        later("values mixed by the pattern"),
        interp_engine="z.{l}",
    ),
    HookPoint(
        "blocks.{l}.attn.hook_result",
        "batch pos head d_model",
        later("each head's output, as added to the residual stream"),
        on_request=True,
    ),
    HookPoint(
        "blocks.{l}.hook_attn_out",
        _STREAM,
        later("attention output, as added to the residual stream"),
        interp_engine="attn_out_post.{l}",
    ),
    HookPoint(
        "blocks.{l}.hook_resid_mid",
        _STREAM,
        later("residual stream between attention and MLP"),
        interp_engine="resid_mid.{l}",
    ),
    *_norm(
        "blocks.{l}.ln2",
        later("root mean square of the MLP's input"),
        later("the MLP's input, normalised"),
    ),
    HookPoint(
        "blocks.{l}.mlp.hook_pre",
        _MLP,
        later("gate projection before SiLU"),
        "dense",
        interp_engine="mlp_pre.{l}",
    ),
    HookPoint(
        "blocks.{l}.mlp.hook_pre_linear",
        _MLP,
        later("up projection"),
        "dense",
        interp_engine="mlp_pre_linear.{l}",
    ),
    HookPoint(
        "blocks.{l}.mlp.hook_post",
        _MLP,
        later("SiLU(gate) times up"),
        "dense",
        interp_engine="mlp_act.{l}",
    ),
    HookPoint(
        "blocks.{l}.mlp.hook_router_logits",
        "batch pos expert",
        later("router logits before the softmax"),
        "moe",
        lens_name="blocks.{l}.mlp.gate.hook_out",
        interp_engine="router_logits.{l}",
    ),
    HookPoint(
        "blocks.{l}.mlp.hook_expert_indices",
        "batch pos k",
        later(
            "indices of the top-k experts; an edit may return more or fewer, and -1 for an empty "
            "slot"
        ),
        "moe",
        interp_engine="expert_indices.{l}",
    ),
    HookPoint(
        "blocks.{l}.mlp.hook_expert_weights",
        "batch pos k",
        later(
            "expert weights as applied, after top-k and renormalisation "
            "(TransformerLens 4 has one column per expert, 0 if it was not chosen)"
        ),
        "moe",
        interp_engine="expert_weights.{l}",
    ),
    HookPoint(
        "blocks.{l}.mlp.hook_expert_out",
        "batch pos k d_model",
        later("each chosen expert's output, before it is weighted"),
        "moe",
        on_request=True,
        lens_name="",
    ),
    HookPoint(
        "blocks.{l}.hook_mlp_out",
        _STREAM,
        later("MLP or MoE output, as added to the residual stream"),
        interp_engine="mlp_out_post.{l}",
    ),
    HookPoint(
        "blocks.{l}.hook_resid_post",
        _STREAM,
        later("residual stream leaving the block"),
        interp_engine="resid_post.{l}",
    ),
    *_norm(
        "ln_final",
        later("root mean square of the unembedding's input"),
        later("the unembedding's input, normalised"),
    ),
    HookPoint(LOGITS, "batch pos vocab", later("the logits"), interp_engine="lm_head"),
)

PATTERN_HOOKS = ("hook_pattern", "hook_attn_scores")
"""Endings of hooks with a query and a key axis; their size is quadratic in the tokens."""


def hook_names(config: Qwen3Config) -> dict[str, HookPoint]:
    """All hook names of a model with this config, in the order of the forward pass."""
    names: dict[str, HookPoint] = {}
    before = [p for p in HOOK_POINTS if p.pattern == "hook_embed"]
    block = [p for p in HOOK_POINTS if "{l}" in p.pattern]
    after = [p for p in HOOK_POINTS if "{l}" not in p.pattern and p not in before]
    for point in before:
        names[point.pattern] = point
    for layer in range(config.n_layers):
        kind = "moe" if layer in config.moe_layers else "dense"
        for point in block:
            if point.where in ("all", kind):
                names[point.pattern.format(l=layer)] = point
    for point in after:
        if config.has_unembedding or point.pattern != LOGITS:
            names[point.pattern] = point
    return names


def resolve_hooks(wanted: str | Iterable[str], config: Qwen3Config) -> list[str]:
    """Hook names that match exact names, globs (`blocks.*.hook_resid_post`), or "all".

    Returns:
        The names in the order of the forward pass, without duplicates.

    Raises:
        HookError: a name or glob matches no hook; the message lists the most similar names.
        HeadlessError: the logits of a model without unembedding.
    """
    known = hook_names(config)
    is_list = isinstance(wanted, Iterable) and not isinstance(wanted, str | bytes)
    patterns: list[Any] = list(wanted) if is_list else [wanted]
    if wrong := [pattern for pattern in patterns if not isinstance(pattern, str)]:
        raise HookError(
            tr(
                "a hook name is text such as 'hook_embed', and not of type {kind}",
                kind=type(wrong[0]).__name__,
            )
        )
    chosen: set[str] = set()
    for pattern in patterns:
        hits = known if pattern == "all" else fnmatch.filter(known, pattern)
        if not hits:
            raise HookError(_unknown(pattern, known, config))
        chosen.update(hits)
    return [name for name in known if name in chosen]


def _unknown(name: str, known: Mapping[str, HookPoint], config: Qwen3Config) -> str:
    if name == LOGITS:
        config.require_unembedding()
    parts = re.match(r"blocks\.(\d+)\.(.*)", name)
    if parts and int(parts[1]) >= config.n_layers:
        return tr(
            "{name!r} does not exist: the model has layers 0 to {last}",
            name=name,
            last=config.n_layers - 1,
        )
    if parts and (other := _layers_with(parts[2], config)):
        kind = tr("has experts") if int(parts[1]) in config.moe_layers else tr("is dense")
        return tr(
            "{name!r} does not exist: layer {layer} {kind}, and {other}",
            name=name,
            layer=parts[1],
            kind=kind,
            other=other,
        )
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = (
        tr("the most similar are {near}", near=", ".join(near))
        if near
        else tr("see qwen3lab.hooks.points.HOOK_POINTS")
    )
    return tr("no hook of this model matches {name!r}: {hint}", name=name, hint=hint)


def _layers_with(inner: str, config: Qwen3Config) -> str:
    """Says which layers have a hook that only dense or only MoE layers have; "" for other hooks."""
    kinds = {point.pattern: point.where for point in HOOK_POINTS}
    kind = kinds.get(f"blocks.{{l}}.{inner}")
    if kind not in ("dense", "moe"):
        return ""
    layers = [i for i in range(config.n_layers) if (i in config.moe_layers) == (kind == "moe")]
    if not layers:
        if kind == "moe":
            return tr("no layer of this model has experts")
        return tr("no layer of this model is dense")
    listed = ", ".join(map(str, layers))
    if kind == "moe":
        return tr("only layers {listed} have experts", listed=listed)
    return tr("only layers {listed} are dense", listed=listed)
