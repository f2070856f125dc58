"""Expert specialisation: the dependence between chosen experts and labels of the text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.analysis.one_model import check_one_model
from qwen3lab.analysis.structure import chosen
from qwen3lab.arguments import Count, CountOrNone, Seed, checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr

MAX_BATCH_VALUES = 2**22
"""Maximum values of resampled documents in memory: 32 MB of doubles."""

Values = np.ndarray | np.floating


@checked
def mutual_information(counts: Float[Tensor, "label expert"]) -> float:
    """Mutual information of label and expert, in nats.

    Args:
        counts: number of tokens of each label routed to each expert.

    Returns:
        The sum of p(l, e) log(p(l, e) / (p(l) p(e))); 0 if label and expert are independent.

    Raises:
        ValueError: nothing was counted.

    Source: Cover and Thomas, Elements of Information Theory, equation 2.28.
    """
    if not counts.sum() > 0:
        raise ValueError(tr("nothing was counted: expected tokens of at least one label"))
    return float(_information(counts.double().numpy()))


def _information(counts: Float[np.ndarray, "*batch label expert"]) -> Values:
    """Mutual information over the last two axes, label and expert."""
    joint = counts / counts.sum(axis=(-2, -1), keepdims=True)
    independent = joint.sum(axis=-1, keepdims=True) * joint.sum(axis=-2, keepdims=True)
    return scipy.special.rel_entr(joint, independent).sum(axis=(-2, -1))


@dataclass(frozen=True, repr=False)
class Information(Displayed):
    """Mutual information of expert and label, and its null distribution.

    Attributes:
        value: in nats.
        shuffled: values with shuffled labels of the documents, in nats, in ascending order.
    """

    value: float
    shuffled: tuple[float, ...]

    @property
    def above_chance(self) -> bool:
        """True if no shuffle reached the value."""
        return self.value > self.shuffled[-1]

    def _summary(self) -> Summary:
        facts = {
            tr("value"): tr("{value:.3g} nats", value=self.value),
            tr("shuffled"): tr(
                "at most {shuffled:.3g} nats", shuffled=max(self.shuffled, default=0.0)
            ),
            tr("shuffles"): f"{len(self.shuffled):,}",
        }
        return Summary(tr("Mutual information of expert and label"), facts)


@checked
def label_information(
    counts: Float[Tensor, "document expert"],
    labels: Int[Tensor, " document"],
    *,
    n_shuffles: Count = 200,
    seed: Seed = 0,
) -> Information:
    """Mutual information of expert and label over documents, against shuffled labels.

    Labels of whole documents are shuffled, because tokens of a document are not independent.

    Args:
        counts: tokens of each document that were routed to each expert.
        labels: of the documents, from 0 on.
        n_shuffles: number of random orders of the labels; if not more orders exist, each is used
            once.
        seed: of the shuffles.

    Raises:
        ValueError: nothing was counted, or there are fewer than two documents.
    """
    if not counts.sum() > 0:
        raise ValueError(tr("nothing was counted: expected tokens of at least one label"))
    if len(labels) < 2:
        raise ValueError(tr("labels of one document cannot be shuffled: expected at least two"))
    _check_labels(labels)
    n_labels, documents = int(labels.max()) + 1, counts.double().numpy()

    def information(shuffled: np.ndarray, axis: int) -> Values:
        of_label = shuffled[..., None, :] == np.arange(n_labels)[:, None]
        return _information(of_label.astype(float) @ documents)

    test = scipy.stats.permutation_test(
        (labels.numpy(),),
        information,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=n_shuffles,
        batch=max(1, MAX_BATCH_VALUES // (n_labels * len(labels))),
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return Information(float(test.statistic), tuple(np.sort(test.null_distribution).tolist()))


@checked
def choice_overlap(
    one: Int[Tensor, "layer token k"], other: Int[Tensor, "*alike"]
) -> Float[Tensor, " layer"]:
    """Share of the experts of one run that are also chosen in the other, for the same tokens.

    1 if all choices are the same; k / experts for independent uniform choices.

    Raises:
        ValueError: the runs differ in layers, tokens or k.

    Source: OLMoE (arXiv 2409.02060), equation 5, router saturation, where `other` is the
    final checkpoint.
    """
    if one.shape != other.shape:
        raise ValueError(
            tr(
                "choices of shapes {one} and {other} cannot be compared: expected "
                "the same layers, tokens and number of experts per token",
                one=tuple(one.shape),
                other=tuple(other.shape),
            )
        )
    same, real = one[..., :, None] == other[..., None, :], one >= 0
    shared = same.any(dim=-1) & real
    return shared.sum(dim=(1, 2)) / real.sum(dim=(1, 2))


@checked
def shares_by_label(
    experts: Int[Tensor, "token k"], labels: Int[Tensor, " same_token"], n_experts: Count
) -> Float[Tensor, "label expert"]:
    """Share of each label's tokens that are routed to each expert.

    With domains as labels this is OLMoE's domain specialisation; with input or predicted token
    ids as labels, its vocabulary specialisation.

    Args:
        experts: chosen experts of one layer; -1 is no expert.
        labels: of the tokens, from 0 on.
        n_experts: experts in the layer.

    Returns:
        Rows sum to k; uniform routing gives k / experts. NaN for a label without tokens.

    Raises:
        ValueError: the numbers of labels and tokens differ.

    Source: OLMoE (arXiv 2409.02060), equations 7 and 8.
    """
    if len(labels) != len(experts):
        raise ValueError(
            tr(
                "there are {n_labels} labels for {n_experts} tokens: expected one for each",
                n_labels=len(labels),
                n_experts=len(experts),
            )
        )
    _check_labels(labels)
    n_labels = int(labels.max()) + 1 if len(labels) else 0
    counts = torch.zeros(n_labels, n_experts, dtype=torch.float64)
    counts = counts.index_add(0, labels, chosen(experts, n_experts).double())
    return (counts / torch.bincount(labels, minlength=n_labels)[:, None]).float()


@checked
def by_document(
    groups: Mapping[str, Sequence[Recording]], row: CountOrNone
) -> tuple[Float[Tensor, "document expert"], Int[Tensor, " document"], Int[Tensor, " document"]]:
    """Counts by document, for `label_information` and `share_intervals`.

    Args:
        groups: the recordings of each group's documents.
        row: index of the layer among the layers with experts.

    Returns:
        Number of each document's tokens routed to each expert; number of its tokens; number of
        its group.

    Raises:
        ValueError: no recordings, recordings of different models, or no such layer.
    """
    check_one_model([rec for recordings in groups.values() for rec in recordings])
    listed = [(g, rec) for g, recordings in enumerate(groups.values()) for rec in recordings]
    n_layers = len(listed[0][1].config.moe_layers)
    if row >= n_layers:
        raise ValueError(
            tr(
                "row is {row}: the model has {n_layers} layers with experts",
                row=row,
                n_layers=n_layers,
            )
        )
    tables = [chosen(rec.routing.experts[row], rec.config.n_experts) for _, rec in listed]
    counts = torch.stack([table.float().sum(dim=0) for table in tables])
    tokens = torch.tensor([len(rec) for _, rec in listed])
    return counts, tokens, torch.tensor([group for group, _ in listed])


@dataclass(frozen=True, repr=False, eq=False)
class Interval(EqualByValue, Displayed):
    """Shares with their 95% intervals.

    Attributes:
        value, low, high: by label and expert.
    """

    value: Float[Tensor, "label expert"]
    low: Float[Tensor, "label expert"]
    high: Float[Tensor, "label expert"]

    def _summary(self) -> Summary:
        n_labels, n_experts = self.value.shape
        facts = {tr("labels"): str(n_labels), tr("experts"): str(n_experts)}
        return Summary(tr("Shares of tokens with 95% intervals"), facts)


@checked
def share_intervals(
    counts: Float[Tensor, "document expert"],
    tokens: Int[Tensor, " document"],
    labels: Int[Tensor, " document"],
    *,
    n_resamples: Count = 999,
    seed: Seed = 0,
) -> Interval:
    """Shares of each label's tokens routed to each expert, with 95% bootstrap intervals.

    Documents are resampled within their label, because tokens of a document are not
    independent. The interval of a label with a single document is NaN.

    Args:
        counts: tokens of each document that were routed to each expert.
        tokens: of each document.
        labels: of the documents, from 0 on.
        n_resamples: bootstrap samples for each label.
        seed: of the samples.

    Raises:
        ValueError: a label has no document.

    Source: Efron and Tibshirani 1993, chapter 13, the percentile interval.
    """
    _check_labels(labels)
    if bool((tokens < 1).any()):
        raise ValueError(tr("a document has no tokens: expected at least one in each"))
    rng, rows = np.random.default_rng(seed), []
    for label in range(int(labels.max()) + 1):
        own = torch.nonzero(labels == label).flatten()
        if not len(own):
            raise ValueError(
                tr("label {label} has no document: expected at least one per label", label=label)
            )
        routed, size = counts[own].double().numpy().T, tokens[own].double().numpy()
        rows.append([_share(routed, size), *_interval(routed, size, n_resamples, rng)])
    value, low, high = torch.tensor(np.stack(rows, axis=1)).float()
    return Interval(value, low, high)


def _check_labels(labels: Int[Tensor, " item"]) -> None:
    if bool((labels < 0).any()):
        raise ValueError(
            tr("label {labels} is negative: expected labels from 0 on", labels=int(labels.min()))
        )


def _share(routed: np.ndarray, size: np.ndarray, axis: int = -1) -> Values:
    return routed.sum(axis=axis) / size.sum(axis=axis)


def _interval(
    routed: np.ndarray, size: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of the 95% percentile interval of each expert's share.

    All experts share the resampled documents (`paired`).
    """
    if len(size) == 1:
        return np.full(len(routed), np.nan), np.full(len(routed), np.nan)
    result = scipy.stats.bootstrap(
        (routed, size),
        _share,
        axis=-1,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=n_resamples,
        batch=max(1, MAX_BATCH_VALUES // routed.size),
        rng=rng,
    )
    return result.confidence_interval.low, result.confidence_interval.high


@checked
def npmi(counts: Float[Tensor, "label expert"]) -> Float[Tensor, "label expert"]:
    """Normalised pointwise mutual information of each label with each expert.

    Args:
        counts: number of tokens of each label routed to each expert.

    Returns:
        1 if label and expert occur only together, 0 if they are independent, -1 if they never
        occur together; NaN for a label or an expert without tokens.

    Raises:
        ValueError: nothing was counted.

    Source: Bouma 2009, Normalized (Pointwise) Mutual Information in Collocation Extraction,
    equation 7.
    """
    if not counts.sum() > 0:
        raise ValueError(tr("nothing was counted: expected tokens of at least one label"))
    joint = counts.double() / counts.sum()
    independent = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    value = (joint / independent).log() / -joint.log()
    value = torch.where((joint == 0) & (independent > 0), -1.0, value)
    # With a single label and a single expert, both logarithms are zero.
    return torch.where(joint == 1, 1.0, value).float()
