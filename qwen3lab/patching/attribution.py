"""Attribution patching: the effect of every patch from one gradient, to first order.

Source: Nanda, "Attribution patching: activation patching at industrial scale" (2023); Syed et al.,
"Attribution patching outperforms automated circuit discovery" (2023, arXiv 2310.10348).
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import CountOrNone, checked
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.lab import Lab
from qwen3lab.metrics.gradients import check_has_gradients, gradients
from qwen3lab.metrics.metric import Metric
from qwen3lab.patching.alignment import Align
from qwen3lab.patching.prepared import TwoRuns, prepared, two_runs
from qwen3lab.patching.results import Agreement, Patched, agreement_of
from qwen3lab.patching.sweep import Cell, shape_of, sweep
from qwen3lab.text.prompt import Prompt
from qwen3lab.translation import later, tr

CHECKED_SEED = 0
"""Of the choice of cells that are run exactly."""

NOTE = (
    "to first order; in a mixture of experts, as if every patch left the choice of experts as it "
    "is; patching.patch runs the patches themselves"
)


@checked
def attribution_patching(
    lab: Lab,
    *,
    clean: Prompt,
    corrupt: Prompt,
    metric: Metric,
    site: str = "resid_post",
    by: str | None = None,
    layers: Sequence[int] | None = None,
    direction: str = "denoise",
    align: Align = "position",
    check: CountOrNone = 32,
    thinking: bool | None = None,
    progress: bool = True,
) -> Patched:
    """The effect of every patch of `patch`, approximated from one gradient.

    The effect is the product of the metric's gradient in the run that is patched and the change of
    the activation. It costs three passes for all cells. Some cells are run exactly, half of them
    those with the largest estimates, the others chosen at random; the result says how well they
    agree. Effects that the gradient misses altogether may be among the others: on the embedded
    models, the agreement over all cells was at times much lower than that of a few.

    Args:
        lab: a model in memory, with the weights as stored.
        clean: as in `patch`, and so are all arguments but `check`.
        corrupt: as in `patch`.
        metric: as in `patch`.
        site: as in `patch`, but for "expert_choice", which has no gradient.
        by: as in `patch`.
        layers: as in `patch`.
        direction: as in `patch`.
        align: as in `patch`.
        check: number of cells that are run exactly; 0 for none. Patches that change nothing are
            not among them.
        thinking: as in `patch`.
        progress: as in `patch`.

    Returns:
        The values, normalised as those of `patch`, with the agreement in `measured`.

    Raises:
        ValueError: as in `patch`; or the model is quantised or streamed, or the site has no
            gradient.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import patching
        >>> lab = qwen3lab.load("tiny-moe")
        >>> metric = patching.logit_difference("7", "9")
        >>> quick = patching.attribution_patching(
        ...     lab, clean="3+4=?", corrupt="5+4=?", metric=metric, check=6
        ... )
        >>> quick.measured.n_cells
        6
    """
    check_has_gradients(lab)
    found, axes, chosen = prepared(lab, site, by, layers, align)
    if site == "expert_choice":
        raise ValueError(tr("site 'expert_choice' has no gradient: use patching.patch"))
    runs = two_runs(
        lab,
        clean,
        corrupt,
        metric=metric,
        hooks=found.hooks(chosen),
        align=align,
        direction=direction,
        thinking=thinking,
    )
    cells = runs.cells(found, axes, chosen)
    raw = _estimated(runs, cells)
    facts = {"method": later("attribution patching"), "site": site, "axes": ("layer", *axes)}
    measured = _measured(runs, cells, raw, check, progress) if check else None
    return runs.result(raw, **facts, layers=chosen, note=NOTE, measured=measured)


def _estimated(runs: TwoRuns, cells: Sequence[Cell]) -> Float[Tensor, "layer ..."]:
    """The metric of each patched run, to first order."""
    hooks = list(dict.fromkeys(cell.hook for cell in cells))
    n = len(runs.base.ids) - len(runs.reader.reading.appended)
    of = gradients(runs.lab, list(runs.base.ids[:n]), of=runs.metric, hooks=hooks)
    return _first_order(runs, cells, of.gradients)


@without_grad
def _first_order(
    runs: TwoRuns, cells: Sequence[Cell], slopes: Mapping[str, Tensor]
) -> Float[Tensor, "layer ..."]:
    raw = torch.full(shape_of(cells), runs.base.value)
    for cell in cells:
        change = (cell.row() - runs.base.activations[cell.hook]).cpu()
        raw[cell.place] += float((change * slopes[cell.hook]).sum())
    return raw


def _measured(
    runs: TwoRuns,
    cells: Sequence[Cell],
    raw: Float[Tensor, "layer ..."],
    n: int,
    progress: bool,
) -> Agreement:
    """The agreement with exact runs: of the largest estimates, and of cells chosen at random."""
    moving = [
        cell for cell in cells if not torch.equal(cell.row(), runs.base.activations[cell.hook])
    ]
    moving.sort(key=lambda cell: -abs(float(raw[cell.place]) - runs.base.value))
    n_strongest = (n + 1) // 2
    others = moving[n_strongest:]
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(CHECKED_SEED))
    some = [
        *moving[:n_strongest],
        *(others[number] for number in order[: n - n_strongest].tolist()),
    ]
    some.sort(key=lambda cell: cell.place)
    exact = sweep(runs.lab, runs.base, some, runs.reader, shape=tuple(raw.shape), progress=progress)
    return agreement_of(raw - runs.base.value, exact - runs.base.value)
