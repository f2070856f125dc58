"""Routing changes, one class for each kind; `rerouting` composes them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError
from qwen3lab.interventions.positions import among
from qwen3lab.translation import tr

if TYPE_CHECKING:
    from qwen3lab.recording.recording import Recording


@dataclass(frozen=True)
class At:
    """The layer and the tokens that a router is processing.

    Attributes:
        layer: of the model.
        positions: of the tokens in their text; negative for padding.
        k: number of experts of each token.
    """

    layer: int
    positions: Int[Tensor, "batch pos"]
    k: Int[Tensor, "batch pos"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A routing change.

    Attributes:
        layers: layers that it applies to; None means all MoE layers.
        tokens: positions in the text, or a slice of them; None means all.
    """

    layers: tuple[int, ...] | None = None
    tokens: slice | frozenset[int] | None = None

    def logits(
        self, logits: Float[Tensor, "batch pos expert"], at: At
    ) -> Float[Tensor, "batch pos expert"]:
        """The changed router logits."""
        return logits

    def check(self, config: Qwen3Config) -> None:
        """Raises `HookError` if the model has no such layer or expert."""

    def where(self, at: At) -> Bool[Tensor, "batch pos"]:
        """True at tokens that the change applies to."""
        if self.tokens is None:
            return torch.ones_like(at.positions, dtype=torch.bool)
        return among(at.positions, self.tokens)


@dataclass(frozen=True, kw_only=True)
class OfExperts(Change):
    """A change of named experts."""

    experts: tuple[int, ...]

    def check(self, config: Qwen3Config) -> None:
        for expert in self.experts:
            if not 0 <= expert < config.n_experts:
                raise HookError(
                    tr(
                        "expert {expert} does not exist: every layer has experts 0 to {last}",
                        expert=expert,
                        last=config.n_experts - 1,
                    )
                )

    def chosen(self, like: Float[Tensor, "batch pos expert"]) -> Bool[Tensor, " expert"]:
        """True for the named experts."""
        chosen = torch.zeros(like.shape[-1], dtype=torch.bool, device=like.device)
        chosen[list(self.experts)] = True
        return chosen


@dataclass(frozen=True, kw_only=True)
class Off(OfExperts):
    """Switches experts off."""

    def check(self, config: Qwen3Config) -> None:
        super().check(config)
        if len(set(self.experts)) == config.n_experts:
            raise HookError(
                tr(
                    "all {n_experts} experts would be off: leave at least one on for each token",
                    n_experts=config.n_experts,
                )
            )

    def logits(
        self, logits: Float[Tensor, "batch pos expert"], at: At
    ) -> Float[Tensor, "batch pos expert"]:
        return logits.masked_fill(self.chosen(logits), -torch.inf)


@dataclass(frozen=True, kw_only=True)
class On(OfExperts):
    """Forces experts on."""

    def logits(
        self, logits: Float[Tensor, "batch pos expert"], at: At
    ) -> Float[Tensor, "batch pos expert"]:
        forced = self.chosen(logits)
        n_others = at.k - int(forced.sum())
        if bool((n_others < 0)[self.where(at)].any()):
            raise HookError(
                tr(
                    "{sum} experts cannot be forced on: a token has {k} slots; force fewer, "
                    "or raise k with top_k first",
                    sum=int(forced.sum()),
                    k=int(at.k.min()),
                )
            )
        others = logits.masked_fill(forced, -torch.inf).sort(dim=-1, descending=True).values
        # The next float above the logit of the best expert that is no longer chosen.
        displaced = others.gather(-1, n_others.clamp(min=0)[..., None])
        minimum = torch.nextafter(displaced, torch.full_like(displaced, torch.inf))
        return torch.where(forced, torch.maximum(logits, minimum), logits)


@dataclass(frozen=True, kw_only=True)
class Bias(OfExperts):
    """Adds a constant to the logits of experts."""

    by: float

    def logits(
        self, logits: Float[Tensor, "batch pos expert"], at: At
    ) -> Float[Tensor, "batch pos expert"]:
        return torch.where(self.chosen(logits), logits + self.by, logits)


@dataclass(frozen=True, kw_only=True)
class Scale(Change):
    """Multiplies all logits by a factor."""

    by: float

    def logits(
        self, logits: Float[Tensor, "batch pos expert"], at: At
    ) -> Float[Tensor, "batch pos expert"]:
        # Experts that are off stay off: -inf * 0 would be NaN, and -inf * -1 would be +inf.
        return torch.where(logits == -torch.inf, logits, logits * self.by)


@dataclass(frozen=True, kw_only=True)
class Shuffled(Change):
    """Permutes each token's logits over the experts at random."""

    seed: int

    def logits(
        self, logits: Float[Tensor, "batch pos expert"], at: At
    ) -> Float[Tensor, "batch pos expert"]:
        orders = [
            [self._order(int(p), at.layer, logits.shape[-1]) for p in row] for row in at.positions
        ]
        stacked = torch.stack([torch.stack(row) for row in orders])
        return logits.gather(-1, stacked.to(logits.device))

    def _order(self, position: int, layer: int, n_experts: int) -> Int[Tensor, " expert"]:
        """The permutation at a position; the same in prefill and in decoding steps."""
        seed = hash((self.seed, layer, position)) % 2**63
        return torch.randperm(n_experts, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True, kw_only=True)
class Borrowed(Change):
    """Replaces logits by those of a recording."""

    recording: "Recording"

    def check(self, config: Qwen3Config) -> None:
        other = self.recording.config
        if (other.n_experts, other.moe_layers) != (config.n_experts, config.moe_layers):
            raise HookError(
                tr(
                    "the routing of {model_name} does not fit this model: expected "
                    "{n_experts} experts in layers {listed}",
                    model_name=self.recording.model_name,
                    n_experts=config.n_experts,
                    listed=", ".join(map(str, config.moe_layers)),
                )
            )

    def logits(
        self, logits: Float[Tensor, "batch pos expert"], at: At
    ) -> Float[Tensor, "batch pos expert"]:
        recorded = self.recording[f"blocks.{at.layer}.mlp.hook_router_logits"].to(logits)
        has_record = (at.positions >= 0) & (at.positions < len(recorded))
        rows = at.positions.clamp(0, len(recorded) - 1)
        return torch.where(has_record[..., None], recorded[rows], logits)


@dataclass(frozen=True, kw_only=True)
class TopK(Change):
    """Changes the number of experts per token."""

    k: int

    def check(self, config: Qwen3Config) -> None:
        if not 1 <= self.k <= config.n_experts:
            raise HookError(
                tr(
                    "k is {k}: expected 1 to {n_experts}, the number of experts",
                    k=self.k,
                    n_experts=config.n_experts,
                )
            )
