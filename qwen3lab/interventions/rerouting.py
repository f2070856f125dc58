"""Interventions on expert routing: switch experts off or on, change k or the router logits.

Each function returns a `Rerouting` to pass as `edits`. `a + b` applies `a` first, then `b`. All
functions except `top_k` change the router logits; the model then routes as usual: softmax over
all experts, top-k, and renormalisation of the weights to sum to 1 if the model does so
(`norm_topk_prob`; every published Qwen3 does). The weight of a switched-off expert is therefore
distributed over the chosen ones in proportion to their own weights.

    lab.chat(question, edits=rerouting.off(5, layers=2) + rerouting.top_k(2))
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.arguments import Seed, check_fields, checked
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError
from qwen3lab.hooks.edits import Edit
from qwen3lab.interventions.positions import RunPositions, Tokens, chosen
from qwen3lab.interventions.routing_changes import (
    At,
    Bias,
    Borrowed,
    Change,
    Off,
    On,
    Scale,
    Shuffled,
    TopK,
)
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr

Numbers = int | Iterable[int]
_MOE = "blocks.{}.mlp.hook_{}"


@dataclass(frozen=True)
class Rerouting:
    """Routing changes, in the order in which they are applied; `+` appends more."""

    changes: tuple[Change, ...]

    def __post_init__(self) -> None:
        check_fields(self)

    def __add__(self, other: object) -> "Rerouting":
        if not isinstance(other, Rerouting):
            return NotImplemented
        return Rerouting(self.changes + other.changes)

    def edits(self, config: Qwen3Config, padding: Sequence[int]) -> Mapping[str, Edit]:
        """The edits for one run, by hook name; see `qwen3lab.hooks.edits.Intervention`.

        Args:
            config: of the model.
            padding: number of padding tokens to the left of each text in the batch.

        Raises:
            HookError: the model is dense, or has no such layer or expert.
        """
        if not config.is_moe:
            raise HookError(
                tr("this model is dense: it has no experts whose routing could be changed")
            )
        for change in self.changes:
            change.check(config)
        changes = [
            replace(change, layers=moe_layers_of(change.layers, config)) for change in self.changes
        ]
        _check_some_are_on(changes, config)
        run = _RunState(config, changes, padding)
        edits: dict[str, Edit] = {"hook_embed": run.positions.count}
        for layer in sorted({layer for change in changes for layer in change.layers or ()}):
            edits[_MOE.format(layer, "router_logits")] = _LogitsEdit(run)
            edits[_MOE.format(layer, "expert_indices")] = run.edit_experts
        return edits


class _LogitsEdit:
    """The edit of a layer's router logits; also receives their final value after later edits."""

    def __init__(self, run: "_RunState") -> None:
        self.run = run

    def __call__(
        self, logits: Float[Tensor, "batch pos expert"], name: str
    ) -> Float[Tensor, "batch pos expert"]:
        """Apply all changes of a layer's logits."""
        return self.run.edit_logits(logits, name)

    def settled(self, value: Float[Tensor, "batch pos expert"], name: str) -> None:
        """Receive the final logits, from which the experts are chosen."""
        self.run.keep_final_logits(value, name)


class _RunState:
    """State of one run that its edits share: token positions, and the current layer's logits."""

    def __init__(
        self, config: Qwen3Config, changes: Sequence[Change], padding: Sequence[int]
    ) -> None:
        self.config, self.changes = config, changes
        self.positions = RunPositions(padding)
        self.final_logits: Tensor = torch.zeros(0)
        self.at = At(0, torch.zeros(1, 0).long(), torch.zeros(1, 0).long())

    def edit_logits(
        self, logits: Float[Tensor, "batch pos expert"], name: str
    ) -> Float[Tensor, "batch pos expert"]:
        """Apply all changes of a layer's logits."""
        layer = int(name.split(".")[1])
        k = torch.full_like(self.positions.now, self.config.n_experts_per_token)
        for change in self._changes_of(layer):
            at = At(layer, self.positions.now, k)
            where = change.where(at)
            if isinstance(change, TopK):
                k = k.masked_fill(where, change.k)
            else:
                logits = torch.where(where[..., None], change.logits(logits, at), logits)
        self.at = At(layer, self.positions.now, k)
        return logits

    def keep_final_logits(self, logits: Float[Tensor, "batch pos expert"], name: str) -> None:
        """Keep the logits from which the experts will be chosen."""
        self.final_logits = logits

    def edit_experts(
        self, experts: Int[Tensor, "batch pos k"], name: str
    ) -> Int[Tensor, "batch pos slot"]:
        """Apply changes of k and remove experts that are off; -1 marks an empty slot."""
        changes = self._changes_of(self.at.layer)
        if any(isinstance(change, TopK | On) for change in changes):
            experts = self._choose(experts, changes)
        off = self.final_logits.gather(-1, experts.clamp(min=0)) == -torch.inf
        return experts.masked_fill(off, -1)

    def _choose(
        self, experts: Int[Tensor, "batch pos k"], changes: Sequence[Change]
    ) -> Int[Tensor, "batch pos slot"]:
        """Top-k by the logits, at tokens where a change sets k or forces experts on.

        Uses the logits because the margin of a forced expert is lost in the softmax's rounding.
        """
        limits = [change for change in changes if isinstance(change, TopK)]
        # The width does not depend on the tokens, so all passes of a run have the same width.
        everywhere = any(change.tokens is None for change in limits)
        width = max([change.k for change in limits] + ([] if everywhere else [experts.shape[-1]]))
        limited = self._applies(limits)
        k = torch.where(limited, self.at.k, (experts >= 0).sum(dim=-1))
        rank = torch.arange(width, device=experts.device)
        best = self.final_logits.float().topk(width, dim=-1).indices
        best = best.masked_fill(rank >= k[..., None], -1)
        forced = self._applies([change for change in changes if isinstance(change, On)])
        padded = F.pad(experts, (0, width - experts.shape[-1]), value=-1)
        return torch.where((limited | forced)[..., None], best, padded)

    def _applies(self, changes: Sequence[Change]) -> Bool[Tensor, "batch pos"]:
        """True at tokens where at least one of the changes applies."""
        nowhere = torch.zeros_like(self.positions.now, dtype=torch.bool)
        return torch.stack([nowhere, *(change.where(self.at) for change in changes)]).any(dim=0)

    def _changes_of(self, layer: int) -> list[Change]:
        return [change for change in self.changes if layer in (change.layers or ())]


