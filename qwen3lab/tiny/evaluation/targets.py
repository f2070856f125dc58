"""What an embedded model is to show, and whether it does."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwen3lab.analysis.proportions import Share
from qwen3lab.tiny.evaluation.evaluate import Evaluation


@dataclass(frozen=True)
class Target:
    """One behaviour that was asked for.

    Attributes:
        behaviour: in words.
        measure: what was measured.
        found: what came out, as text.
        target: what was asked for, as text.
        met: True if it is at least what was asked for.
    """

    behaviour: str
    measure: str
    found: str
    target: str
    met: bool


def targets(found: Evaluation) -> list[Target]:
    """All behaviours; those of experts only for a model that has them."""
    listed = [*_thinking(found), *_budget(found.by_budget), _stops(found), _world(found)]
    if found.least_load:
        listed += _experts(found)
    return [*listed, *_heads(found)]


def distinct_levels(shares: Sequence[Share]) -> int:
    """How many shares, in ascending order, lie apart by their 95% intervals.

    Each one that is counted begins above the end of the one counted before.
    """
    count, reach = 0, -1.0
    for share in sorted(shares, key=lambda share: share.value):
        if share.interval[0] > reach:
            count, reach = count + 1, share.interval[1]
    return count


def never_falls(shares: Sequence[Share]) -> bool:
    """True if no share lies below the one before it by more than their intervals allow."""
    pairs = itertools.pairwise(shares)
    return all(after.interval[1] >= before.interval[0] for before, after in pairs)


def _thinking(found: Evaluation) -> list[Target]:
    listed = []
    for family, steps, least in (("arithmetic", 12, 0.97), ("swaps", 6, 0.95)):
        share = found.thinking[family][steps]
        listed.append(
            Target(
                "thinking pays",
                f"accuracy with thinking, {family} of {steps} steps",
                str(share),
                f"{least:.2f}",
                share.value >= least,
            )
        )
    for family, steps in (("arithmetic", 1), ("arithmetic", 2), ("swaps", 1)):
        share = found.at_once[family][steps]
        listed.append(
            Target(
                "easy ones need no thinking",
                f"accuracy without, {family} of {steps} step{'s' if steps > 1 else ''}",
                str(share),
                "0.90",
                share.value >= 0.9,
            )
        )
    for family, steps in (("arithmetic", 12), ("swaps", 6)):
        lost = found.thinking[family][steps].value - found.at_once[family][steps].value
        listed.append(
            Target(
                "hard ones do",
                f"accuracy lost without, {family} of {steps} steps",
                f"{lost:.3f}",
                "0.30",
                lost >= 0.3,
            )
        )
    return listed


def _budget(by_budget: Mapping[int, Share]) -> list[Target]:
    shares = list(by_budget.values())
    levels = distinct_levels(shares)
    return [
        Target(
            "a budget buys accuracy",
            f"no fall over {len(shares)} budgets, by 95% intervals",
            f"{shares[0].value:.3f} to {shares[-1].value:.3f}",
            "rises",
            never_falls(shares) and shares[-1].interval[0] > shares[0].interval[1],
        ),
        Target("a budget buys accuracy", "levels that lie apart", f"{levels}", "5", levels >= 5),
    ]


def _stops(found: Evaluation) -> Target:
    share = found.stopped
    return Target(
        "it stops by itself",
        "thinkings that end without a budget",
        str(share),
        "0.98",
        share.value >= 0.98,
    )


def _world(found: Evaluation) -> Target:
    family = max(found.surplus, key=lambda name: found.surplus[name])
    return Target(
        "the world is learned",
        f"surplus cross-entropy of the worst family, {family}, nats per predictable token",
        f"{found.surplus[family]:.4f}",
        "at most 0.05",
        found.surplus[family] <= 0.05,
    )


def _experts(found: Evaluation) -> list[Target]:
    least, most = min(found.least_load), max(found.most_load)
    above = sum(layer.above_chance for layer in found.information)
    return [
        Target("experts live", "least load over uniform", f"{least:.2f}", "0.15", least >= 0.15),
        Target("experts live", "greatest load over uniform", f"{most:.2f}", "at most 4", most <= 4),
        Target(
            "experts specialise",
            "layers where expert and family share more information than in any shuffle",
            f"{above}",
            f"{len(found.information)}",
            above == len(found.information),
        ),
    ]


def _heads(found: Evaluation) -> list[Target]:
    return [
        Target("heads", f"best {head.kind} head", f"{head.score:.2f}", "0.70", head.score >= 0.7)
        for head in found.heads
    ]
