"""Differences of two aligned runs: of attention, of routing, and of the predicted tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.analysis.alignment import Alignment
from qwen3lab.analysis.routing import layer_weights
from qwen3lab.arguments import checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.indices import index_of
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later, tr

BLOCK = 64
"""Queries whose attention, and positions whose predictions, are in memory at a time."""

SURPRISAL = later("surprisal of the token")
DIVERGENCE = later("KL divergence of its prediction")


@dataclass(frozen=True, repr=False, eq=False)
class Difference(EqualByValue, Displayed):
    """A difference of two runs at the tokens that correspond: the first minus the second.

    Attributes:
        what: what is compared, such as "attention of layer 3, head 0".
        unit: name and unit of a value.
        values: a column for each pair of tokens; NaN where neither run has a value.
        rows: names of the rows; empty if they are the pairs of tokens, too.
        row_unit: name of a row: "query", "expert" or "measure".
        aligned: the runs and their pairs of tokens.
        nothing: meaning of NaN.
    """

    what: str
    unit: str
    values: Float[Tensor, "row pair"]
    rows: tuple[str, ...]
    row_unit: str
    aligned: Alignment
    nothing: str

    def _summary(self) -> Summary:
        one, other = self.aligned.names
        known = self.values[~self.values.isnan()]
        largest = f"{float(known.abs().max()):.3g}" if len(known) else tr("none")
        facts = {
            tr("values"): tr("{one} minus {other}", one=one, other=other),
            tr("unit"): self.unit,
            tr("aligned tokens"): f"{len(self.aligned):,}",
            tr("largest difference"): largest,
        }
        return Summary(
            tr("Difference of {what}", what=self.what),
            facts,
            note=tr("qwen3lab.figures.difference draws it"),
        )


@checked
def attention_difference(aligned: Alignment, layer: int, head: int) -> Difference:
    """The difference of one head's attention weights at the tokens that correspond.

    Weights on tokens that correspond to none are left out, so rows need not sum to 0.

    Args:
        aligned: both runs, recorded with attention.
        layer: its number.
        head: its number.

    Raises:
        ValueError: the models have different layers or heads.
        RecordingError: no such layer or head, or attention was not recorded.
    """
    sizes = [(each.config.n_layers, each.config.n_heads) for each in (aligned.one, aligned.other)]
    if sizes[0] != sizes[1]:
        shown = [
            tr("{name} has {layers} layers of {heads} heads", name=name, layers=layers, heads=heads)
            for name, (layers, heads) in zip(_models(aligned), sizes, strict=True)
        ]
        raise ValueError(
            tr(
                "attention cannot be compared head by head: {one} and {other}",
                one=shown[0],
                other=shown[1],
            )
        )
    layer = index_of(layer, sizes[0][0], "layer", tr("the model"))
    head = index_of(head, sizes[0][1], "head", f"layer {layer}")
    ones, others = _positions(aligned)
    weights = _attention(aligned.one, layer, head, ones)
    values = weights - _attention(aligned.other, layer, head, others)
    later = torch.ones_like(values, dtype=torch.bool).triu(1)
    return Difference(
        tr("attention of layer {layer}, head {head}", layer=layer, head=head),
        tr("difference of attention weight"),
        values.masked_fill(later, torch.nan),
        (),
        "query",
        aligned,
        "masked: key after query",
    )


@checked
def routing_difference(aligned: Alignment, layer: int) -> Difference:
    """The difference of the routing weights of one layer's experts at the tokens that correspond.

    Args:
        aligned: both runs, recorded with routing.
        layer: its number in the model.

    Raises:
        ValueError: a model is dense, or the models have different experts.
        RecordingError: the layer has no experts.
    """
    configs = [aligned.one.config, aligned.other.config]
    for name, config in zip(_models(aligned), configs, strict=True):
        if not config.is_moe:
            raise ValueError(
                tr("routing cannot be compared: {name} is dense, it has no experts", name=name)
            )
    counts = [(each.n_experts, each.moe_layers) for each in configs]
    if counts[0] != counts[1]:
        shown = [
            tr(
                "{name} has {number} experts in {n_layers} layers",
                name=name,
                number=number,
                n_layers=len(layers),
            )
            for name, (number, layers) in zip(_models(aligned), counts, strict=True)
        ]
        raise ValueError(
            tr(
                "routing cannot be compared expert by expert: {one} and {other}",
                one=shown[0],
                other=shown[1],
            )
        )
    layer = index_of(layer, configs[0].n_layers, "layer", tr("the model"))
    ones, others = _positions(aligned)
    weights = layer_weights(aligned.one, layer)[ones].T
    less = layer_weights(aligned.other, layer)[others].T
    unused = (weights == 0) & (less == 0)
    return Difference(
        tr("routing in layer {layer}", layer=layer),
        tr("difference of routing weight"),
        (weights - less).masked_fill(unused, torch.nan),
        tuple(map(str, range(len(weights)))),
        "expert",
        aligned,
        tr("chosen in neither run"),
    )


@checked
def prediction_difference(aligned: Alignment) -> Difference:
    """How differently the tokens that correspond were predicted.

    Both rows are about the prediction that a token was written or read after, by the tokens before
    it. `SURPRISAL` is the difference of the surprisals: of each run's own token. `DIVERGENCE` is
    the Kullback-Leibler divergence of the first run's distribution of that token from the second
    run's: 0 or more. Nothing predicts the first token of a run.

    Args:
        aligned: both runs, with logits.

    Raises:
        ValueError: the models have different vocabularies.
        RecordingError: the logits were not recorded.
    """
    if not aligned.same_vocabulary:
        one, other = _models(aligned)
        raise ValueError(
            tr(
                "predictions cannot be compared: {one} and {other} have different vocabularies",
                one=one,
                other=other,
            )
        )
    values = torch.full((2, len(aligned)), torch.nan)
    all_ones, all_others = _positions(aligned)
    logits, other_logits = aligned.one.logits, aligned.other.logits
    known = [k for k, (i, j) in enumerate(aligned.pairs) if i > 0 and j > 0]
    for start in range(0, len(known), BLOCK):
        block = known[start : start + BLOCK]
        ones, others = all_ones[block], all_others[block]
        log, other_log = _before(logits, ones), _before(other_logits, others)
        chosen = log.gather(1, aligned.one.token_ids[ones, None])[:, 0]
        other_chosen = other_log.gather(1, aligned.other.token_ids[others, None])[:, 0]
        values[0, block] = other_chosen - chosen
        values[1, block] = _divergence(log, other_log)
    return Difference(
        tr("the prediction of each token"),
        tr("difference (nats)"),
        values,
        (SURPRISAL, DIVERGENCE),
        "measure",
        aligned,
        tr("first token: nothing predicts it"),
    )


def _positions(aligned: Alignment) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Positions in the first and in the second run, one for each pair."""
    places = torch.tensor(aligned.pairs, dtype=torch.long).reshape(-1, 2)
    return places[:, 0], places[:, 1]


