"""An atlas of experts: what each does, as labels, tokens, examples and neighbours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.analysis.specialisation import npmi
from qwen3lab.arguments import Count, checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.translation import tr, tr_count

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Example:
    """A text in which an expert has a large weight.

    Attributes:
        score: the weight.
        row: of the text in the data set.
        before, token, after: the token and the text around it.
    """

    score: float
    row: int
    before: str
    token: str
    after: str


@dataclass(frozen=True)
class Association:
    """A label that an expert is associated with.

    Attributes:
        column: of the label.
        label: its name.
        npmi: normalised pointwise mutual information of label and expert; see `npmi`.
        share: of the label's tokens, those that are routed to the expert.
    """

    column: str
    label: str
    npmi: float
    share: float


@dataclass(frozen=True)
class Neighbour:
    """An expert that gets the same tokens.

    Attributes:
        layer: of the expert; the same one, or the next one with experts.
        expert: its number.
        share: of this expert's tokens, those that the neighbour also gets.
        above: that share minus the neighbour's share of all tokens.
    """

    layer: int
    expert: int
    share: float
    above: float


@dataclass(frozen=True, repr=False)
class ExpertEntry(Displayed):
    """What one expert does.

    Attributes:
        layer: of the expert.
        expert: its number.
        share: of all tokens, those that are routed to it.
        labels: the labels of the largest npmi, of each column.
        tokens: the text of the tokens that tell most about it, and the share of each that it gets.
        examples: the texts in which its weight is largest; none if they were not kept.
        together: the experts of its layer that get its tokens more often than others.
        following: those of the next layer.
    """

    layer: int
    expert: int
    share: float
    labels: tuple[Association, ...]
    tokens: tuple[tuple[str, float], ...]
    examples: tuple[Example, ...]
    together: tuple[Neighbour, ...]
    following: tuple[Neighbour, ...]

    def best(self, column: str) -> Association | None:
        """The label of a column with the largest npmi; None without tokens."""
        own = [each for each in self.labels if each.column == column]
        return max(own, key=lambda each: each.npmi, default=None)

    def _summary(self) -> Summary:
        facts = {
            tr("tokens"): tr("{share:.1%} of all", share=self.share),
            tr("labels"): ", ".join(f"{each.label} ({each.npmi:.2f})" for each in self.labels),
            tr("typical"): " ".join(repr(text) for text, _ in self.tokens),
            tr("with"): ", ".join(f"{each.expert} ({each.share:.0%})" for each in self.together),
            tr("then"): ", ".join(f"{each.expert} ({each.share:.0%})" for each in self.following),
        }
        title = tr("Expert {expert} of layer {layer}", expert=self.expert, layer=self.layer)
        return Summary(title, {name: fact for name, fact in facts.items() if fact}, frame=self._top)

    def _top(self) -> "pandas.DataFrame":
        import pandas

        columns = ("score", "row", "before", "token", "after")
        rows = [[getattr(each, name) for name in columns] for each in self.examples]
        return pandas.DataFrame(rows, columns=list(columns))


@dataclass(frozen=True, repr=False)
class Atlas(Displayed):
    """What every expert of a model does on a corpus.

    Attributes:
        model: its name.
        layers: layers with experts.
        n_experts: in each of them.
        columns: of the labels.
        experts: an entry for each, by layer and expert.
    """

    model: str
    layers: tuple[int, ...]
    n_experts: int
    columns: tuple[str, ...]
    experts: Mapping[tuple[int, int], ExpertEntry]

    def __getitem__(self, place: tuple[int, int]) -> ExpertEntry:
        """The entry of an expert, given as layer and expert.

        Raises:
            IndexError: no such expert.
        """
        if place not in self.experts:
            raise IndexError(
                f"there is no expert {place!r}: the layers are {', '.join(map(str, self.layers))}, "
                f"with experts 0 to {self.n_experts - 1}"
            )
        return self.experts[place]

    def to_pandas(self) -> "pandas.DataFrame":
        """A row for each expert: share, best label and its npmi by column, tokens, neighbours."""
        import pandas

        return pandas.DataFrame([self._row(entry) for entry in self.experts.values()])

    def _row(self, entry: ExpertEntry) -> dict[str, object]:
        row: dict[str, object] = {
            "layer": entry.layer,
            "expert": entry.expert,
            "share": entry.share,
        }
        for column in self.columns:
            best = entry.best(column)
            row |= {column: best.label if best else "", f"npmi of {column}": _npmi_of(best)}
        row["tokens"] = " ".join(repr(text) for text, _ in entry.tokens)
        row["with"] = ", ".join(str(each.expert) for each in entry.together)
        row["then"] = ", ".join(str(each.expert) for each in entry.following)
        return row

    def _summary(self) -> Summary:
        facts = {
            tr("experts"): tr(
                "{n_experts} in {counted}",
                n_experts=self.n_experts,
                counted=tr_count("{n:,} layer", "{n:,} layers", len(self.layers)),
            ),
            tr("labels"): ", ".join(self.columns),
        }
        return Summary(
            tr("Atlas of experts: {model}", model=self.model), facts, frame=self.to_pandas
        )


def _npmi_of(best: Association | None) -> float:
    return best.npmi if best else float("nan")


@checked
def associations(
    counts: Float[Tensor, "label expert"],
    tokens: Int[Tensor, " label"],
    labels: Sequence[str],
    *,
    column: str,
    n: Count = 2,
) -> list[tuple[Association, ...]]:
    """For each expert, the labels of the largest npmi, if that is above 0; the largest first.

    Args:
        counts: tokens of each label that are routed to each expert.
        tokens: of each label.
        labels: their names.
        column: of the labels.
        n: number of labels at most.

    Raises:
        ValueError: other numbers of labels.
    """
    if not len(counts) == len(tokens) == len(labels):
        raise ValueError(
            f"{len(labels)} labels and {len(tokens)} numbers of tokens for {len(counts)} rows: "
            "expected one for each"
        )
    scores, shares = npmi(counts).nan_to_num(-1.0), counts / tokens.clamp(min=1)[:, None]
    order = scores.argsort(dim=0, descending=True, stable=True)[:n].T.tolist()
    return [
        tuple(
            Association(
                column, str(labels[row]), float(scores[row, expert]), float(shares[row, expert])
            )
            for row in rows
            if scores[row, expert] > 0
        )
        for expert, rows in enumerate(order)
    ]


@checked
def neighbours(
    together: Int[Tensor, "expert other"],
    loads: Float[Tensor, " other"],
    own: Int[Tensor, " expert"],
    *,
    layer: int,
    same_layer: bool,
    n: Count = 3,
) -> list[tuple[Neighbour, ...]]:
    """For each expert, the others that get its tokens most above their share of all tokens.

    Args:
        together: tokens that both get.
        loads: share of all tokens that each other expert gets.
        own: tokens of each expert.
        layer: of the others.
        same_layer: True leaves out the expert itself.
        n: number of neighbours at most.
    """
    shares = together / own.clamp(min=1)[:, None]
    above = shares - loads
    if same_layer:
        above = above.clone().fill_diagonal_(-torch.inf)
    order = above.argsort(dim=1, descending=True, stable=True)[:, :n].tolist()
    return [
        tuple(
            Neighbour(layer, other, float(shares[expert, other]), float(above[expert, other]))
            for other in others
            if own[expert] > 0 and above[expert, other] > 0
        )
        for expert, others in enumerate(order)
    ]


@checked
def telling_tokens(
    counts: Float[Tensor, "token expert"], *, n: Count = 5
) -> list[list[tuple[int, float]]]:
    """For each expert, the rows of the tokens that tell most about it.

    A token's score is its part of the mutual information, p(t, e) log(p(t, e) / (p(t) p(e))): it is
    large for frequent tokens that go to the expert more often than others.

    Args:
        counts: of each token that is routed to each expert.
        n: number of tokens at most.

    Returns:
        Rows and the share of each token's slots that the expert gets, best first; only those with a
        score above 0.
    """
    total = counts.sum().clamp(min=1)
    joint = counts.double() / total
    ratio = joint / (joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True))
    scores = torch.where(joint > 0, joint * ratio.clamp(min=1e-300).log(), 0.0).nan_to_num(0.0)
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    order = scores.argsort(dim=0, descending=True, stable=True)[:n].T.tolist()
    return [
        [(row, float(shares[row, expert])) for row in rows if scores[row, expert] > 0]
        for expert, rows in enumerate(order)
    ]
