"""Scores of experts over a corpus: saliency for pruning, and differences between two corpora."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.analysis.expert_output import outliers_of
from qwen3lab.arguments import checked
from qwen3lab.corpus.run import CorpusRun
from qwen3lab.display import Displayed, Summary
from qwen3lab.errors import CorpusError
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.translation import tr, tr_count

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False, eq=False)
class ExpertScores(EqualByValue, Displayed):
    """What each expert of a model does on a corpus; 0 for an expert without tokens.

    g is the expert's weight for a token as applied, f its output before the weight.

    Attributes:
        layers: layers with experts; the rows of the tensors.
        slots: number of tokens that are routed to the expert.
        weight: mean of g over these tokens.
        norm: mean of the Euclidean norm of f.
        reap: mean of g times the norm of f: the score of router-weighted expert pruning.
        largest: largest absolute value in f.
    """

    layers: tuple[int, ...]
    slots: Int[Tensor, "layer expert"]
    weight: Float[Tensor, "layer expert"]
    norm: Float[Tensor, "layer expert"]
    reap: Float[Tensor, "layer expert"]
    largest: Float[Tensor, "layer expert"]

    @property
    def super_experts(self) -> tuple[tuple[int, int], ...]:
        """Layer and expert of extreme activations, largest first; as in `extreme_experts`."""
        return outliers_of(self.largest, self.layers)

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table: layer, expert, slots, weight, norm, reap, largest."""
        import pandas

        row, expert = (axis.ravel() for axis in np.indices(tuple(self.slots.shape)))
        names = ("slots", "weight", "norm", "reap", "largest")
        means = {name: getattr(self, name).double().flatten().numpy() for name in names[1:]}
        values = {"slots": self.slots.flatten().numpy(), **means}
        return pandas.DataFrame({"layer": np.array(self.layers)[row], "expert": expert, **values})

    def _summary(self) -> Summary:
        facts = {
            tr("experts"): tr(
                "{n_experts} in {counted}",
                n_experts=self.slots.shape[1],
                counted=tr_count("{n:,} layer", "{n:,} layers", len(self.layers)),
            ),
            tr("without tokens"): str(int((self.slots == 0).sum())),
        }
        return Summary(tr("Scores of experts"), facts, frame=self._best)

    def _best(self) -> "pandas.DataFrame":
        return self.to_pandas().sort_values("reap", ascending=False, ignore_index=True).head(8)


@checked
def expert_scores(run: CorpusRun) -> ExpertScores:
    """Usage, output norms and REAP's saliency of each expert.

    Args:
        run: recorded with "saliency" in `keep`.

    Raises:
        CorpusError: saliency was not kept.

    Source: Lasby et al. 2025, REAP the Experts (arXiv 2510.13999), equation 9: the score of expert
    j is the mean over its tokens of g_j(x) times the norm of f_j(x), with g renormalised over the
    top k.
    """
    table = run.table("saliency").to_table().to_pydict()
    layers = run.config.moe_layers
    rows = {layer: row for row, layer in enumerate(layers)}
    at = (np.array([rows[layer] for layer in table["layer"]], int), np.array(table["expert"], int))
    shape = (len(layers), run.config.n_experts)
    slots, largest = np.zeros(shape, np.int64), np.zeros(shape)
    np.add.at(slots, at, table["slots"])
    np.maximum.at(largest, at, table["largest"])
    means = dict[str, Tensor]()
    for name in ("weight", "norm", "gated_norm"):
        total = np.zeros(shape)
        np.add.at(total, at, table[name])  # Part by part, in one order.
        means[name] = torch.from_numpy(total / np.maximum(slots, 1)).float()
    return ExpertScores(
        layers,
        torch.from_numpy(slots),
        means["weight"],
        means["norm"],
        means["gated_norm"],
        torch.from_numpy(largest).float(),
    )


@dataclass(frozen=True, repr=False, eq=False)
class RoutingDifference(EqualByValue, Displayed):
    """How much more often tokens of one corpus are routed to each expert than those of another.

    Attributes:
        layers: layers with experts; the rows of the tensors.
        names: of the two corpora.
        rates: share of the tokens of each that are routed to the expert.
        difference: first minus second.
    """

    layers: tuple[int, ...]
    names: tuple[str, str]
    rates: Float[Tensor, "two layer expert"]
    difference: Float[Tensor, "layer expert"]

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table: layer, expert, both rates, difference; the largest difference first."""
        import pandas

        row, expert = (axis.ravel() for axis in np.indices(tuple(self.difference.shape)))
        columns = {"layer": np.array(self.layers)[row], "expert": expert}
        for name, rate in zip(self.names, self.rates, strict=True):
            columns[name] = rate.flatten().numpy()
        table = pandas.DataFrame({**columns, "difference": self.difference.flatten().numpy()})
        return table.sort_values(
            "difference", key=lambda values: -values.abs(), kind="stable", ignore_index=True
        )

    def _summary(self) -> Summary:
        facts = {tr("largest"): f"{float(self.difference.abs().max()):.3f}"}
        title = tr(
            "Difference of routing: {one} minus {other}", one=self.names[0], other=self.names[1]
        )
        return Summary(title, facts, frame=lambda: self.to_pandas().head(8))


@checked
def routing_difference(
    one: CorpusRun, other: CorpusRun | None = None, *, labels: tuple[str, str] | None = None
) -> RoutingDifference:
    """Experts that tokens of one corpus use more often than those of another.

    Args:
        one: the first corpus.
        other: the second; or None for two labels of the first.
        labels: of the first label column; one of each corpus, or two of the first. None takes all
            tokens.

    Raises:
        CorpusError: neither a second corpus nor labels, no such label, or another model.

    Source: Fayyaz et al. 2025, SteerMoE (arXiv 2509.09660), section 3: the risk difference of an
    expert's activation rates.
    """
    if other is None and labels is None:
        raise CorpusError("there is one corpus and no labels: give a second one, or two labels")
    second = other or one
    if one.config != second.config:
        raise CorpusError("the two corpora are of different models: record both with the same one")
    label = labels or (None, None)
    rates = torch.stack([_rates(one, label[0]), _rates(second, label[1])])
    names = labels or ("first", "second")
    return RoutingDifference(one.config.moe_layers, names, rates, rates[0] - rates[1])


def _rates(run: CorpusRun, label: str | None) -> Float[Tensor, "layer expert"]:
    """Share of the tokens that are routed to each expert."""
    columns = {name: np.array(each) for name, each in run.counts.to_dict("list").items()}
    chosen = np.ones(len(columns["slots"]), bool)
    if "column" in columns:
        chosen = columns["column"] == run.plan.groupings[0]
    known = list(dict.fromkeys(columns["label"][chosen].tolist()))
    if label is not None:
        if not run.plan.groupings or label not in known:
            listed = ", ".join(known) if run.plan.groupings else "none, as label= was not given"
            raise CorpusError(f"there is no label {label!r}: the labels are {listed}")
        chosen = chosen & (columns["label"] == label)
    layer, expert, slots = (columns[name][chosen] for name in ("layer", "expert", "slots"))
    found = np.zeros((len(run.config.moe_layers), run.config.n_experts), np.int64)
    np.add.at(found, (np.searchsorted(run.config.moe_layers, layer), expert), slots)
    n = sum(dict(zip(columns["label"][chosen], columns["tokens"][chosen], strict=True)).values())
    return torch.from_numpy(found / max(int(n), 1)).float()
