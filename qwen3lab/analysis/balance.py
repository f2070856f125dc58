"""How evenly the experts of a layer are used."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab._moved import renamed
from qwen3lab.analysis.routing import check_experts, weights_by_expert
from qwen3lab.arguments import Count, checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.translation import tr


@dataclass(frozen=True, repr=False)
class Balance(Displayed):
    """How evenly a layer's experts are used.

    Attributes:
        variation: coefficient of variation of the load: standard deviation over mean, 0 if even.
        most: load of the most used expert over uniform load.
        least: load of the least used expert over uniform load.
        dead: experts without tokens.
    """

    variation: float
    most: float
    least: float
    dead: tuple[int, ...]

    def _summary(self) -> Summary:
        dead = ", ".join(map(str, self.dead)) or tr("none")
        return Summary(
            tr("Balance of expert load"),
            {
                tr("coefficient of variation"): f"{self.variation:.3g}",
                tr("most used"): tr("{most:.3g} of uniform load", most=self.most),
                tr("least used"): tr("{least:.3g} of uniform load", least=self.least),
                tr("unused experts"): dead,
            },
        )


@checked
def balance(load: Float[Tensor, " expert"]) -> Balance:
    """Balance of a load over the experts.

    Args:
        load: of one layer's experts: counts, or shares such as those of `expert_load`.

    Raises:
        ValueError: the load is 0.

    Source: Shazeer et al. (arXiv 1701.06538), section 4, for the coefficient of variation.
    """
    if bool((load < 0).any()):
        raise ValueError(tr("a load is negative: expected counts or shares of 0 or more"))
    if not load.sum() > 0:
        raise ValueError(
            tr("no token was counted: expected at least one expert with a load above 0")
        )
    relative = load.double() / load.double().mean()
    return Balance(
        variation=float(relative.std(correction=0)),
        most=float(relative.max()),
        least=float(relative.min()),
        dead=tuple(torch.nonzero(load == 0).flatten().tolist()),
    )


@checked
def expert_importance(
    experts: Int[Tensor, "token k"], weights: Float[Tensor, "token k"], n_experts: Count
) -> Float[Tensor, " expert"]:
    """Summed weight of each expert over tokens, as applied; -1 is no expert.

    Source: Shazeer et al. (arXiv 1701.06538), equation 6, over the chosen experts.
    """
    return weights_by_expert(experts, weights.double(), n_experts).sum(dim=0).float()


@checked
def balance_loss(
    logits: Float[Tensor, "token expert"], experts: Int[Tensor, "token k"]
) -> Float[Tensor, ""]:
    """Load-balancing loss: number of experts times the sum of slot share times mean probability.

    1 for a uniform load; the number of experts if one expert gets all tokens. With the tokens of
    a global batch it is the global-batch loss that Qwen3 uses. Only the probabilities have a
    gradient.

    Source: Switch Transformer (arXiv 2101.03961), equation 4; over the global batch:
    arXiv 2501.11873. `transformers` counts each of the k choices in full, so its value is k times
    this one. -1 is no expert.

    Raises:
        ValueError: an index is outside [-1, n_experts), or no expert was chosen.
    """
    n_experts = logits.shape[-1]
    check_experts(experts, n_experts)
    counted = experts[experts >= 0]
    if not counted.numel():
        raise ValueError(tr("no token was counted: expected at least one chosen expert"))
    share = torch.bincount(counted, minlength=n_experts) / counted.numel()
    return n_experts * (share * logits.softmax(dim=-1, dtype=torch.float32).mean(dim=0)).sum()


def __getattr__(name: str) -> Any:
    """Names from before version 0.2, with a warning."""
    return renamed("analysis.balance", name)
