"""Linear probes of labels, fitted at several hooks, with controls and their own directions."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.proportions import Share
from qwen3lab.display import Displayed, Summary, one_line
from qwen3lab.errors import HookError
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr, tr_count

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False, eq=False)
class Probes(EqualByValue, Displayed):
    """Linear probes of the same labels at several hooks.

    Attributes:
        model_name: of the model.
        hooks: where the probes read, in the order of the forward pass.
        labels: what they tell apart; the axis `label` of the weights.
        weights: of each label at each hook, on the activations as they are recorded.
        bias: of each label at each hook; logits are `activation @ weights.T + bias`.
        shift: distance along each label's weights, of unit length, from the mean of the tokens
            without the label to the mean of those with it.
        accuracy: share of tokens whose label is predicted by a probe that was fitted without any
            token of their group. The interval counts tokens as independent, which those of one
            group are not: with few groups it is too narrow.
        control: the same with the labels in a random order over the tokens.
        chance: share of the most frequent label, which a probe reaches that reads nothing.
        n_groups: number of groups, such as documents.
        sparse: True for probes with an L1 penalty, whose weights are mostly zero.
    """

    model_name: str
    hooks: tuple[str, ...]
    labels: tuple[Any, ...]
    weights: Float[Tensor, "hook label feature"]
    bias: Float[Tensor, "hook label"]
    shift: Float[Tensor, "hook label"]
    accuracy: tuple[Share, ...]
    control: tuple[Share, ...]
    chance: Share
    n_groups: int
    sparse: bool

    @property
    def layers(self) -> tuple[int | None, ...]:
        """The layer of each hook; None for hooks outside of the blocks."""
        found = (re.match(r"blocks\.(\d+)\.", hook) for hook in self.hooks)
        return tuple(int(match[1]) if match else None for match in found)

    @property
    def n_used(self) -> tuple[int, ...]:
        """Number of features with a weight other than zero, at each hook."""
        return tuple(int(each.ne(0).any(dim=0).sum()) for each in self.weights)

    def logits(
        self, recording: Recording, *, hook: str | None = None
    ) -> Float[Tensor, "token label"]:
        """The logits of the labels at every token.

        Args:
            recording: with the hook.
            hook: one of `hooks`; None if there is one.

        Raises:
            HookError: there is no probe at the hook.
            RecordingError: the hook was not recorded.
        """
        row = self._row(hook)
        return recording[self.hooks[row]] @ self.weights[row].T + self.bias[row]

    def predict(self, recording: Recording, *, hook: str | None = None) -> list[Any]:
        """The most probable label of every token; arguments as in `logits`."""
        return [self.labels[i] for i in self.logits(recording, hook=hook).argmax(dim=1).tolist()]

    def direction(self, label: Any, *, hook: str | None = None) -> Float[Tensor, " feature"]:
        """The mean difference that a label makes, along its weights.

        Added to an activation, it moves a token without the label to where those with it are, as
        the probe sees it: `steering.from_direction(lab, probes.direction("value"), layer=3)`.

        Args:
            label: one of `labels`.
            hook: one of `hooks`; None if there is one.

        Raises:
            HookError: there is no probe at the hook.
            ValueError: no such label, or all of its weights are zero.
        """
        if label not in self.labels:
            known = ", ".join(one_line(repr(each), width=30) for each in self.labels)
            raise ValueError(
                tr("there is no label {label!r}: choose from {known}", label=label, known=known)
            )
        row, place = self._row(hook), self.labels.index(label)
        weights = self.weights[row, place]
        if not bool(weights.any()):
            raise ValueError(
                tr(
                    "all weights of {label!r} at {hooks} are zero",
                    label=label,
                    hooks=self.hooks[row],
                )
            )
        return weights / weights.norm() * self.shift[row, place]

    def to_pandas(self) -> "pandas.DataFrame":
        """A table: hook, layer, accuracy, its interval, control, chance, features used."""
        import pandas

        table = pandas.DataFrame(
            {
                "hook": self.hooks,
                "layer": self.layers,
                "accuracy": [each.value for each in self.accuracy],
                "low": [each.interval[0] for each in self.accuracy],
                "high": [each.interval[1] for each in self.accuracy],
                "control": [each.value for each in self.control],
                "chance": self.chance.value,
                "features": self.n_used,
            }
        )
        return table.astype({"layer": "Int64"})

    def _row(self, hook: str | None) -> int:
        if hook is None and len(self.hooks) == 1:
            return 0
        if hook not in self.hooks:
            raise HookError(
                tr(
                    "there is no probe at {hook!r}: choose hook= from {hooks}",
                    hook=hook,
                    hooks=", ".join(self.hooks),
                )
            )
        return self.hooks.index(hook)

    def _summary(self) -> Summary:
        best = max(range(len(self.hooks)), key=lambda row: self.accuracy[row].value)
        facts = {
            tr("labels"): ", ".join(one_line(str(label), width=20) for label in self.labels),
            tr("best at"): self.hooks[best],
            tr("accuracy"): f"{self.accuracy[best]}",
            tr("shuffled labels"): f"{self.control[best].value:.3f}",
            tr("most frequent label"): f"{self.chance.value:.3f}",
            tr("on"): tr(
                "{counted} of {other}",
                counted=tr_count("{n:,} token", "{n:,} tokens", self.chance.total),
                other=tr_count("{n:,} group", "{n:,} groups", self.n_groups),
            ),
        }
        kind = tr("Sparse linear probes") if self.sparse else tr("Linear probes")
        return Summary(kind, facts, frame=lambda: self.to_pandas().round(3))


def shifts(
    x: Float[Tensor, "token feature"], y: Tensor, weights: Float[Tensor, "label feature"]
) -> Float[Tensor, " label"]:
    """For each label, the mean difference between tokens with and without it, along its weights."""
    found = torch.zeros(len(weights), dtype=torch.float64)
    for label, row in enumerate(weights.double()):
        difference = x[y == label].double().mean(dim=0) - x[y != label].double().mean(dim=0)
        found[label] = difference @ (row / row.norm().clamp(min=1e-30))
    return found
