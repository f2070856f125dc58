"""Fits linear probes at several hooks, and measures them on held-out groups."""

from collections import Counter
from collections.abc import Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.analysis.one_model import check_one_model, check_recorded_by
from qwen3lab.analysis.proportions import Share
from qwen3lab.arguments import Range, Seed, checked
from qwen3lab.display import one_line
from qwen3lab.errors import HookError, RecordingError
from qwen3lab.hooks.points import resolve_hooks
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.lab import Lab
from qwen3lab.probes.linear import Solver, fitted, folds, held_out_hits
from qwen3lab.probes.probes import Probes, shifts
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr, tr_count

Folds = Annotated[int, Range(2)]
Penalty = Annotated[float, Range(1e-9, 1e9)]


@checked
def fit(
    lab: Lab,
    recordings: Sequence[Recording],
    labels: Sequence[Sequence[Any]],
    *,
    hook: str | Sequence[str] = "blocks.*.hook_resid_post",
    groups: Sequence[Any] | None = None,
    sparse: bool = False,
    strength: Penalty = 1.0,
    n_folds: Folds = 5,
    seed: Seed = 0,
    progress: bool = True,
) -> Probes:
    """Fit a linear probe of the tokens' labels at each hook.

    A probe that reads a label shows that it is there, not that the model uses it: steer along
    `Probes.direction` to see that.

    Args:
        lab: that made the recordings.
        recordings: with the hooks.
        labels: one for each token of each recording; a token with None is left out.
        hook: name or glob, or several.
        groups: the group of each recording, such as its document; each is its own if None. No
            probe is measured on a group that it was fitted on.
        sparse: penalise absolute weights (L1), so that most are zero.
        strength: inverse of the penalty, on standardised activations (scikit-learn's `C`).
        n_folds: number of parts that the groups are divided into, at most one for each group.
        seed: of the folds and of the shuffled labels.
        progress: show a progress bar with the hooks that are done.

    Returns:
        The probes, fitted on all tokens; after a keyboard interrupt, those that were done, if any.

    Raises:
        HookError: a hook that the model does not have, or whose activation is no vector.
        RecordingError: a hook was not recorded.
        ValueError: labels and tokens differ in number, there are fewer than two labels or groups,
            or a label occurs in one group only.
        ImportError: scikit-learn is not installed.

    Source:
        Alain and Bengio (arXiv 1610.01644); shuffled labels as a control in the spirit of Hewitt
        and Liang (arXiv 1909.03368).
    """
    hooks = _checked_hooks(lab, recordings, hook)
    data = _labelled(recordings, labels, groups, n_folds, seed)
    solver = Solver(sparse, strength, seed)
    solver.model()  # Raises an error about scikit-learn before any work.
    order = torch.randperm(len(data.y), generator=torch.Generator().manual_seed(seed))
    found: list[tuple[Tensor, Tensor, Tensor, int, int]] = []
    bar = tqdm(hooks, unit=tr("hook"), disable=not progress)
    with HeldInterrupts(at_once=False, keep=True) as held, closing(bar):
        try:
            for name in bar:
                x = torch.cat([rec[name] for rec in recordings])[data.used]
                weights, bias = fitted(solver, x, data.y, len(data.labels))
                hits = held_out_hits(solver, x, data.y, data.fold)
                by_chance = held_out_hits(solver, x, data.y[order], data.fold)
                found.append((weights, bias, shifts(x, data.y, weights), hits, by_chance))
            held.hold()
        except KeyboardInterrupt:
            held.hold()
            if not found:
                raise
        return _probes(lab, hooks[: len(found)], data, found, sparse)


@dataclass(frozen=True)
class _Labelled:
    """The labels of the tokens that are used, as numbers, and the fold of each.

    Attributes:
        used: True for each token of the recordings in a row that has a label.
        y: number of each used token's label.
        fold: of each used token.
        labels: the labels by number.
        n_groups: number of groups with a used token.
    """

    used: Tensor
    y: Int[Tensor, " token"]
    fold: Int[Tensor, " token"]
    labels: tuple[Any, ...]
    n_groups: int


