"""What can be changed about a router's choice, one kind of change a class."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError

if TYPE_CHECKING:
    from qwen3lab.recording.recording import Recording


@dataclass(frozen=True)
class At:
    """Where in a run a router is.

    Attributes:
        layer: of the model.
        positions: of the tokens in their own text; below 0 where a row is padded.
        k: how many experts each token gets.
    """

    layer: int
    positions: Int[Tensor, "batch pos"]
    k: Int[Tensor, "batch pos"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change of the routing.

    Attributes:
        layers: where it acts; everywhere if None.
        tokens: positions in the text, or a slice of them; all if None.
    """

    layers: tuple[int, ...] | None = None
    tokens: slice | frozenset[int] | None = None

    def logits(
        self, logits: Float[Tensor, "batch pos expert"], at: At
    ) -> Float[Tensor, "batch pos expert"]:
        """The router's logits as they shall be."""
        return logits

    def check(self, config: Qwen3Config) -> None:
        """Raises `HookError` if the model has no such layer or expert."""

    def where(self, at: At) -> Bool[Tensor, "batch pos"]:
        """True where it acts."""
        if self.tokens is None:
            return torch.ones_like(at.positions, dtype=torch.bool)
        if isinstance(self.tokens, frozenset):
            wanted = torch.tensor(sorted(self.tokens), device=at.positions.device)
            return torch.isin(at.positions, wanted)
        start, stop, step = self.tokens.start or 0, self.tokens.stop, self.tokens.step or 1
        inside = (at.positions >= start) & ((at.positions - start) % step == 0)
        return inside if stop is None else inside & (at.positions < stop)


@dataclass(frozen=True, kw_only=True)
class OfExperts(Change):
    """A change that names experts."""

    experts: tuple[int, ...]

    def check(self, config: Qwen3Config) -> None:
        for expert in self.experts:
            if not 0 <= expert < config.n_experts:
                raise HookError(
                    f"expert {expert} does not exist: every layer has experts 0 to "
                    f"{config.n_experts - 1}"
                )

    def chosen(self, like: Float[Tensor, "batch pos expert"]) -> Bool[Tensor, " expert"]:
        """True for the experts that are meant."""
        chosen = torch.zeros(like.shape[-1], dtype=torch.bool, device=like.device)
        chosen[list(self.experts)] = True
        return chosen


@dataclass(frozen=True, kw_only=True)
class Off(OfExperts):
    """Experts are off."""

    def check(self, config: Qwen3Config) -> None:
        super().check(config)
        if len(set(self.experts)) == config.n_experts:
            raise HookError(
                f"all {config.n_experts} experts are to be off: leave at least one to each token"
            )

    def logits(
        self, logits: Float[Tensor, "batch pos expert"], at: At
    ) -> Float[Tensor, "batch pos expert"]:
        return logits.masked_fill(self.chosen(logits), -torch.inf)


@dataclass(frozen=True, kw_only=True)
class On(OfExperts):
    """Experts are on."""

    def logits(
        self, logits: Float[Tensor, "batch pos expert"], at: At
    ) -> Float[Tensor, "batch pos expert"]:
        forced = self.chosen(logits)
        n_others = at.k - int(forced.sum())
        if bool((n_others < 0)[self.where(at)].any()):
            raise HookError(
                f"{int(forced.sum())} experts are to be on, but a token has room for "
                f"{int(at.k.min())}: force fewer, or raise k with top_k first"
            )
        others = logits.masked_fill(forced, -torch.inf).sort(dim=-1, descending=True).values
        # What the best of the refused has, and a trifle more.
        displaced = others.gather(-1, n_others.clamp(min=0)[..., None])
        enough = torch.nextafter(displaced, torch.full_like(displaced, torch.inf))
        return torch.where(forced, torch.maximum(logits, enough), logits)


@dataclass(frozen=True, kw_only=True)
class Bias(OfExperts):
    """Something is added to the logits of experts."""

    by: float

    def logits(
        self, logits: Float[Tensor, "batch pos expert"], at: At
    ) -> Float[Tensor, "batch pos expert"]:
        return torch.where(self.chosen(logits), logits + self.by, logits)


@dataclass(frozen=True, kw_only=True)
class Scale(Change):
    """All logits are multiplied."""

    by: float

    def logits(
        self, logits: Float[Tensor, "batch pos expert"], at: At
    ) -> Float[Tensor, "batch pos expert"]:
        # What is off stays off: infinity times 0 is no number, and times -1 the greatest.
        return torch.where(logits == -torch.inf, logits, logits * self.by)


@dataclass(frozen=True, kw_only=True)
class Shuffled(Change):
    """Logits are handed out to experts at random."""

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
        """The same for a place in a text, whether it is read at once or written step by step."""
        # Python's own generator takes a string as its seed.
        seed = hash((self.seed, layer, position)) % 2**63
        return torch.randperm(n_experts, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True, kw_only=True)
class Borrowed(Change):
    """The logits of a recording."""

    recording: "Recording"

    def check(self, config: Qwen3Config) -> None:
        other = self.recording.config
        if (other.n_experts, other.moe_layers) != (config.n_experts, config.moe_layers):
            raise HookError(
                f"the routing of {self.recording.model_name} does not fit this model: expected "
                f"{config.n_experts} experts in layers {', '.join(map(str, config.moe_layers))}"
            )

    def logits(
        self, logits: Float[Tensor, "batch pos expert"], at: At
    ) -> Float[Tensor, "batch pos expert"]:
        theirs = self.recording[f"blocks.{at.layer}.mlp.hook_router_logits"].to(logits)
        there = (at.positions >= 0) & (at.positions < len(theirs))
        rows = at.positions.clamp(0, len(theirs) - 1)
        return torch.where(there[..., None], theirs[rows], logits)


@dataclass(frozen=True, kw_only=True)
class TopK(Change):
    """Another number of experts for each token."""

    k: int

    def check(self, config: Qwen3Config) -> None:
        if not 1 <= self.k <= config.n_experts:
            raise HookError(
                f"k is {self.k}: expected 1 to {config.n_experts}, the experts there are"
            )
