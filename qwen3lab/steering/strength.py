"""Effect of a steering vector against its damage, by strength, beside controls of the same norm."""

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.arguments import Count, Seed, checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.errors import HookError
from qwen3lab.hooks.edits import AnyEdits, listed_edits
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.lab import Lab
from qwen3lab.metrics.metric import Metric, Reading, resolved
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.rendered_logits import next_token_logprobs
from qwen3lab.steering.controls import random_control, shuffled_control
from qwen3lab.steering.places import EVERYWHERE, Generated
from qwen3lab.steering.states import BATCH_SIZE
from qwen3lab.steering.vector import Vector
from qwen3lab.text.prompt import Prompt, as_prompts
from qwen3lab.translation import tr

if TYPE_CHECKING:
    import pandas

STRENGTHS = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)
VECTOR, SHUFFLED = "vector", "shuffled"


@dataclass(frozen=True, repr=False, eq=False)
class StrengthCurve(EqualByValue, Displayed):
    """What a vector changes at each strength, and what it breaks, with controls of the same norm.

    Attributes:
        model_name: of the model.
        made_by: how the vector was made.
        metric: label of the metric.
        unit: of the metric.
        strengths: factors of the vector, in rising order.
        directions: "vector"; "random 0" and so on, random directions of the same norm; "shuffled",
            the vector's values in a random order.
        base: mean of the metric over the prompts without a vector.
        base_unrelated: the same over the neutral texts.
        base_loss: mean next-token loss on the neutral texts without a vector, nats per token.
        effect: change of the mean metric over the prompts; NaN where an interrupt came first.
        unrelated: change of the mean metric over the neutral texts. An effect that is as large
            here does not depend on what the prompts say.
        damage: loss added on the neutral texts with the vector at all of their tokens, wherever it
            is in the prompts; nats per token.
    """

    model_name: str
    made_by: str
    metric: str
    unit: str
    strengths: tuple[float, ...]
    directions: tuple[str, ...]
    base: float
    base_unrelated: float
    base_loss: float
    effect: Float[Tensor, "direction strength"]
    unrelated: Float[Tensor, "direction strength"]
    damage: Float[Tensor, "direction strength"]

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table: direction, strength, effect, unrelated, damage."""
        import pandas

        n_directions, n_strengths = self.effect.shape
        return pandas.DataFrame(
            {
                "direction": [name for name in self.directions for _ in range(n_strengths)],
                "strength": list(self.strengths) * n_directions,
                "effect": self.effect.flatten().tolist(),
                "unrelated": self.unrelated.flatten().tolist(),
                "damage": self.damage.flatten().tolist(),
            }
        )

    def _summary(self) -> Summary:
        run = self.effect[0].nan_to_num(0)
        at = int(run.abs().argmax())
        controls = self.effect[1:, at]
        known = controls[controls.isfinite()]
        facts = {
            tr("vector"): self.made_by,
            tr("metric"): self.metric,
            tr("largest effect"): tr(
                "{run:+.3f} {unit} at {strengths:g}",
                run=float(run[at]),
                unit=tr(self.unit),
                strengths=self.strengths[at],
            ),
            tr("controls there"): tr(
                "{low:+.3f} to {high:+.3f}", low=float(known.min()), high=float(known.max())
            )
            if len(known)
            else tr("not run"),
            tr("damage there"): tr(
                "{damage:+.3f} nats per token", damage=float(self.damage[0, at])
            ),
        }
        return Summary(tr("Effect and damage of a steering vector"), facts, frame=self.to_pandas)


@checked
def strength_curve(
    lab: Lab,
    vector: Vector,
    prompts: Sequence[Prompt],
    metric: Metric,
    strengths: Sequence[float] = STRENGTHS,
    *,
    neutral: Sequence[Prompt],
    edits: AnyEdits | None = None,
    n_random: Count = 3,
    seed: Seed = 0,
    progress: bool = True,
) -> StrengthCurve:
    """Measure a vector's effect and damage at each strength, and that of its controls.

    Runs all texts once for each strength of the vector, of `n_random` random directions, and of
    the vector's values in a random order.

    Args:
        lab: the model.
        vector: that steers.
        prompts: whose metric it should change.
        metric: of `qwen3lab.metrics`.
        strengths: factors of the vector.
        neutral: texts that have nothing to do with the vector; the loss added on them is the
            damage, and the metric at them is the unrelated effect. The damage is that of the vector
            at all tokens, as positions in the prompts mean nothing in another text.
        edits: of every run, also of the one without a vector.
        n_random: number of random directions.
        seed: of the first random direction, and of the random order.
        progress: show a progress bar.

    Returns:
        The curves; after a keyboard interrupt, those of the runs that were done, if any.

    Raises:
        ValueError: no prompts, no strengths, no neutral text of two tokens, or a metric that does
            not fit the model or the texts.
        HookError: the vector does not fit the model, or is for generated tokens, of which a prompt
            has none.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import metrics, steering
        >>> lab = qwen3lab.load("tiny-moe")
        >>> vector = steering.from_token(lab, "7", layer=2)
        >>> curve = steering.strength_curve(lab, vector, ["3+4=?"], metrics.logit("7"), [0.1, 0.2],
        ...                                 neutral=["5 - 2 = 3"], n_random=1, progress=False)
        >>> curve.directions, curve.effect.shape
        (('vector', 'random 0', 'shuffled'), torch.Size([3, 2]))
    """
    factors = _checked_strengths(strengths)
    _check_vector(lab, vector)
    texts = _Texts(lab, prompts, neutral, metric)
    others = [random_control(vector, seed=seed + number) for number in range(n_random)]
    vectors = [vector, *others, shuffled_control(vector, seed=seed)]
    names = (VECTOR, *(f"random {number}" for number in range(n_random)), SHUFFLED)
    given = [] if edits is None else listed_edits(edits)
    base = texts.measured(given, None)
    found = torch.full((len(vectors), len(factors), 3), torch.nan)
    found[:, [factor == 0 for factor in factors]] = 0
    cells = [(v, s) for v in range(len(vectors)) for s, factor in enumerate(factors) if factor]
    bar = tqdm(cells, unit=tr("pass"), disable=not progress)
    with HeldInterrupts(at_once=False, keep=True) as held, closing(bar):
        try:
            for row, column in bar:
                found[row, column] = texts.measured(given, factors[column] * vectors[row]) - base
            held.hold()
        except KeyboardInterrupt:
            held.hold()
            if not any(found[row, column].isfinite().all() for row, column in cells):
                raise
        effect, unrelated, damage = found.float().unbind(dim=-1)
        of_prompts, of_neutral, loss = base.tolist()
        return StrengthCurve(
            lab.name,
            vector.made_by,
            texts.reading.label,
            texts.reading.unit,
            factors,
            names,
            of_prompts,
            of_neutral,
            loss,
            effect,
            unrelated,
            damage,
        )


class _Texts:
    """The prompts and the neutral texts as token ids, with the metric that is read from them."""

    def __init__(
        self, lab: Lab, prompts: Sequence[Prompt], neutral: Sequence[Prompt], metric: Metric
    ) -> None:
        self.lab = lab
        rows = [[lab.token_ids(each) for each in as_prompts(side)] for side in (prompts, neutral)]
        if not all(rows):
            raise ValueError(tr("there are no prompts or no neutral texts: expected one of each"))
        if max(map(len, rows[1])) < 2:
            raise ValueError(
                tr("no neutral text has two tokens: a loss needs a token and its next")
            )
        self.reading: Reading = resolved(metric, lab, min(map(len, rows[0] + rows[1])))
        self.n_prompts = len(rows[0])
        self.rows = rows[0] + rows[1]
        self.lengths = [len(row) for row in self.rows]
        # What the metric appends changes no earlier token, so one run gives metric and loss.
        self.full = [lab.token_ids([*row, *self.reading.appended]) for row in self.rows]

    def measured(self, edits: list[Any], vector: Vector | None) -> Float[Tensor, " 3"]:
        """Mean metric of the prompts and of the neutral texts, and mean loss on the latter."""
        steered = [*edits, *([] if vector is None else [vector])]
        values, losses = self._read(range(len(self.rows)), steered)
        if vector is not None and any(each.place != EVERYWHERE for each in vector.additions):
            everywhere = [*edits, vector.at(positions="all")]
            losses = self._read(range(self.n_prompts, len(self.rows)), everywhere)[1]
        means = [values[: self.n_prompts].mean(), values[self.n_prompts :].mean()]
        return torch.stack([*means, torch.cat(losses).double().mean()])

    def _read(
        self, indices: Sequence[int], edits: list[Any]
    ) -> tuple[Float[Tensor, " text"], list[Float[Tensor, " _"]]]:
        """The metric of each of these texts, and the losses of the neutral ones among them."""
        values, losses = torch.zeros(len(self.rows), dtype=torch.float64), []
        order = sorted(indices, key=lambda index: len(self.full[index]))
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            texts = [self.full[index] for index in batch]
            recordings = self.lab.record_batch(texts, edits=edits or None, attention=False)
            for index in batch:
                rec, n = recordings.pop(0), self.lengths[index]
                logits = rec.logits
                values[index] = float(self.reading.read(logits[None])[0])
                if index >= self.n_prompts:
                    losses.append(-next_token_logprobs(logits[:n], rec.token_ids[:n]))
        return values, losses


def _check_vector(lab: Lab, vector: Vector) -> None:
    """Raises `HookError` for a vector that does not fit the model, or the tokens of a prompt."""
    vector.edits(lab.config, (0,))
    if any(isinstance(each.place, Generated) for each in vector.additions):
        raise HookError(
            tr(
                "the vector is for generated tokens, and the metric is read from "
                'prompts, which have none: measure vector.at(positions="all") or '
                'vector.at(positions="last")'
            )
        )


def _checked_strengths(strengths: Sequence[float]) -> tuple[float, ...]:
    factors = tuple(sorted({float(each) for each in strengths}))
    if not factors or not any(factors):
        raise ValueError(
            tr(
                "strengths are {strengths}: expected at least one other than 0",
                strengths=list(strengths),
            )
        )
    if not all(math.isfinite(each) for each in factors):
        raise ValueError(
            tr("strengths are {strengths}: expected finite numbers", strengths=list(strengths))
        )
    return factors