def _labelled(
    recordings: Sequence[Recording],
    labels: Sequence[Sequence[Any]],
    groups: Sequence[Any] | None,
    n_folds: int,
    seed: int,
) -> _Labelled:
    owners = list(range(len(recordings))) if groups is None else list(groups)
    _check_lengths(recordings, labels, owners)
    flat = [label for marks in labels for label in marks]
    of = [owner for owner, marks in zip(owners, labels, strict=True) for _ in marks]
    pairs = [(label, owner) for label, owner in zip(flat, of, strict=True) if label is not None]
    _check_spread(pairs)
    names = sorted({label for label, _ in pairs}, key=lambda label: (str(type(label)), str(label)))
    sizes = Counter(owner for _, owner in pairs)
    chosen = folds(list(sizes.values()), min(n_folds, len(sizes)), seed)
    fold = dict(zip(sizes, chosen, strict=True))
    return _Labelled(
        used=torch.tensor([label is not None for label in flat]),
        y=torch.tensor([names.index(label) for label, _ in pairs]),
        fold=torch.tensor([fold[owner] for _, owner in pairs]),
        labels=tuple(names),
        n_groups=len(sizes),
    )


def _checked_hooks(
    lab: Lab, recordings: Sequence[Recording], hook: str | Sequence[str]
) -> tuple[str, ...]:
    """The hooks, after all checks of the recordings."""
    check_one_model(recordings)
    check_recorded_by(lab, recordings[0])
    hooks = resolve_hooks(hook, lab.config)
    shapes: set[int] = set()
    for name in hooks:
        for number, rec in enumerate(recordings):
            if name not in rec:
                raise RecordingError(
                    tr(
                        "{name} is not in recording {number}: record with capture={name!r}",
                        name=name,
                        number=number,
                    )
                )
        value = recordings[0].raw(name)
        if value.ndim != 2 or not value.is_floating_point():
            raise HookError(
                tr(
                    "{name} has the shape {shape}: expected one vector for each token",
                    name=name,
                    shape=tuple(value.shape),
                )
            )
        shapes.add(value.shape[1])
    if len(shapes) > 1:
        raise HookError(
            tr(
                "the hooks have {listed} features: fit probes of hooks with equal numbers together",
                listed=" and ".join(map(str, sorted(shapes))),
            )
        )
    return tuple(hooks)


def _check_lengths(
    recordings: Sequence[Recording], labels: Sequence[Sequence[Any]], owners: Sequence[Any]
) -> None:
    if not len(recordings) == len(labels) == len(owners):
        raise ValueError(
            tr(
                "there are {n_recordings} recordings, {n_labels} lists of labels and "
                "{n_owners} groups: expected one of each for every recording",
                n_recordings=len(recordings),
                n_labels=len(labels),
                n_owners=len(owners),
            )
        )
    for number, (rec, marks) in enumerate(zip(recordings, labels, strict=True)):
        if len(marks) != len(rec):
            raise ValueError(
                tr(
                    "recording {number} has {n_rec} tokens and {n_marks} labels: expected "
                    "one label for each token",
                    number=number,
                    n_rec=len(rec),
                    n_marks=len(marks),
                )
            )
    for each in [*owners, *(label for marks in labels for label in marks)]:
        if not isinstance(each, Hashable) or isinstance(each, Tensor):
            raise ValueError(
                tr(
                    "a label or group is of type {kind}: expected text or a number",
                    kind=type(each).__name__,
                )
            )


def _check_spread(pairs: Sequence[tuple[Any, Any]]) -> None:
    """Refuses labels that held-out groups cannot measure."""
    spread: dict[Any, set[Any]] = {}
    for label, owner in pairs:
        spread.setdefault(label, set()).add(owner)
    if len(spread) < 2:
        raise ValueError(
            tr(
                "the tokens have {counted}: expected two or more",
                counted=tr_count("{n:,} label", "{n:,} labels", len(spread)),
            )
        )
    for label, owners in spread.items():
        if len(owners) < 2:
            raise ValueError(
                tr(
                    "label {label} occurs in one group only, so no probe can be measured on "
                    "it: give more groups, or None in place of the label",
                    label=one_line(repr(label), width=40),
                )
            )


def _probes(
    lab: Lab,
    hooks: Sequence[str],
    data: _Labelled,
    found: Sequence[tuple[Tensor, Tensor, Tensor, int, int]],
    sparse: bool,
) -> Probes:
    weights, bias, shift, hits, by_chance = zip(*found, strict=True)
    stacked = [torch.stack(each).float() for each in (weights, bias, shift)]
    n = len(data.y)
    return Probes(
        lab.name,
        tuple(hooks),
        data.labels,
        *stacked,
        accuracy=tuple(Share(each, n) for each in hits),
        control=tuple(Share(each, n) for each in by_chance),
        chance=Share(int(data.y.bincount().max()), n),
        n_groups=data.n_groups,
        sparse=sparse,
    )
