"""The evaluation of an embedded model on held-out problems and texts."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tqdm.auto import tqdm

from qwen3lab.analysis.budgets import curve
from qwen3lab.analysis.proportions import Share
from qwen3lab.analysis.specialisation import Information
from qwen3lab.generation.sampling import Sampling
from qwen3lab.lab import Lab
from qwen3lab.storage.json_dataclasses import structure
from qwen3lab.thinking import sweep
from qwen3lab.tiny.evaluation.accuracy import accuracy, held_out
from qwen3lab.tiny.evaluation.internals import (
    BestHead,
    best_heads,
    family_information,
    read,
    routed,
    surplus,
)
from qwen3lab.tiny.world.families import FAMILIES

BUDGETS = (0, 4, 10, 16, 22, 28, 34, 40)
CURVE_STEPS = range(1, 13)


@dataclass(frozen=True)
class Evaluation:
    """The measurements of one model; the keys of the dicts are family names.

    Attributes:
        name: of the model.
        thinking: accuracy by number of steps, with unlimited thinking.
        at_once: accuracy by number of steps, without thinking.
        questions: accuracy on questions of the families without thinking.
        by_budget: accuracy on arithmetic of 1 to 12 steps, by thinking budget in tokens.
        mixed_at_once: accuracy on the same problems, without thinking.
        stopped: share of the replies with unlimited thinking that ended with an end token.
        surplus: cross-entropy above the generator's entropy, nats per predictable token.
        least_load: load of the least loaded expert relative to uniform load, by layer.
        most_load: load of the most loaded expert relative to uniform load, by layer.
        information: mutual information of selected expert and text family, by layer.
        heads: the best head of each kind.
        seed: of the problems.
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
    lab: Lab, *, n: int = 100, n_mixed: int = 500, seed: int = 1, progress: bool = True
) -> Evaluation:
    """Evaluate a model on held-out problems and texts, with greedy decoding.

    Args:
        lab: with an embedded model.
        n: number of problems for each family and number of steps, and of texts of each family.
        n_mixed: number of problems of mixed length for the curve over budgets.
        seed: of the problems.
        progress: show a bar.
    """
    rng = random.Random(seed)
    thinkers = [family for family in FAMILIES.values() if family.thinks]
    others = [family for family in FAMILIES.values() if not family.thinks]
    asked = {
        family.name: {
            steps: held_out(family.name, n=n, steps=steps, rng=rng)
            for steps in range(family.least, family.most + 1)
        }
        for family in thinkers
    }
    plain = {
        family.name: [
            family.draw(rng, rng.randint(family.least, family.most), "held-out") for _ in range(n)
        ]
        for family in others
    }
    mixed = [
        problem
        for _ in range(n_mixed)
        for problem in held_out("arithmetic", n=1, steps=rng.choice(CURVE_STEPS), rng=rng)
    ]
    lengths = sum(len(by_steps) for by_steps in asked.values())
    total = n * (2 * lengths + len(others)) + n_mixed * (len(BUDGETS) + 1)
    stops: list[str] = []
    thinking: dict[str, dict[int, Share]] = {}
    at_once: dict[str, dict[int, Share]] = {}
    with tqdm(total=total, unit="problem", disable=not progress) as bar:
        for name, by_steps in asked.items():
            for steps, problems in by_steps.items():
                share, replies = accuracy(lab, problems, bar, thinking=True)
                thinking.setdefault(name, {})[steps] = share
                stops += [reply.stop for reply in replies]
                share, _ = accuracy(lab, problems, bar, thinking=False)
                at_once.setdefault(name, {})[steps] = share
        questions = {
            name: accuracy(lab, problems, bar, thinking=False)[0]
            for name, problems in plain.items()
        }
        greedy = Sampling.greedy()
        swept = curve(sweep(lab, mixed, BUDGETS, sampling=greedy, batch=64, progress=False))
        assert swept.at_once is not None
        bar.update(n_mixed * (len(BUDGETS) + 1))
    texts = read(lab, n=n, seed=seed)
    least, most, information = [], [], []
    if lab.config.is_moe:
        counts = routed(texts, lab.config.n_experts)
        loads = counts.sum(dim=1)
        relative = loads / loads.mean(dim=1, keepdim=True)
        least, most = relative.amin(dim=1).tolist(), relative.amax(dim=1).tolist()
        information = family_information(texts, counts)
    return Evaluation(
        name=lab.name,
        thinking=thinking,
        at_once=at_once,
        questions=questions,
        by_budget={point.budget: point.right for point in swept.points if point.budget is not None},
        mixed_at_once=swept.at_once.right,
        stopped=Share(stops.count("natural"), len(stops)),
        surplus=surplus(texts),
        least_load=least,
        most_load=most,
        information=information,
        heads=best_heads(lab, seed=seed),
        seed=seed,
    )
