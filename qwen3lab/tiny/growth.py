"""How a model came to be: what it learned, which heads formed, who serves what.

Of a micro model that grows while one watches, or of an embedded model's early states.
"""

import copy
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.analysis.specialisation import Information, choice_overlap
from qwen3lab.checkpoints.embedded import embedded_revisions
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.lab import Lab, load
from qwen3lab.text.tokenizer import open_tokenizer
from qwen3lab.tiny.evaluation import internals
from qwen3lab.tiny.evaluation.internals import (
    diagnostic_head_scores,
    family_information,
    read,
    routed,
    surplus,
)
from qwen3lab.tiny.training.recipes import MICRO_MOE, RECIPES
from qwen3lab.tiny.training.trainer import Trainer
from qwen3lab.tiny.training.training_log import read_log
from qwen3lab.tiny.world import lists
from qwen3lab.tiny.world.tokenizer import EARLY_STOP

N_TEXTS = 8
"""Held-out texts of each family that are looked at, the same ones every time."""

PERIOD = lists.MAX_STEPS
"""Words in the sequences that show what heads do. Longer ones than it has met by then are copied
some hundred steps later."""


@dataclass(frozen=True)
class Snapshot:
    """What a model was like at one moment of its training.

    Attributes:
        step: of the optimiser; 0 is before the first.
        seconds: of training.
        tokens: trained on.
        surplus: cross-entropy above the generator's own, nats per predictable token, by family.
        heads: score of every head, by kind, on sequences of words that come twice.
        information: what the choice of experts says about a text's family, by layer; nothing
            where there are no experts.
        experts: the experts chosen for each token of the texts that are looked at.
        layers: the layers with experts, by their numbers in the model.
    """

    step: int
    seconds: float
    tokens: int
    surplus: dict[str, float]
    heads: dict[str, Float[Tensor, "layer head"]]
    information: list[Information]
    experts: Int[Tensor, "layer token k"] | None
    layers: tuple[int, ...]


class Growth:
    """A micro mixture of experts in training, looked at every few steps.

    Args:
        minutes: how long it trains in all; the learning rate falls by the clock.
        every: steps between two looks.
        seed: of weights and documents.

    Attributes:
        history: a snapshot for each look, the first before any training.
    """

    def __init__(self, *, minutes: float | int = 3, every: int = 25, seed: int = 0) -> None:
        if minutes <= 0 or every < 1:
            raise ValueError(
                f"{minutes} minutes with a look every {every} steps is no training: expected "
                "more than 0 minutes, and 1 step or more between looks"
            )
        self.minutes, self.every, self.seed = float(minutes), every, seed
        self.folder = Path(tempfile.mkdtemp(prefix="qwen3lab-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        recipe = replace(MICRO_MOE, seed=seed)
        self.tokenizer = open_tokenizer(find_folder("tiny-moe"))
        self.trainer = Trainer(recipe, self.tokenizer, EARLY_STOP, self.folder)
        self.history = [self._look()]

    @property
    def lab(self) -> Lab:
        """What the model is now, to be asked and recorded; training goes on with its own copy."""
        return Lab(copy.deepcopy(self.trainer.model), self.tokenizer, self.trainer.recipe.name)

    @property
    def share_done(self) -> float:
        """How much of the training is over, from 0 to 1."""
        return min(1.0, self.trainer.seconds / (60 * self.minutes))

    def run(
        self,
        on_look: Callable[[Snapshot], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Snapshot]:
        """Train to the end of the minutes; a run that was stopped goes on where it stood.

        Args:
            on_look: is called with every new snapshot.
            cancel: stops the run after the step it is at, when it is set.

        Returns:
            The history so far. An interrupt of the kernel stops the run and loses nothing.
        """
        try:
            for _ in self.trainer.steps(self.minutes):
                if cancel is not None and cancel.is_set():
                    break
                if self.trainer.step % self.every == 0:
                    self._remember(on_look)
        except KeyboardInterrupt:
            pass
        if self.history[-1].step != self.trainer.step:
            self._remember(on_look)
        return self.history

    def _remember(self, on_look: Callable[[Snapshot], None] | None) -> None:
        self.history.append(self._look())
        if on_look is not None:
            on_look(self.history[-1])

    def _look(self) -> Snapshot:
        trainer = self.trainer
        return look_at(
            Lab(trainer.model, self.tokenizer, trainer.recipe.name),
            families=trainer.recipe.families,
            step=trainer.step,
            seconds=trainer.seconds,
            tokens=trainer.tokens,
            period=PERIOD,
        )


def look_at(
    lab: Lab,
    *,
    families: Sequence[str],
    step: int,
    seconds: float = 0.0,
    tokens: int = 0,
    period: int = internals.PERIOD,
) -> Snapshot:
    """What a model is like, on the same held-out texts every time.

    Args:
        lab: with the model.
        families: what it learns from.
        step: of the optimiser, to be noted.
        seconds: of training, to be noted.
        tokens: trained on, to be noted.
        period: words in the sequences that show what heads do.
    """
    texts = read(lab, n=N_TEXTS, seed=1, families=families)
    information, experts, layers = [], None, lab.config.moe_layers
    if lab.config.n_experts:
        information = family_information(texts, routed(texts, lab.config.n_experts))
        experts = torch.cat([text.recording.routing.experts for text in texts], dim=1)
    heads = diagnostic_head_scores(lab, seed=1, period=period)
    return Snapshot(step, seconds, tokens, surplus(texts), heads, information, experts, layers)


def early_life(name: str = "tiny-dense") -> list[Snapshot]:
    """An embedded model at the early steps whose weights ship, and as it became in the end.

    Args:
        name: of an embedded model that has `embedded_revisions`.

    Raises:
        ValueError: it has none.
    """
    revisions = embedded_revisions(name)
    if not revisions:
        raise ValueError(f"no early weights of {name} ship: expected a model that has some")
    log = {line["step"]: line for line in read_log(find_folder(name))}
    states = {int(revision.removeprefix("step")): revision for revision in revisions}
    return [
        look_at(
            load(name, revision=revision, device="cpu"),
            families=RECIPES[name].families,
            step=step,
            seconds=log[step]["seconds"],
            tokens=log[step]["tokens"],
        )
        for step, revision in {**states, max(log): None}.items()
    ]


def saturation(history: Sequence[Snapshot]) -> Float[Tensor, "look layer"]:
    """How much of the last look's choice of experts stood already at each look, by layer.

    Source: OLMoE (arXiv 2409.02060), equation 5, router saturation.

    Raises:
        ValueError: the model has no experts.
    """
    chosen = [look.experts for look in history if look.experts is not None]
    if len(chosen) < len(history):
        raise ValueError("a model without experts chooses none: expected a mixture of experts")
    return torch.stack([choice_overlap(experts, chosen[-1]) for experts in chosen])
