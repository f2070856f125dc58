"""How much the choice of experts says about the text, such as its domain."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


def mutual_information(counts: Float[Tensor, "label expert"]) -> float:
    """Mutual information of label and expert, in nats.

    Args:
        counts: how often tokens of each label were routed to each expert.

    Returns:
        The sum of p(l, e) log(p(l, e) / (p(l) p(e))); 0 where the choice says nothing.

    Raises:
        ValueError: nothing was counted.

    Source: Cover and Thomas, Elements of Information Theory, equation 2.28.
    """
    if not counts.sum() > 0:
        raise ValueError("nothing was counted: expected tokens of at least one label")
    joint = counts.double() / counts.sum()
    independent = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    ratio = torch.where(joint > 0, joint / independent, 1.0)
    return float((joint * ratio.log()).sum())


@dataclass(frozen=True)
class Information:
    """Mutual information of expert and label, beside what chance gives.

    Attributes:
        value: in nats.
        shuffled: with the documents' labels shuffled, in nats, in ascending order.
    """

    value: float
    shuffled: tuple[float, ...]

    @property
    def above_chance(self) -> bool:
        """True if no shuffle reached the value."""
        return self.value > self.shuffled[-1]


def label_information(
    counts: Float[Tensor, "document expert"],
    labels: Int[Tensor, " document"],
    *,
    n_shuffles: int = 200,
    seed: int = 0,
) -> Information:
    """Mutual information of expert and label over documents, against shuffled labels.

    Whole documents are shuffled, because tokens of a document are not independent.

    Args:
        counts: tokens of each document that were routed to each expert.
        labels: of the documents, from 0 on.
        n_shuffles: how many times labels are shuffled.
        seed: of the shuffles.

    Raises:
        ValueError: nothing was counted.
    """
    generator = torch.Generator().manual_seed(seed)
    orders = (torch.randperm(len(labels), generator=generator) for _ in range(n_shuffles))
    shuffled = sorted(mutual_information(_grouped(counts, labels[order])) for order in orders)
    return Information(mutual_information(_grouped(counts, labels)), tuple(shuffled))


def _grouped(
    counts: Float[Tensor, "document expert"], labels: Int[Tensor, " document"]
) -> Float[Tensor, "label expert"]:
    groups = torch.zeros(int(labels.max()) + 1, counts.shape[1], dtype=torch.float64)
    return groups.index_add(0, labels, counts.double())
