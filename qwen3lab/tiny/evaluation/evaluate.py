"""The evaluation of an embedded model on held-out problems and texts."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tqdm.auto import tqdm

from qwen3lab.analysis.budgets import BudgetCurve, curve
from qwen3lab.analysis.proportions import Share
from qwen3lab.analysis.specialisation import Information
from qwen3lab.generation.sampling import Sampling
from qwen3lab.lab import Lab
from qwen3lab.storage.json_dataclasses import structure
from qwen3lab.thinking import sweep
from qwen3lab.tiny.evaluation.accuracy import PROBLEMS_PER_BATCH, held_out
from qwen3lab.tiny.evaluation.border import Border, draw_outside, measure_border
from qwen3lab.tiny.evaluation.first_replies import ORDER_EXAMPLES, FirstReply, first_replies
from qwen3lab.tiny.evaluation.internals import (
    BestHead,
    Read,
    Sink,
    best_heads,
    family_information,
    read,
    routed,
    sink,
    surplus,
)
from qwen3lab.tiny.evaluation.lengths import draw_lengths, measure_lengths
from qwen3lab.tiny.evaluation.sums import Sums, draw_sums, measure_sums
from qwen3lab.tiny.evaluation.swayed import Swayed, draw_hints, measure_hints
from qwen3lab.tiny.evaluation.turns import Turns, draw_turns, measure_turns
from qwen3lab.tiny.world import arithmetic
from qwen3lab.tiny.world.first_questions import FIRST_QUESTIONS
from qwen3lab.tiny.world.problems import Problem
from qwen3lab.translation import tr

N, N_MIXED, SEED = 100, 500, 1
"""Defaults of an evaluation, with which the cards are written."""

BUDGETS = tuple(range(0, 122, 11))
"""Thinking budgets in tokens: a step of arithmetic takes about 11."""

CURVE_STEPS = range(1, arithmetic.MAX_STEPS + 1)


@dataclass(frozen=True)
class Evaluation:
    """The measurements of one model.

    A card of the first edition of the embedded models has none of the fields with a default.

    Attributes:
        name: of the model.
        thinking: accuracy by family and number of steps, with unlimited thinking.
        at_once: accuracy by family and number of steps, without thinking.
        questions: accuracy on questions of the families without thinking.
        by_budget: accuracy on arithmetic of all lengths, by thinking budget in tokens.
        mixed_at_once: accuracy on the same problems, without thinking.
        stopped: share of the replies with unlimited thinking that ended with an end token.
        surplus: cross-entropy above the generator's entropy, nats per predictable token, by family.
        least_load: load of the least loaded expert relative to uniform load, by layer.
        most_load: load of the most loaded expert relative to uniform load, by layer.
        information: mutual information of selected expert and text family, by layer.
        heads: the best head of each kind.
        seed: of the problems.
        n: number of problems of a kind.
        thinking_tokens: mean number of thinking tokens, by family and number of steps.
        sums: accuracies of short arithmetic by operands, sign and wording.
        border: shares of the reply for questions from outside.
        hints: replies to problems with a wrong hint, by mode and source.
        turns: replies after a wrong step, and after "Wait".
        sink: attention to the first token.
        first: answers to the fifty first questions.
        order: answers to two questions about the order of operations.
    """

    name: str
    thinking: dict[str, dict[int, Share]]
    at_once: dict[str, dict[int, Share]]
    questions: dict[str, Share]
    by_budget: dict[int, Share]
    mixed_at_once: Share
    stopped: Share
    surplus: dict[str, float]
    least_load: list[float]
    most_load: list[float]
    information: list[Information]
    heads: list[BestHead]
    seed: int
    n: int = N
    thinking_tokens: dict[str, dict[int, float]] = field(default_factory=dict)
    sums: Sums | None = None
    border: Border | None = None
    hints: dict[str, dict[str, Swayed]] = field(default_factory=dict)
    turns: Turns | None = None
    sink: Sink | None = None
    first: list[FirstReply] = field(default_factory=list)
    order: list[FirstReply] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Numbers only, for a JSON file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> "Evaluation":
        """The evaluation of a dict that `to_dict` returned or JSON gave; ignores other fields.

        Raises:
            ValueError: a field is missing, or has a value of another type.
        """
        return structure(cls, numbers, ignore_extra=True)


def evaluate(
    lab: Lab,
    *,
    n: int = N,
    n_mixed: int = N_MIXED,
    seed: int = SEED,
    progress: bool = True,
) -> Evaluation:
    """Evaluate a model on held-out problems and texts, with greedy decoding.

    Replies to hints are sampled; see `tiny.evaluation.swayed`.

    Args:
        lab: with an embedded model.
        n: number of problems of each kind, such as a family and a number of steps, and of texts of
            each family.
        n_mixed: number of problems of mixed length for the curve over budgets.
        seed: of the problems. Each part of the evaluation has random numbers of its own.
        progress: show a bar.
    """
    lengths = draw_lengths(n, _rng(seed, "lengths"))
    sums = draw_sums(n, _rng(seed, "sums"))
    outside = draw_outside(n, _rng(seed, "outside"))
    hints = draw_hints(n, _rng(seed, "hints"))
    turns = draw_turns(n, _rng(seed, "turns"))
    mixed = _mixed(n_mixed, _rng(seed, "budgets"))
    by_kind = [problems for by_kind in (outside, hints) for problems in by_kind.values()]
    total = sum(asked.n_replies for asked in (lengths, sums, turns))
    total += sum(len(problems) for kinds in by_kind for problems in kinds.values())
    total += len(FIRST_QUESTIONS) + len(ORDER_EXAMPLES) + n_mixed * (len(BUDGETS) + 1)
    with tqdm(total=total, unit=tr("reply"), disable=not progress) as bar:
        by_length = measure_lengths(lab, lengths, bar)
        short = measure_sums(lab, sums, bar)
        border = measure_border(lab, outside, by_length.answered, bar)
        swayed = measure_hints(lab, hints, bar, seed=seed)
        turned = measure_turns(lab, turns, bar)
        first = first_replies(lab, FIRST_QUESTIONS, bar)
        order = first_replies(lab, ORDER_EXAMPLES, bar)
        swept = _swept(lab, mixed)
        bar.update(n_mixed * (len(BUDGETS) + 1))
    assert swept.at_once is not None
    texts = read(lab, n=n, seed=seed)
    least, most, information = _experts(lab, texts)
    return Evaluation(
        name=lab.name,
        thinking=by_length.thinking,
        at_once=by_length.at_once,
        questions=by_length.questions,
        by_budget={point.budget: point.right for point in swept.points if point.budget is not None},
        mixed_at_once=swept.at_once.right,
        stopped=by_length.stopped,
        surplus=surplus(texts),
        least_load=least,
        most_load=most,
        information=information,
        heads=best_heads(lab, seed=seed),
        seed=seed,
        n=n,
        thinking_tokens=by_length.thinking_tokens,
        sums=short,
        border=border,
        hints=swayed,
        turns=turned,
        sink=sink(texts),
        first=first,
        order=order,
    )


def _rng(seed: int, part: str) -> random.Random:
    """The random numbers of one part, which do not depend on the other parts."""
    return random.Random(f"{seed} {part}")


def _mixed(n: int, rng: random.Random) -> list[Problem]:
    """Arithmetic of all lengths, for the curve over budgets."""
    return [
        problem
        for _ in range(n)
        for problem in held_out("arithmetic", n=1, steps=rng.choice(CURVE_STEPS), rng=rng)
    ]


def _swept(lab: Lab, problems: list[Problem]) -> BudgetCurve:
    """The accuracy within each budget, and without thinking."""
    options = {"sampling": Sampling.greedy(), "batch": PROBLEMS_PER_BATCH}
    return curve(sweep(lab, problems, BUDGETS, **options, progress=False))


def _experts(lab: Lab, texts: list[Read]) -> tuple[list[float], list[float], list[Information]]:
    """Lowest and highest load, and information, by layer; empty for a dense model."""
    if not lab.config.is_moe:
        return [], [], []
    counts = routed(texts, lab.config.n_experts)
    loads = counts.sum(dim=1)
    relative = loads / loads.mean(dim=1, keepdim=True)
    least, most = relative.amin(dim=1).tolist(), relative.amax(dim=1).tolist()
    return least, most, family_information(texts, counts)
