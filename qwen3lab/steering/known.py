"""Steering vectors from labelled tokens, from a token's unembedding, or from a known direction."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.one_model import check_one_model, check_recorded_by
from qwen3lab.arguments import checked
from qwen3lab.display import one_line
from qwen3lab.errors import HookError, RecordingError
from qwen3lab.lab import Lab
from qwen3lab.metrics.metric import Token, quoted, token_id
from qwen3lab.recording.recording import Recording
from qwen3lab.recording.weights_fingerprint import fingerprint
from qwen3lab.steering.addition import RESID_POST
from qwen3lab.steering.states import Layers, hooks_of, made_vector
from qwen3lab.steering.vector import Vector
from qwen3lab.translation import tr


@runtime_checkable
class Readout(Protocol):
    """Maps of a lens, such as `lenses.JacobianLens`.

    Attributes:
        kind: such as "Jacobian lens".
        fingerprint: of the weights that it was made for; empty if unknown.
    """

    @property
    def kind(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def pulled_back(self, layer: int, direction: Float[Tensor, " d_model"]) -> Tensor:
        """The direction at a layer that the lens reads as this one of the last layer."""
        ...


@checked
def from_labels(
    lab: Lab,
    recordings: Sequence[Recording],
    labels: Sequence[Sequence[object]],
    label: object,
    *,
    layer: Layers,
    hook: str = RESID_POST,
) -> Vector:
    """The mean activation over the tokens with a label, minus the mean over all tokens.

    Args:
        lab: that made the recordings.
        recordings: with `capture="blocks.*.hook_resid_post"`.
        labels: one for each token of each recording; a token with None does not count at all.
        label: the wanted one, such as "backtracking".
        layer: one or several; None for all.
        hook: within the layer.

    Raises:
        HookError: the layer or the hook does not exist.
        RecordingError: a hook was not recorded.
        ValueError: labels and tokens differ in number, no token has the label, or all have it.

    Source:
        Venhoff et al. (arXiv 2506.18167), section 3, without their scaling to a common norm.
    """
    layers, names = hooks_of(lab, layer, hook)
    _check_labels(lab, recordings, labels, names)
    sums = torch.zeros(2, len(names), lab.config.d_model, dtype=torch.float64)
    n_all, n_with = 0, 0
    for rec, marks in zip(recordings, labels, strict=True):
        counts = torch.tensor([mark is not None for mark in marks])
        wanted = torch.tensor([mark is not None and mark == label for mark in marks])
        n_all, n_with = n_all + int(counts.sum()), n_with + int(wanted.sum())
        for row, name in enumerate(names):
            stream = rec[name].double()
            sums[0, row] += stream[wanted].sum(dim=0)
            sums[1, row] += stream[counts].sum(dim=0)
    shown = one_line(repr(label), width=40)
    if n_with in (0, n_all):
        raise ValueError(f"{n_with} of {n_all} labelled tokens have {shown}: expected some")
    difference = sums[0] / n_with - sums[1] / n_all
    made_by = tr(
        "mean over {n_with:,} tokens with {shown} minus that over {n_all:,}",
        n_with=n_with,
        shown=shown,
        n_all=n_all,
    )
    return made_vector(lab, layers, difference.float(), hook, made_by)


@checked
def from_token(
    lab: Lab,
    token: Token,
    *,
    layer: Layers,
    other: Token | None = None,
    lens: Readout | None = None,
    hook: str = RESID_POST,
) -> Vector:
    """The direction that a token's logit is read along: its unembedding times the norm's weight.

    With a lens, it is the direction that the lens reads at the layer as this one of the last layer:
    A^T w for the map A and the direction w.

    Args:
        lab: whose tokens are meant.
        token: text of one token, or its id.
        layer: one or several; None for all.
        other: a token whose direction is subtracted.
        lens: a tuned or Jacobian lens; None for the logit lens.
        hook: within the layer.

    Raises:
        HookError: the layer or the hook does not exist.
        ValueError: a token that the model does not have, the same token twice, or a lens of other
            weights.
    """
    layers, _ = hooks_of(lab, layer, hook)
    chosen = token_id(lab, token)
    rows = lab.model.unembedding.detach()
    made_by = tr("unembedding of {token}", token=quoted(lab, chosen))
    row = rows[chosen].float()
    if other is not None:
        second = token_id(lab, other)
        row = row - rows[second].float()
        made_by = tr("{one} minus {other}", one=made_by, other=quoted(lab, second))
    direction = (row * lab.model.ln_final.weight.detach().float()).cpu()
    if lens is None:
        return made_vector(lab, layers, direction.expand(len(layers), -1), hook, made_by)
    _check_lens(lab, lens)
    read = torch.stack([lens.pulled_back(each, direction) for each in layers])
    through = tr("{made_by} through a {lens}", made_by=made_by, lens=tr(lens.kind))
    return made_vector(lab, layers, read, hook, through)


@checked
def from_direction(
    lab: Lab,
    direction: Float[Tensor, " d_model"],
    *,
    layer: Layers,
    made_by: str = "a given direction",
    hook: str = RESID_POST,
) -> Vector:
    """A vector of a direction that is known, such as a probe's.

    Args:
        lab: of the model that it belongs to.
        direction: as it is added.
        layer: one or several, which get the same direction; None for all.
        made_by: how the direction was made.
        hook: within the layer.

    Raises:
        HookError: the layer or the hook does not exist, or the direction has another size.
    """
    layers, _ = hooks_of(lab, layer, hook)
    if len(direction) != lab.config.d_model:
        raise HookError(
            f"the direction has {len(direction)} values, and d_model of {lab.name} is "
            f"{lab.config.d_model}: give a direction of this model"
        )
    repeated = direction.detach().cpu().float().expand(len(layers), -1)
    return made_vector(lab, layers, repeated, hook, made_by)


def _check_lens(lab: Lab, lens: Readout) -> None:
    if lens.fingerprint and lens.fingerprint != fingerprint(lab.model):
        raise ValueError(
            f"the {lens.kind} was made for other weights than those of {lab.name}: give a lens of "
            "this model"
        )


def _check_labels(
    lab: Lab,
    recordings: Sequence[Recording],
    labels: Sequence[Sequence[object]],
    names: Sequence[str],
) -> None:
    check_one_model(recordings)
    check_recorded_by(lab, recordings[0])
    if len(labels) != len(recordings):
        raise ValueError(
            f"there are {len(recordings)} recordings and {len(labels)} lists of labels: "
            "expected one list for each recording"
        )
    for number, (rec, marks) in enumerate(zip(recordings, labels, strict=True)):
        if len(marks) != len(rec):
            raise ValueError(
                f"recording {number} has {len(rec)} tokens and {len(marks)} labels: "
                "expected one label for each token"
            )
        missing = [name for name in names if name not in rec]
        if missing:
            raise RecordingError(
                f"{missing[0]} was not recorded: record with capture={missing[0]!r}"
            )