@checked
def off(
    experts: Numbers, *, layers: Numbers | None = None, tokens: Tokens | None = None
) -> Rerouting:
    """Switch experts off: their logits are set to minus infinity.

    If fewer than k experts are on, a token gets fewer experts; their weights still sum to 1.

    Args:
        experts: one or several.
        layers: of the model, negative ones count from the end; None means all MoE layers.
        tokens: positions in the text from 0 on, or a slice of them; None means all.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab.interventions import rerouting
        >>> lab = qwen3lab.load("tiny-moe")
        >>> rec = lab.record("3+4=?", edits=rerouting.off(5, layers=2) + rerouting.top_k(2))
        >>> 5 in rec.routing.experts[2]
        False
    """
    return _one(Off(experts=_numbers(experts), **_place(layers, tokens)))


@checked
def on(
    experts: Numbers, *, layers: Numbers | None = None, tokens: Tokens | None = None
) -> Rerouting:
    """Force experts on: each replaces the weakest chosen expert and takes over its logit.

    An expert that is chosen anyway keeps its own logit. Name all experts in one call: in
    `on(5) + on(6)`, 6 may replace 5. Arguments as in `off`.
    """
    return _one(On(experts=_numbers(experts), **_place(layers, tokens)))


@checked
def bias(
    experts: Numbers,
    by: float,
    *,
    layers: Numbers | None = None,
    tokens: Tokens | None = None,
) -> Rerouting:
    """Add to the logits of experts; `by` is in logits. Other arguments as in `off`."""
    return _one(Bias(experts=_numbers(experts), by=float(by), **_place(layers, tokens)))


@checked
def scale(by: float, *, layers: Numbers | None = None, tokens: Tokens | None = None) -> Rerouting:
    """Multiply all router logits; a factor above 1 sharpens the weights, 0 makes them equal.

    A factor above 0 does not change which experts are chosen. Other arguments as in `off`.
    """
    return _one(Scale(by=float(by), **_place(layers, tokens)))


@checked
def top_k(k: int, *, layers: Numbers | None = None, tokens: Tokens | None = None) -> Rerouting:
    """Route each token to k experts in place of the model's number. Other arguments as in `off`."""
    return _one(TopK(k=k, **_place(layers, tokens)))


@checked
def shuffled(
    *, seed: Seed = 0, layers: Numbers | None = None, tokens: Tokens | None = None
) -> Rerouting:
    """Random routing: permutes each token's router logits over the experts.

    The distribution of the weights stays the same. The permutation depends only on seed, layer
    and position. Other arguments as in `off`.
    """
    return _one(Shuffled(seed=seed, **_place(layers, tokens)))


@checked
def borrowed(
    recording: Recording, *, layers: Numbers | None = None, tokens: Tokens | None = None
) -> Rerouting:
    """The routing of another text: replaces router logits by those of a recording, by position.

    Positions after the recording's end keep their own logits. Other arguments as in `off`.
    """
    return _one(Borrowed(recording=recording, **_place(layers, tokens)))


def _one(change: Change) -> Rerouting:
    return Rerouting((change,))


def _numbers(numbers: Numbers) -> tuple[int, ...]:
    result = (numbers,) if isinstance(numbers, int) else tuple(numbers)
    if not result:
        raise HookError(
            tr(
                "a list of experts or layers is empty: name at least one, or omit the "
                "argument for all"
            )
        )
    return result


def _place(layers: Numbers | None, tokens: Tokens | None) -> dict[str, Any]:
    return {
        "layers": None if layers is None else _numbers(layers),
        "tokens": None if tokens is None else chosen(tokens),
    }


def _check_some_are_on(changes: Sequence[Change], config: Qwen3Config) -> None:
    """Refuses changes that leave a layer without experts, where that is known before the run."""
    for layer in config.moe_layers:
        gone: set[int] = set()
        for change in changes:
            if layer not in (change.layers or ()):
                continue
            if isinstance(change, Off) and change.tokens is None:
                gone |= set(change.experts)
            elif isinstance(change, On | Borrowed):  # These may switch experts on again.
                gone.clear()
        if len(gone) == config.n_experts:
            raise HookError(
                tr(
                    "all {n_experts} experts of layer {layer} would be off: leave at least "
                    "one on for each token",
                    n_experts=config.n_experts,
                    layer=layer,
                )
            )


def moe_layers_of(layers: tuple[int, ...] | None, config: Qwen3Config) -> tuple[int, ...]:
    """Layer numbers counted from 0; None means all MoE layers.

    Raises:
        HookError: a layer has no experts, or does not exist.
    """
    if layers is None:
        return config.moe_layers
    choices = ", ".join(map(str, config.moe_layers))
    result = []
    for layer in layers:
        from_start = layer + config.n_layers if layer < 0 else layer
        if from_start not in config.moe_layers:
            raise HookError(
                tr(
                    "layer {layer} has no experts: the layers with experts are {choices}",
                    layer=layer,
                    choices=choices,
                )
            )
        result.append(from_start)
    return tuple(result)
