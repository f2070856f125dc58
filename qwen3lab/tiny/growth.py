"""Measurements during training: losses, heads and expert specialisation over the steps.

`Growth` trains a micro model and measures it every few steps; `early_life` measures the early
revisions of an embedded model.
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
from qwen3lab.checkpoints.embedded import early_revisions
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.config import Qwen3Config
from qwen3lab.lab import Lab, load
from qwen3lab.text.tokenizer import open_tokenizer
from qwen3lab.tiny.evaluation import internals
from qwen3lab.tiny.evaluation.internals import (
    diagnostic_head_scores,
    family_information,
    read,
    routed,
    sink_scores,
    surplus,
)
from qwen3lab.tiny.training.recipes import MICRO_MOE, RECIPES
from qwen3lab.tiny.training.trainer import Trainer
from qwen3lab.tiny.training.training_log import read_log
from qwen3lab.tiny.world import lists
from qwen3lab.tiny.world.tokenizer import EARLY_STOP
from qwen3lab.translation import tr

TEXTS_PER_FAMILY = 8
"""Number of held-out texts of each family in a snapshot; the texts are the same in all."""

WORDS_PER_SEQUENCE = lists.MAX_STEPS
"""Number of words in the sequences that head scores are measured on. Sequences longer than those
of the training data are copied only some hundred steps later."""


@dataclass(frozen=True)
class Snapshot:
    """The measurements of a model at one step of its training.

    Attributes:
        step: number of optimiser steps so far.
        seconds: training time so far.
        tokens: training tokens so far.
        surplus: cross-entropy above the generator's entropy, nats per predictable token, by
            family.
        heads: score of every head, by kind of head. For "sink" it is the mean attention from later
            tokens to the first token of a chat.
        information: mutual information of expert and family, by layer; empty without experts.
        experts: the experts selected for each token of the held-out texts; None without experts.
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
    """The training of a micro mixture-of-experts model, with a snapshot every few steps.

    Args:
        minutes: total training time; the learning rate decays with the elapsed time.
        steps: train this many steps instead, however long they take. The learning rate decays
            with the steps, so the weights do not depend on the machine's speed.
        every: steps between two snapshots.
        seed: of the initial weights and the documents.

    Attributes:
        history: the snapshots; the first is from before the training.
        minutes: total training time; None if the number of steps is given.

    Raises:
        ValueError: `minutes` is not above 0, or `steps` or `every` is below 1.
    """

    def __init__(
        self,
        *,
        minutes: float | int = 3,
        steps: int | None = None,
        every: int = 25,
        seed: int = 0,
    ) -> None:
        _check_length(minutes, steps, every)
        self.minutes = float(minutes) if steps is None else None
        self.every, self.seed = every, seed
        self.folder = Path(tempfile.mkdtemp(prefix="qwen3lab-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        recipe = replace(MICRO_MOE, seed=seed, steps=steps or MICRO_MOE.steps)
        self.tokenizer = open_tokenizer(find_folder("tiny-moe"))
        self.trainer = Trainer(recipe, self.tokenizer, EARLY_STOP, self.folder)
        self.history = [self._measure()]

    @property
    def lab(self) -> Lab:
        """A lab with a copy of the current model; further training does not change the copy."""
        return Lab(copy.deepcopy(self.trainer.model), self.tokenizer, self.trainer.recipe.name)

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.trainer.recipe.name

    @property
    def config(self) -> Qwen3Config:
        """The sizes of the model."""
        return self.trainer.recipe.config

    @property
    def share_done(self) -> float:
        """The fraction of the training time, or of the steps, that has passed, from 0 to 1."""
        if self.minutes is None:
            return self.trainer.step / self.trainer.recipe.steps
        return min(1.0, self.trainer.seconds / (60 * self.minutes))

    def run(
        self,
        on_look: Callable[[Snapshot], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Snapshot]:
        """Train until the time limit or the last step; another call resumes a stopped run.

        Args:
            on_look: called with each new snapshot.
            cancel: event that stops the run after the current step.

        Returns:
            The history so far. A keyboard interrupt stops the run after a last snapshot.
        """
        try:
            for _ in self.trainer.steps(self.minutes):
                if cancel is not None and cancel.is_set():
                    break
                if self.trainer.step % self.every == 0:
                    self._add_snapshot(on_look)
        except KeyboardInterrupt:
            pass
        if self.history[-1].step != self.trainer.step:
            self._add_snapshot(on_look)
        return self.history

    def _add_snapshot(self, on_look: Callable[[Snapshot], None] | None) -> None:
        self.history.append(self._measure())
        if on_look is not None:
            on_look(self.history[-1])

    def _measure(self) -> Snapshot:
        trainer = self.trainer
        return look_at(
            Lab(trainer.model, self.tokenizer, trainer.recipe.name),
            families=trainer.recipe.families,
            step=trainer.step,
            seconds=trainer.seconds,
            tokens=trainer.tokens,
            period=WORDS_PER_SEQUENCE,
        )


def _check_length(minutes: float | int, steps: int | None, every: int) -> None:
    if minutes <= 0 or every < 1:
        raise ValueError(
            tr(
                "cannot train for {minutes} minutes with a snapshot every {every} steps: "
                "expected more than 0 minutes, and 1 step or more between snapshots",
                minutes=minutes,
                every=every,
            )
        )
    if steps is not None and steps < 1:
        raise ValueError(
            tr("cannot train for {steps} steps: expected 1 or more, or None", steps=steps)
        )


def look_at(
    lab: Lab,
    *,
    families: Sequence[str],
    step: int,
    seconds: float = 0.0,
    tokens: int = 0,
    period: int = internals.WORDS_PER_SEQUENCE,
) -> Snapshot:
    """The snapshot of a model, measured on the same held-out texts every time.

    Args:
        lab: with the model.
        families: the task families of its training data.
        step: number of optimiser steps so far; copied into the snapshot.
        seconds: training time so far; copied into the snapshot.
        tokens: training tokens so far; copied into the snapshot.
        period: number of words in the sequences that head scores are measured on.
    """
    texts = read(lab, n=TEXTS_PER_FAMILY, seed=1, families=families)
    information, experts, layers = [], None, lab.config.moe_layers
    if lab.config.n_experts:
        information = family_information(texts, routed(texts, lab.config.n_experts))
        experts = torch.cat([text.recording.routing.experts for text in texts], dim=1)
    heads = diagnostic_head_scores(lab, seed=1, period=period)
    heads["sink"] = sink_scores(texts)
    return Snapshot(step, seconds, tokens, surplus(texts), heads, information, experts, layers)


def early_life(name: str = "tiny-dense") -> list[Snapshot]:
    """Snapshots of an embedded model's early revisions and of its final weights.

    Args:
        name: of an embedded model with early revisions.

    Raises:
        ValueError: the model has no early revisions.
    """
    revisions = early_revisions(name)
    if not revisions:
        raise ValueError(
            tr(
                "{name} has no early revisions: choose one that has some, such as tiny-dense",
                name=name,
            )
        )
    log = {line["step"]: line for line in read_log(find_folder(name))}
    by_step = {int(revision.removeprefix("step")): revision for revision in revisions}
    return [
        look_at(
            load(name, revision=revision, device="cpu"),
            families=RECIPES[name].families,
            step=step,
            seconds=log[step]["seconds"],
            tokens=log[step]["tokens"],
        )
        for step, revision in {**by_step, max(log): None}.items()
    ]


def saturation(history: Sequence[Snapshot]) -> Float[Tensor, "look layer"]:
    """Router saturation: the overlap of each snapshot's expert choices with the last ones.

    Args:
        history: the snapshots of a mixture of experts.

    Returns:
        The fraction, from 0 to 1, of the last snapshot's selected experts that the earlier
        snapshot selects for the same tokens.

    Raises:
        ValueError: the model has no experts.

    Source: OLMoE (arXiv 2409.02060), equation 5.
    """
    selected = [look.experts for look in history if look.experts is not None]
    if len(selected) < len(history):
        raise ValueError(
            tr("the model has no experts: router saturation needs a mixture of experts")
        )
    return torch.stack([choice_overlap(experts, selected[-1]) for experts in selected])
