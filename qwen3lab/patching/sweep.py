"""Sweeps: every cell of a map is one patch, and many patches run in one batch."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.lab import Lab
from qwen3lab.patching.changes import Activations, Patch
from qwen3lab.patching.passes import Reader, Run, in_batches, rows_per_batch, run_rows
from qwen3lab.patching.sites import Site
from qwen3lab.translation import tr

PROGRESS_DELAY_SECONDS = 2.0
"""A sweep that takes longer shows a progress bar."""


@dataclass(frozen=True)
class Cell:
    """One patch of a sweep.

    Attributes:
        place: index into the map.
        layer: of the hook.
        hook: whose activation is replaced.
        row: makes the replacement, without a batch axis.
    """

    place: tuple[int, ...]
    layer: int
    hook: str
    row: Callable[[], Tensor]


@dataclass(frozen=True)
class Positioned:
    """Which positions are patched.

    Attributes:
        to: positions of the run that is patched.
        at: the position in the other activations of each of them.
    """

    to: tuple[int, ...]
    at: tuple[int, ...]

    def patch(self, layer: int, hook: str, own: Activations, other: Activations) -> "Patcher":
        """Patches of one layer."""
        device = own[hook].device
        to, at = (torch.tensor(each, device=device) for each in (self.to, self.at))

        def patcher(part: int | None, token: int | None) -> Patch:
            chosen = slice(None) if token is None else slice(token, token + 1)
            return Patch(layer, hook, own, other, to[chosen], at[chosen], part)

        return patcher


Patcher = Callable[[int | None, int | None], Patch]


def cells_of(
    lab: Lab,
    site: Site,
    axes: tuple[str, ...],
    layers: Sequence[int],
    *,
    own: Activations,
    other: Activations,
    where: Positioned,
) -> list[Cell]:
    """The patches of a site, for each layer and each index along the axes."""
    cells = []
    for number, layer in enumerate(layers):
        hook = site.hook.format(l=layer)
        patcher = where.patch(layer, hook, own, other)
        parts = site.n_parts(lab.config, own, layer)
        sizes = [len(where.to) if axis == "token" else parts for axis in axes]
        for index in itertools.product(*map(range, sizes)):
            token = index[axes.index("token")] if "token" in axes else None
            part = index[0] if axes and axes[0] != "token" else None
            cells.append(Cell((number, *index), layer, hook, _maker(site, patcher, part, token)))
    return cells


def _maker(
    site: Site, patcher: Patcher, part: int | None, token: int | None
) -> Callable[[], Tensor]:
    return lambda: site.change(patcher(part, token))


def shape_of(cells: Sequence[Cell]) -> tuple[int, ...]:
    """The sizes of the map that all cells of a sweep fill."""
    return tuple(1 + max(places) for places in zip(*(cell.place for cell in cells), strict=True))


def sweep(
    lab: Lab,
    base: Run,
    cells: Sequence[Cell],
    reader: Reader,
    *,
    shape: tuple[int, ...],
    progress: bool,
) -> Float[Tensor, "layer ..."]:
    """The metric of each patched run; NaN for cells of the map that are not given.

    A patch that changes nothing is not run. After a keyboard interrupt, cells that were not run
    are NaN; the interrupt is raised again if there is none that was.

    Args:
        lab: the model.
        base: the run that is patched.
        cells: the patches; those of a hook follow each other.
        reader: of the metric.
        shape: of the map.
        progress: show a progress bar if it takes long.
    """
    found = torch.full(shape, torch.nan)
    bar = tqdm(
        total=len(cells), unit=tr("patch"), disable=not progress, delay=PROGRESS_DELAY_SECONDS
    )
    with HeldInterrupts(at_once=False, keep=True) as held, closing(bar):
        try:
            for _, group in itertools.groupby(cells, key=lambda cell: cell.hook):
                for n_done in _fill(lab, base, list(group), reader, found):
                    bar.update(n_done)
            held.hold()
        except KeyboardInterrupt:
            held.hold()
            if bool(found.isnan().all()):
                raise
        return found


def _fill(
    lab: Lab, base: Run, cells: Sequence[Cell], reader: Reader, found: Tensor
) -> Iterator[int]:
    """Run the patches of one hook; yields how many cells were done."""
    layer, hook = cells[0].layer, cells[0].hook
    idle: list[int] = []
    batches = in_batches(_moving(base, cells, idle), rows_per_batch(lab, base, hook, reader))
    for batch in batches:
        values = run_rows(lab, base, layer, hook, [row for _, row in batch], reader)
        for (number, _), value in zip(batch, values.tolist(), strict=True):
            found[cells[number].place] = value
        yield len(batch)
    for number in idle:
        found[cells[number].place] = base.value
    yield len(idle)


def _moving(base: Run, cells: Sequence[Cell], idle: list[int]) -> Iterator[tuple[int, Tensor]]:
    """The number and the row of each patch that changes something; `idle` gets the others."""
    for number, cell in enumerate(cells):
        row = cell.row()
        if torch.equal(row, base.activations[cell.hook]):
            idle.append(number)
        else:
            yield number, row
