"""Co-activation of experts: within a layer, from layer to layer, and over sets of tokens."""

from dataclasses import dataclass

import numpy as np
import scipy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.analysis.routing import check_experts
from qwen3lab.arguments import Count, Seed, Share, checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.recording.labels import Labels, labelled, labels_of, relabelled
from qwen3lab.translation import later, tr

MAX_BATCH_VALUES = 2**22
"""Maximum values of permuted memberships in memory: 32 MB of doubles."""

DIVERGENCE_DECIMALS = 12


@checked
def chosen(experts: Int[Tensor, "token k"], n_experts: Count) -> Bool[Tensor, "token expert"]:
    """True for each token's chosen experts; -1 is no expert.

    Raises:
        ValueError: an index is outside [-1, n_experts).
    """
    check_experts(experts, n_experts)
    table = torch.zeros(len(experts), n_experts + 1, dtype=torch.bool)
    # -1 (no expert) falls into an extra last column, which is cut off.
    return table.scatter(1, experts.long() % (n_experts + 1), True)[:, :n_experts]


@checked
def co_activation(
    experts: Int[Tensor, "token k"], n_experts: Count
) -> Float[Tensor, "expert other"]:
    """Share of an expert's tokens that are also routed to each other expert.

    Returns:
        Rows of shares in [0, 1] with 1 on the diagonal; NaN for an expert without tokens. Labels
        of `experts` are kept.

    Source: OLMoE (arXiv 2409.02060), equation 6.
    """
    table = chosen(experts, n_experts).float()
    together = table.T @ table
    shares = together / together.diagonal()[:, None]
    return relabelled(shares, experts, later("co-activation"), ["expert", "other"])


@checked
def cluster_order(together: Float[Tensor, "expert other"]) -> list[int]:
    """An order of the experts in which co-activated ones are adjacent, by average linkage.

    Args:
        together: from `co_activation`; NaN counts as 0.

    Raises:
        ValueError: it is not square.
    """
    if together.shape[0] != together.shape[1]:
        raise ValueError(
            tr(
                "the co-activation has the shape {shape}: expected a square",
                shape=tuple(together.shape),
            )
        )
    shares = together.nan_to_num(0.0)
    mean = ((shares + shares.T) / 2).clamp(0, 1).double()
    mean.fill_diagonal_(1.0)
    if len(mean) < 3:
        return list(range(len(mean)))
    hierarchy = scipy.cluster.hierarchy
    distances = scipy.spatial.distance.squareform(1 - mean.numpy(), checks=False)
    return hierarchy.leaves_list(hierarchy.linkage(distances, "average")).tolist()


@checked
def transitions(
    earlier: Int[Tensor, "token k"], later: Int[Tensor, "same_token k"], n_experts: Count
) -> Float[Tensor, "earlier later"]:
    """Experts of a later layer to which the tokens of each expert are routed.

    Returns:
        Entry (i, j): the share of expert j in the later slots of expert i's tokens. Rows sum to
        1; NaN for an expert without tokens. Labelled if both arguments are.

    Raises:
        ValueError: the layers have different numbers of tokens.
    """
    if len(earlier) != len(later):
        raise ValueError(
            tr(
                "{n_earlier} tokens of one layer and {n_later} of the other: expected "
                "the same number",
                n_earlier=len(earlier),
                n_later=len(later),
            )
        )
    flow = chosen(earlier, n_experts).float().T @ chosen(later, n_experts).float()
    shares, first, second = flow / flow.sum(dim=1, keepdim=True), *map(labels_of, (earlier, later))
    if first is None or second is None:
        return shares
    layers = (*first.layers, *second.layers)
    axes = ("earlier", "later")
    return labelled(shares, Labels("transitions", axes, layers, model_name=first.model_name))


@checked
def committee(
    experts: Int[Tensor, "token k"], n_experts: Count, *, at_least: Share = 0.9
) -> tuple[int, ...]:
    """Experts that at least this share of the tokens is routed to."""
    share = chosen(experts, n_experts).float().mean(dim=0)
    return tuple(torch.nonzero(share >= at_least).flatten().tolist())


@dataclass(frozen=True, repr=False)
class Overlap(Displayed):
    """Similarity of the experts of two sets of tokens, and a permutation test of it.

    Attributes:
        jaccard: weighted Jaccard index of the two loads: the sum over experts of the smaller
            share over the sum of the larger share.
        divergence: Jensen-Shannon divergence of the two loads, in nats; 0 if equal, at most
            log(2).
        p_value: share of the permutations, including the observed one, with at least this
            divergence.
    """

    jaccard: float
    divergence: float
    p_value: float

    def _summary(self) -> Summary:
        facts = {
            tr("Jaccard"): f"{self.jaccard:.3g}",
            tr("Jensen-Shannon divergence"): tr(
                "{divergence:.3g} nats", divergence=self.divergence
            ),
            "p": f"{self.p_value:.3g}",
        }
        return Summary(tr("Overlap of the experts of two sets of tokens"), facts)


@checked
def overlap(
    one: Float[Tensor, "group expert"],
    other: Float[Tensor, "other_group expert"],
    *,
    n_permutations: Count = 999,
    seed: Seed = 0,
) -> Overlap:
    """Similarity of the experts of two sets; the test permutes whole groups, such as documents.

    Args:
        one: slots routed to each expert, for each group of tokens of the first set.
        other: the same for the second set.
        n_permutations: number of random orders of the groups; if not more orders exist, each is
            used once.
        seed: of the permutations.

    Raises:
        ValueError: a set is empty.

    Source: Lin 1991 for the divergence; Ruzicka 1958 for the weighted Jaccard index.
    """
    for which, counts in (("first", one), ("second", other)):
        if not counts.sum() > 0:
            raise ValueError(
                tr("the {which} set of tokens is empty: expected at least one token", which=which)
            )
    groups = torch.cat([one, other]).double().numpy()
    p, q = (counts.double().sum(dim=0) / counts.double().sum() for counts in (one, other))

    def divergence(is_first: np.ndarray, axis: int) -> np.ndarray | np.floating:
        first = is_first @ groups
        both = (first, groups.sum(axis=0) - first)
        distance = scipy.spatial.distance.jensenshannon(*both, axis=-1)  # pyright: ignore[reportCallIssue]
        value = distance**2
        # Equivalent orders give the same divergence only up to rounding.
        return np.round(value, DIVERGENCE_DECIMALS)

    # Permutes the membership, because scipy's two-sample test refuses a sample of one group.
    test = scipy.stats.permutation_test(
        (np.repeat([1.0, 0.0], [len(one), len(other)]),),
        divergence,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=n_permutations,
        batch=max(1, MAX_BATCH_VALUES // len(groups)),
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return Overlap(
        jaccard=float(torch.minimum(p, q).sum() / torch.maximum(p, q).sum()),
        divergence=float(scipy.spatial.distance.jensenshannon(p.numpy(), q.numpy())) ** 2,
        p_value=float(test.pvalue),
    )
