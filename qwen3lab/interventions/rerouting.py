"""Interventions on routing: experts off or on, another k, other logits, another text's choice.

Each function gives a `Rerouting`, to be passed as `edits`; `+` composes them, and they act in
that order. All but `top_k` change the router's logits, and what follows from the logits follows
by the model's own rule: softmax over all experts, the k greatest, their weights renormalised to
sum to 1 where the model does so (`norm_topk_prob`; every published Qwen3 does). So what a
switched-off expert had goes to the others, in proportion to their own weights.

    lab.chat(question, edits=rerouting.off(5, layers=2) + rerouting.top_k(2))
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError
from qwen3lab.hooks.edits import Edit
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

if TYPE_CHECKING:
    from qwen3lab.recording.recording import Recording

Numbers = int | Iterable[int]
Tokens = int | slice | Iterable[int]
_MOE = "blocks.{}.mlp.hook_{}"


@dataclass(frozen=True)
class Rerouting:
    """Changes of the routing, in the order in which they act; `+` adds more."""

    changes: tuple[Change, ...]

    def __add__(self, other: "Rerouting") -> "Rerouting":
        return Rerouting(self.changes + other.changes)

    def edits(self, config: Qwen3Config, padding: Sequence[int]) -> Mapping[str, Edit]:
        """The edits of one run; see `qwen3lab.hooks.edits.Intervention`.

        Raises:
            HookError: the model is dense, or has no such layer or expert.
        """
        if not config.is_moe:
            raise HookError("this model is dense: it has no experts whose routing could be changed")
        for change in self.changes:
            change.check(config)
        changes = [replace(change, layers=_real(change.layers, config)) for change in self.changes]
        run = _Run(config, changes, padding)
        edits: dict[str, Edit] = {"hook_embed": run.count}
        for layer in sorted({layer for change in changes for layer in change.layers or ()}):
            edits[_MOE.format(layer, "router_logits")] = _Logits(run)
            edits[_MOE.format(layer, "expert_indices")] = run.experts
        return edits


class _Logits:
    """The edit of a layer's router logits, which sees what others make of them after it."""

    def __init__(self, run: "_Run") -> None:
        self.run = run

    def __call__(
        self, logits: Float[Tensor, "batch pos expert"], name: str
    ) -> Float[Tensor, "batch pos expert"]:
        """All changes of a layer's logits."""
        return self.run.logits(logits, name)

    def settled(self, value: Float[Tensor, "batch pos expert"], name: str) -> None:
        """The logits by which experts are going to be chosen."""
        self.run.settle(value, name)


class _Run:
    """What has to be known from hook to hook and from step to step of one run."""

    def __init__(
        self, config: Qwen3Config, changes: Sequence[Change], padding: Sequence[int]
    ) -> None:
        self.config, self.changes, self.padding = config, changes, torch.tensor(padding)
        self.positions = torch.zeros(0)
        self.n_past = 0
        self.last: Tensor = torch.zeros(0)
        self.at = At(0, torch.zeros(1, 0).long(), torch.zeros(1, 0).long())

    def count(self, embed: Float[Tensor, "batch pos d_model"], name: str) -> None:
        """A pass begins: number its tokens."""
        n_new = embed.shape[1]
        places = torch.arange(self.n_past, self.n_past + n_new)
        self.positions = (places - self.padding[:, None]).to(embed.device)
        self.n_past += n_new

    def logits(
        self, logits: Float[Tensor, "batch pos expert"], name: str
    ) -> Float[Tensor, "batch pos expert"]:
        """All changes of a layer's logits."""
        layer = int(name.split(".")[1])
        k = torch.full_like(self.positions, self.config.n_experts_per_token)
        for change in self._of(layer):
            at = At(layer, self.positions, k)
            where = change.where(at)
            if isinstance(change, TopK):
                k = k.masked_fill(where, change.k)
            else:
                logits = torch.where(where[..., None], change.logits(logits, at), logits)
        self.at = At(layer, self.positions, k)
        return logits

    def settle(self, logits: Float[Tensor, "batch pos expert"], name: str) -> None:
        """Experts are going to be chosen by these."""
        if bool((logits == -torch.inf).all(dim=-1).any()):
            raise HookError(
                f"{name}: a token has no expert left that is on: leave at least one to each token"
            )
        self.last = logits

    def experts(
        self, experts: Int[Tensor, "batch pos k"], name: str
    ) -> Int[Tensor, "batch pos slot"]:
        """As many experts as each token shall have; -1 for a slot that stays empty."""
        own = self._of(self.at.layer)
        if any(isinstance(change, TopK | On) for change in own):
            experts = self._chosen(experts, own)
        off = self.last.gather(-1, experts.clamp(min=0)) == -torch.inf
        return experts.masked_fill(off, -1)

    def _chosen(
        self, experts: Int[Tensor, "batch pos k"], own: Sequence[Change]
    ) -> Int[Tensor, "batch pos slot"]:
        """The best experts by the logits themselves where a change asks for that.

        (An expert that is forced on is ahead of the next by less than a softmax tells apart.)
        """
        limits = [change for change in own if isinstance(change, TopK)]
        # As wide in every pass of a run, whatever its tokens.
        everywhere = any(change.tokens is None for change in limits)
        width = max([change.k for change in limits] + ([] if everywhere else [experts.shape[-1]]))
        limited = self._anywhere(limits)
        k = torch.where(limited, self.at.k, (experts >= 0).sum(dim=-1))
        rank = torch.arange(width, device=experts.device)
        best = self.last.float().topk(width, dim=-1).indices.masked_fill(rank >= k[..., None], -1)
        acts = limited | self._anywhere([change for change in own if isinstance(change, On)])
        as_wide = F.pad(experts, (0, width - experts.shape[-1]), value=-1)
        return torch.where(acts[..., None], best, as_wide)

    def _anywhere(self, changes: Sequence[Change]) -> Bool[Tensor, "batch pos"]:
        """True where one of them acts."""
        nowhere = torch.zeros_like(self.positions, dtype=torch.bool)
        return torch.stack([nowhere, *(change.where(self.at) for change in changes)]).any(dim=0)

    def _of(self, layer: int) -> list[Change]:
        return [change for change in self.changes if layer in (change.layers or ())]


