"""The target behaviours of an embedded model, compared with its measurements."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwen3lab.analysis.proportions import Share
from qwen3lab.tiny.evaluation.evaluate import Evaluation


@dataclass(frozen=True)
class Target:
    """One target behaviour.

    Attributes:
        behaviour: name of the behaviour.
        measure: the measured quantity.
        found: the measured value, as text.
        target: the required value, as text.
        met: True if the measured value satisfies the target.
    """

    behaviour: str
    measure: str
    found: str
    target: str
    met: bool


def targets(found: Evaluation) -> list[Target]:
    """All targets of a model; those on experts only for a mixture of experts."""
    listed = [*_thinking(found), *_budget(found.by_budget), _stops(found), _surplus(found)]
    if found.least_load:
        listed += _experts(found)
    return [*listed, *_heads(found)]


def distinct_levels(shares: Sequence[Share]) -> int:
    """The number of shares whose 95% intervals do not overlap.

    The shares are counted in ascending order: a share counts if its interval begins above the end
    of the interval of the last counted share.
    """
    count, end = 0, -1.0
    for share in sorted(shares, key=lambda share: share.value):
        if share.interval[0] > end:
            count, end = count + 1, share.interval[1]
    return count


def never_falls(shares: Sequence[Share]) -> bool:
    """True if no share's 95% interval lies entirely below the interval of the share before it."""
    pairs = itertools.pairwise(shares)
    return all(after.interval[1] >= before.interval[0] for before, after in pairs)


def _thinking(found: Evaluation) -> list[Target]:
    listed = []
    for family, steps, least in (("arithmetic", 12, 0.97), ("swaps", 6, 0.95)):
        share = found.thinking[family][steps]
        listed.append(
            Target(
                "thinking improves accuracy",
                f"accuracy with thinking, {family} of {steps} steps",
                str(share),
                f"at least {least:.2f}",
                share.value >= least,
            )
        )
    for family, steps in (("arithmetic", 1), ("arithmetic", 2), ("swaps", 1)):
        share = found.at_once[family][steps]
        listed.append(
            Target(
                "easy problems need no thinking",
                f"accuracy without thinking, {family} of {steps} step{'s' if steps > 1 else ''}",
                str(share),
                "at least 0.90",
                share.value >= 0.9,
            )
        )
    for family, steps in (("arithmetic", 12), ("swaps", 6)):
        lost = found.thinking[family][steps].value - found.at_once[family][steps].value
        listed.append(
            Target(
                "hard problems need thinking",
                f"accuracy with minus without thinking, {family} of {steps} steps",
                f"{lost:.3f}",
                "at least 0.30",
                lost >= 0.3,
            )
        )
    return listed


def _budget(by_budget: Mapping[int, Share]) -> list[Target]:
    shares = list(by_budget.values())
    levels = distinct_levels(shares)
    return [
        Target(
            "accuracy rises with the thinking budget",
            f"accuracy at the smallest and largest of {len(shares)} budgets",
            f"{shares[0].value:.3f} to {shares[-1].value:.3f}",
            "rises; no significant fall (95% intervals)",
            never_falls(shares) and shares[-1].interval[0] > shares[0].interval[1],
        ),
        Target(
            "accuracy rises with the thinking budget",
            "accuracies with non-overlapping 95% intervals",
            f"{levels}",
            "at least 5",
            levels >= 5,
        ),
    ]


def _stops(found: Evaluation) -> Target:
    share = found.stopped
    return Target(
        "replies end without a budget",
        "share of replies with unlimited thinking that end with an end token",
        str(share),
        "at least 0.98",
        share.value >= 0.98,
    )


def _surplus(found: Evaluation) -> Target:
    family = max(found.surplus, key=lambda name: found.surplus[name])
    return Target(
        "predictable tokens are predicted",
        f"surplus cross-entropy of the worst family, {family}, nats per predictable token",
        f"{found.surplus[family]:.4f}",
        "at most 0.05",
        found.surplus[family] <= 0.05,
    )


def _experts(found: Evaluation) -> list[Target]:
    least, most = min(found.least_load), max(found.most_load)
    above = sum(layer.above_chance for layer in found.information)
    return [
        Target(
            "all experts are used",
            "lowest load relative to uniform load",
            f"{least:.2f}",
            "at least 0.15",
            least >= 0.15,
        ),
        Target(
            "all experts are used",
            "highest load relative to uniform load",
            f"{most:.2f}",
            "at most 4",
            most <= 4,
        ),
        Target(
            "experts specialise",
            "layers with more mutual information of expert and family than all shuffles",
            f"{above}",
            f"all {len(found.information)}",
            above == len(found.information),
        ),
    ]


def _heads(found: Evaluation) -> list[Target]:
    return [
        Target(
            "specialised heads",
            f"score of the best {head.kind} head",
            f"{head.score:.2f}",
            "at least 0.70",
            head.score >= 0.7,
        )
        for head in found.heads
    ]