def _models(aligned: Alignment) -> Sequence[str]:
    """The names of the models, for a message; those of the runs if the models have one name."""
    models = [aligned.one.model_name, aligned.other.model_name]
    return models if models[0] != models[1] else aligned.names


def _attention(
    recording: Recording, layer: int, head: int, positions: Int[Tensor, " pair"]
) -> Float[Tensor, "pair pair"]:
    """Weights between these positions, computed some queries at a time."""
    found = torch.zeros(len(positions), len(positions))
    blocks = recording.attention.blocks(layer, size=BLOCK, heads=slice(head, head + 1))
    for start, weights in blocks:
        is_here = (positions >= start) & (positions < start + BLOCK)
        found[is_here] = weights[0][positions[is_here] - start][:, positions]
    return found


def _before(
    logits: Float[Tensor, "token vocab"], positions: Int[Tensor, " pair"]
) -> Float[Tensor, "pair vocab"]:
    """Log-probabilities of the token at each position, given the tokens before it."""
    return logits[positions - 1].float().log_softmax(dim=-1)


def _divergence(
    log: Float[Tensor, "pair vocab"], other: Float[Tensor, "pair vocab"]
) -> Float[Tensor, " pair"]:
    """Kullback-Leibler divergence of the first from the second; no probability adds 0."""
    terms = log.exp() * (log - other)
    return terms.where(log > -torch.inf, 0).sum(dim=-1).clamp(min=0)
