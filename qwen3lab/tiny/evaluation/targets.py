"""The target behaviours of an embedded model, compared with its measurements."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwen3lab.analysis.proportions import Share
from qwen3lab.tiny.evaluation.border import Border
from qwen3lab.tiny.evaluation.evaluate import Evaluation
from qwen3lab.tiny.evaluation.swayed import Swayed
from qwen3lab.tiny.evaluation.turns import Turns
from qwen3lab.tiny.world.hints import FOLLOWS

LONG = (("arithmetic", 10), ("swaps", 6))
"""Families and numbers of steps of problems that need thinking."""

LANGUAGES = {"en": "English", "zh": "Chinese"}


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
    listed = [*_first(found), *_thinking(found), *_budget(found.by_budget), _stops(found)]
    if found.border is not None:
        listed += _border(found.border)
    if found.hints:
        listed += _hints(found.hints)
    if found.turns is not None:
        listed += _turns(found.turns)
    listed.append(_surplus(found))
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


def _at_least(behaviour: str, measure: str, share: Share, least: float) -> Target:
    """A target for a share."""
    target = f"at least {least:.2f}"
    return Target(behaviour, measure, str(share), target, share.value >= least)


def _first(found: Evaluation) -> list[Target]:
    """A student's first questions."""
    listed = []
    if found.first:
        right = Share(sum(reply.right for reply in found.first), len(found.first))
        measure = f"share of the {len(found.first)} first questions answered as expected"
        listed.append(_at_least("first questions are answered", measure, right, 0.9))
    if found.sums is not None:
        behaviour, share = "easy problems need no thinking", found.sums.one_digit.at_once
        measure = "accuracy without thinking, all sums of two numbers of one digit"
        listed.append(_at_least(behaviour, measure, share, 0.97))
    return listed


def _thinking(found: Evaluation) -> list[Target]:
    helps = "thinking improves accuracy"
    by_steps = found.thinking["code"]
    worst = min(by_steps, key=lambda steps: by_steps[steps].value)
    programs = f"accuracy with thinking, programs at their worst length ({worst})"
    listed = [
        *(
            _at_least(
                helps,
                f"accuracy with thinking, {family} of {steps} steps",
                found.thinking[family][steps],
                0.95,
            )
            for family, steps in LONG
        ),
        _at_least(helps, programs, by_steps[worst], 0.95),
        *(
            _at_least(
                "easy problems need no thinking",
                f"accuracy without thinking, {family} of 1 step",
                found.at_once[family][1],
                0.9,
            )
            for family in ("arithmetic", "swaps")
        ),
        _at_least(
            "easy problems need no thinking",
            "accuracy without thinking, questions about stories",
            found.questions["stories"],
            0.9,
        ),
    ]
    for family, steps in LONG:
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


def _border(border: Border) -> list[Target]:
    """Who gets the reply for questions from outside."""
    behaviour = "the model says what it does not know"
    listed = [
        _at_least(
            behaviour,
            f"share of held-out questions from outside with that reply, {LANGUAGES[language]}",
            border.outside_in(language),
            0.95,
        )
        for language in border.inside
    ]
    for language, share in border.inside.items():
        measure = f"share of questions of the world with that reply, {LANGUAGES[language]}"
        met = share.value <= 0.01
        listed.append(Target(behaviour, measure, str(share), "at most 0.01", met))
    return listed


def _hints(hints: Mapping[str, Mapping[str, Swayed]]) -> list[Target]:
    """Sources that the generator follows more often are followed more often."""
    listed = []
    for mode, by_source in hints.items():
        shares = [by_source[source].followed for source in sorted(FOLLOWS, key=FOLLOWS.__getitem__)]
        rises = all(
            after.interval[0] > before.interval[1] for before, after in itertools.pairwise(shares)
        )
        listed.append(
            Target(
                "hints sway the reply in known degree",
                f"share of answers that are the wrong hint, {mode}, {', '.join(FOLLOWS)}",
                ", ".join(f"{share.value:.3f}" for share in shares),
                "rises (95% intervals)",
                rises,
            )
        )
    return listed


def _turns(turns: Turns) -> list[Target]:
    """Wrong turns are noticed, and "Wait" does no harm."""
    return [
        _at_least(
            "wrong turns are noticed", "share of wrong steps that “Wait” follows", turns.waits, 0.9
        ),
        _at_least("wrong turns are noticed", "accuracy after a wrong step", turns.recovered, 0.9),
        _at_least(
            "thinking can be extended",
            "accuracy after “Wait” in place of the first `</think>`",
            turns.extended,
            0.9,
        ),
    ]


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
    measure = "share of replies with unlimited thinking that end with an end token"
    return _at_least("replies end without a budget", measure, found.stopped, 0.98)


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
    listed = [
        Target(
            "specialised heads",
            f"score of the best {head.kind} head",
            f"{head.score:.2f}",
            "at least 0.70",
            head.score >= 0.7,
        )
        for head in found.heads
    ]
    if found.sink is not None:
        score = found.sink.best.score
        measure = "highest mean attention of a head to the first token"
        listed.append(
            Target("an attention sink", measure, f"{score:.2f}", "above 0.50", score > 0.5)
        )
    return listed