def off(
    experts: Numbers, *, layers: Numbers | None = None, tokens: Tokens | None = None
) -> Rerouting:
    """Switch experts off: their logits are set to minus infinity.

    Where fewer than k are left, a token has fewer; their weights still sum to 1.

    Args:
        experts: one or several.
        layers: of the model; every layer with experts if None.
        tokens: positions in the text, or a slice of them, from 0 on; all if None.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab.interventions import rerouting
        >>> lab = qwen3lab.load("tiny-moe")
        >>> rec = lab.record("3+4=?", edits=rerouting.off(5, layers=2) + rerouting.top_k(2))
        >>> 5 in rec.routing.experts[2]
        False
    """
    return _one(Off(experts=_numbers(experts), **_place(layers, tokens)))


def on(
    experts: Numbers, *, layers: Numbers | None = None, tokens: Tokens | None = None
) -> Rerouting:
    """Force experts on: each takes the place, and the logit, of the weakest that was chosen.

    One that is chosen anyway keeps its own logit. Name all of them in one call: `on(5) + on(6)`
    acts twice, and where 5 is the weakest after the first, 6 takes its place. Arguments as in
    `off`.
    """
    return _one(On(experts=_numbers(experts), **_place(layers, tokens)))


def bias(
    experts: Numbers,
    by: float,
    *,
    layers: Numbers | None = None,
    tokens: Tokens | None = None,
) -> Rerouting:
    """Add to the logits of experts; `by` is in logits. Other arguments as in `off`."""
    return _one(Bias(experts=_numbers(experts), by=float(by), **_place(layers, tokens)))


def scale(by: float, *, layers: Numbers | None = None, tokens: Tokens | None = None) -> Rerouting:
    """Multiply all router logits: above 1 the weights grow more unequal, at 0 all are alike.

    Which experts are chosen stays as it was, for a factor above 0. Other arguments as in `off`.
    """
    return _one(Scale(by=float(by), **_place(layers, tokens)))


def top_k(k: int, *, layers: Numbers | None = None, tokens: Tokens | None = None) -> Rerouting:
    """Give each token k experts instead of the model's own number. Arguments as in `off`."""
    return _one(TopK(k=k, **_place(layers, tokens)))


def shuffled(
    *, seed: int = 0, layers: Numbers | None = None, tokens: Tokens | None = None
) -> Rerouting:
    """Random experts: each token's logits are handed out to experts at random.

    So the weights are as unequal as they were. The draw depends on seed, layer and position
    alone. Other arguments as in `off`.
    """
    return _one(Shuffled(seed=seed, **_place(layers, tokens)))


def borrowed(
    recording: "Recording", *, layers: Numbers | None = None, tokens: Tokens | None = None
) -> Rerouting:
    """Another text's routing: position for position the router logits of a recording.

    Beyond the recording's end the model routes by itself. Other arguments as in `off`.
    """
    return _one(Borrowed(recording=recording, **_place(layers, tokens)))


def _one(change: Change) -> Rerouting:
    return Rerouting((change,))


def _numbers(numbers: Numbers) -> tuple[int, ...]:
    listed = (numbers,) if isinstance(numbers, int) else tuple(numbers)
    if not listed:
        raise HookError(
            "no expert and no layer is named: name at least one, or leave it out for all"
        )
    return listed


def _place(layers: Numbers | None, tokens: Tokens | None) -> dict[str, Any]:
    return {
        "layers": None if layers is None else _numbers(layers),
        "tokens": None if tokens is None else _tokens(tokens),
    }


def _tokens(tokens: Tokens) -> slice | frozenset[int]:
    if isinstance(tokens, slice):
        named = [
            end for end in (tokens.start, tokens.stop, (tokens.step or 1) - 1) if end is not None
        ]
    else:
        named = [tokens] if isinstance(tokens, int) else list(tokens)
    if any(position < 0 for position in named):
        raise HookError(
            "tokens are counted from the text's beginning, because its end is not known while it "
            "is written: expected positions of 0 or more"
        )
    return tokens if isinstance(tokens, slice) else frozenset(named)


def _real(layers: tuple[int, ...] | None, config: Qwen3Config) -> tuple[int, ...]:
    """Layers with experts, counted from 0; None means all of them."""
    if layers is None:
        return config.moe_layers
    listed = ", ".join(map(str, config.moe_layers))
    found = []
    for layer in layers:
        real = layer + config.n_layers if layer < 0 else layer
        if real not in config.moe_layers:
            raise HookError(f"layer {layer} has no experts: the layers with experts are {listed}")
        found.append(real)
    return tuple(found)
