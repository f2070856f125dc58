"""What patching and attribution patching share: two prompts, their runs, and the checks of both."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.hooks.points import PATTERN_HOOKS
from qwen3lab.lab import Lab
from qwen3lab.metrics.metric import Metric, resolved
from qwen3lab.patching.alignment import Align, Pairs, aligned
from qwen3lab.patching.passes import RESID_PRE, Reader, Run, run_once
from qwen3lab.patching.results import Patched
from qwen3lab.patching.sites import Site, layers_of_site, site_of
from qwen3lab.patching.sweep import Cell, Positioned, cells_of
from qwen3lab.text.prompt import Prompt
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.translation import tr

DIRECTIONS = ("denoise", "noise")

MIN_RELATIVE_DIFFERENCE = 1e-5
"""Clean and corrupt metrics that differ less than this, relative to their size, are equal."""


@dataclass(frozen=True)
class TwoRuns:
    """Two prompts that correspond to each other, and their runs.

    Attributes:
        lab: the model.
        metric: that is read.
        direction: of `DIRECTIONS`.
        reader: of the metric.
        pairs: positions in the clean and the corrupt prompt.
        clean: the run of the clean prompt.
        corrupt: the run of the corrupt prompt.
    """

    lab: Lab
    metric: Metric
    direction: str
    reader: Reader
    pairs: Pairs
    clean: Run
    corrupt: Run

    @property
    def base(self) -> Run:
        """The run that is patched."""
        return self.corrupt if self.direction == "denoise" else self.clean

    @property
    def other(self) -> Run:
        """The run whose activations are put into the other one."""
        return self.clean if self.direction == "denoise" else self.corrupt

    @property
    def where(self) -> Positioned:
        """The positions that are patched."""
        clean, corrupt = zip(*self.pairs, strict=True)
        to, at = (corrupt, clean) if self.direction == "denoise" else (clean, corrupt)
        return Positioned(to, at)

    def cells(self, site: Site, axes: tuple[str, ...], layers: Sequence[int]) -> list[Cell]:
        """The patches of a site."""
        return cells_of(
            self.lab,
            site,
            axes,
            layers,
            own=self.base.activations,
            other=self.other.activations,
            where=self.where,
        )

    def normalised(self, raw: Float[Tensor, "layer ..."]) -> Float[Tensor, "layer ..."]:
        """0 for the corrupt run, 1 for the clean one."""
        return (raw - self.corrupt.value) / (self.clean.value - self.corrupt.value)

    def result(self, raw: Float[Tensor, "layer ..."], **facts: Any) -> Patched:
        """The result of a sweep with this metric for each cell."""
        texts = {
            side: token_texts(self.lab.tokenizer, run.ids)
            for side, run in (("clean", self.clean), ("corrupt", self.corrupt))
        }
        clean = tuple(texts["clean"][place] for place, _ in self.pairs)
        corrupt = tuple(texts["corrupt"][place] for _, place in self.pairs)
        return Patched(
            model_name=self.lab.name,
            metric=self.reader.reading.label,
            unit=self.reader.reading.unit,
            tokens=corrupt if self.direction == "denoise" else clean,
            positions=self.where.to,
            values=self.normalised(raw),
            raw=raw,
            start=self.base.value,
            direction=self.direction,
            clean=self.clean.value,
            corrupt=self.corrupt.value,
            clean_tokens=clean,
            corrupt_tokens=corrupt,
            **facts,
        )


def two_runs(
    lab: Lab,
    clean: Prompt,
    corrupt: Prompt,
    *,
    metric: Metric,
    hooks: Sequence[str],
    align: Align,
    direction: str,
    thinking: bool | None,
) -> TwoRuns:
    """Run both prompts, after all checks that need no run.

    Args:
        lab: the model.
        clean: the prompt with the value 1.
        corrupt: the prompt with the value 0.
        metric: that is read.
        hooks: whose activations are kept.
        align: which tokens correspond.
        direction: of `DIRECTIONS`.
        thinking: as in `Lab.record`.

    Raises:
        ValueError: the prompts do not align, the metric does not fit, or both runs have the same.
    """
    check_direction(direction)
    ids = [lab.token_ids(prompt, thinking=thinking) for prompt in (clean, corrupt)]
    readings = [resolved(metric, lab, len(each)) for each in ids]
    appended = list(readings[0].appended)
    pairs = aligned(lab, ids[0], ids[1], align)
    # What the metric appends is the same in both, and corresponds.
    more = [(len(ids[0]) + n, len(ids[1]) + n) for n in range(len(appended))]
    whole = [lab.token_ids([*each, *appended]) for each in ids]
    reader = Reader.of(metric, readings[0])
    every = [*hooks, *(RESID_PRE.format(l=layer) for layer in range(lab.config.n_layers))]
    runs = [run_once(lab, each, every, reader) for each in whole]
    _check_differ(runs[0].value, runs[1].value, label=readings[0].label)
    _share_prefix(runs[0], runs[1])
    return TwoRuns(lab, metric, direction, reader, (*pairs, *more), runs[0], runs[1])


def prepared(
    lab: Lab, site: str, by: str | None, layers: Sequence[int] | None, align: Align
) -> tuple[Site, tuple[str, ...], tuple[int, ...]]:
    """The site, the axes of the result after the layer, and the layers.

    Raises:
        ValueError: the model does not have them, or the site cannot be aligned so.
    """
    found, axes = site_of(lab, site, by)
    if not found.moves and align != "position":
        raise ValueError(
            tr(
                'site {site!r} is for prompts that correspond token by token: use align="position"',
                site=site,
            )
        )
    return found, axes, layers_of_site(lab, found, layers)


def check_direction(direction: str) -> None:
    """Raises `ValueError` if there is no such direction."""
    if direction not in DIRECTIONS:
        raise ValueError(
            tr(
                "there is no direction {direction!r}: choose from {directions}",
                direction=direction,
                directions=", ".join(DIRECTIONS),
            )
        )


def _share_prefix(clean: Run, corrupt: Run) -> None:
    """Set activations before the first different token equal, where only rounding differs.

    Experts add up in an order that depends on all tokens of a pass. A patch of equal tokens then
    changes nothing, and is not run.
    """
    pairs = zip(clean.ids, corrupt.ids, strict=False)
    n = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    for name, value in clean.activations.items():
        if name.endswith(PATTERN_HOOKS):
            value[:, :n, :n] = corrupt.activations[name][:, :n, :n]
        else:
            value[:n] = corrupt.activations[name][:n]


def _check_differ(clean: float, corrupt: float, *, label: str) -> None:
    difference, size = abs(clean - corrupt), max(abs(clean), abs(corrupt), 1.0)
    if not torch.isfinite(torch.tensor(difference)):
        raise ValueError(
            tr(
                "{label} is {clean} in the clean and {corrupt} in the corrupt run",
                label=label,
                clean=clean,
                corrupt=corrupt,
            )
        )
    if difference <= MIN_RELATIVE_DIFFERENCE * size:
        raise ValueError(
            tr(
                "{label} is {clean:.4g} in both runs, so nothing can be restored: give "
                "prompts or a metric that differ",
                label=label,
                clean=clean,
            )
        )
