"""The effect of switching off a set of experts, compared with control sets of similar load."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import nan
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.analysis.routing import check_experts
from qwen3lab.arguments import CountOrNone, Seed, checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.experiments.effects import Text, error_rates, expert_loads, group_losses
from qwen3lab.hooks.edits import AnyEdits
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.interventions import rerouting
from qwen3lab.lab import Lab
from qwen3lab.thinking import Problem
from qwen3lab.translation import tr, tr_count

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Comparison(Displayed):
    """Increase of loss or errors without a set of experts, and without each control set.

    Attributes:
        experts: the set.
        load: its share of the routed slots.
        base: loss (nats per token) or share of errors of each group, with all experts on.
        added: increase over `base` without the set.
        controls: sets of other experts of the same layer, of the same size.
        control_loads: their shares of the routed slots.
        control_added: increase without each control set, by group.
    """

    experts: tuple[int, ...]
    load: float
    base: Mapping[str, float]
    added: Mapping[str, float]
    controls: tuple[tuple[int, ...], ...]
    control_loads: tuple[float, ...]
    control_added: Mapping[str, tuple[float, ...]]

    def p_value(self, group: str) -> float:
        """Share of the sets, including this one, whose removal adds at least as much.

        Computed here because scipy's Monte Carlo test draws its samples from a distribution.
        """
        reached = sum(other >= self.added[group] for other in self.control_added[group])
        return (reached + 1) / (len(self.controls) + 1)

    def to_pandas(self) -> "pandas.DataFrame":
        """A table, a row per group: group, base, added, controls (the mean added), p_value."""
        import pandas

        return pandas.DataFrame(
            {
                "group": list(self.added),
                "base": [self.base[group] for group in self.added],
                "added": list(self.added.values()),
                "controls": [
                    fmean(self.control_added[g]) if self.controls else nan for g in self.added
                ],
                "p_value": [self.p_value(group) for group in self.added],
            }
        )

    def _summary(self) -> Summary:
        named = ", ".join(map(str, self.experts))
        return Summary(
            tr(
                "Experts {named} off, compared with {counted}",
                named=named,
                counted=tr_count("{n:,} control set", "{n:,} control sets", len(self.controls)),
            ),
            {tr("load"): f"{self.load:.1%}"},
            frame=self.to_pandas,
        )


@checked
def compare_with_others(
    lab: Lab,
    texts: Sequence[Text],
    experts: Sequence[int],
    *,
    layer: int,
    problems: Mapping[str, Sequence[Problem]] | None = None,
    thinking: bool = True,
    n_controls: CountOrNone = 19,
    seed: Seed = 0,
    progress: bool = True,
) -> Comparison:
    """Switch off a set of experts, then control sets of the same layer with similar load.

    The control sets are those with the nearest load among many random sets.

    Args:
        lab: a mixture of experts.
        texts: in groups, for the load and the loss.
        experts: the set.
        layer: of the experts.
        problems: by group; if not None, measures the share of errors on them, not the loss.
        thinking: let the model think before it answers a problem.
        n_controls: maximum number of control sets.
        seed: of the random sets.
        progress: show a progress bar with the sets that are done and the time left.

    Returns:
        The comparison; after a keyboard interrupt, with the control sets that were done, if any.

    Raises:
        HookError: the model is dense, or has no such layer or expert.
        ValueError: there is no text, or too few other experts.
    """

    def measured(edits: AnyEdits | None) -> dict[str, float]:
        if problems is None:
            return group_losses(lab, texts, edits=edits, progress=False)
        return error_rates(lab, problems, edits=edits, thinking=thinking, progress=False)

    rerouting.off(experts, layers=layer).edits(lab.config, (0,))
    load = expert_loads(lab, texts, [layer])[0]
    controls = sets_of_like_load(load, experts, n=n_controls, seed=seed)
    base = measured(None)
    added: list[dict[str, float]] = []
    bar = tqdm([tuple(experts), *controls], unit=tr("set"), disable=not progress)
    with HeldInterrupts(at_once=False, keep=True) as held, closing(bar):
        try:
            for chosen in bar:
                without = measured(rerouting.off(chosen, layers=layer))
                added.append({group: without[group] - base[group] for group in base})
            held.hold()
        except KeyboardInterrupt:
            held.hold()
            if len(added) < 2:
                raise
        controls = controls[: len(added) - 1]
        return Comparison(
            experts=tuple(experts),
            load=float(load[list(experts)].sum()),
            base=base,
            added=added[0],
            controls=tuple(controls),
            control_loads=tuple(float(load[list(chosen)].sum()) for chosen in controls),
            control_added={group: tuple(one[group] for one in added[1:]) for group in base},
        )


@checked
def sets_of_like_load(
    load: Float[Tensor, " expert"], experts: Sequence[int], *, n: CountOrNone, seed: Seed = 0
) -> list[tuple[int, ...]]:
    """Random sets of other experts, of the same size and with the nearest summed load.

    Args:
        load: of the layer's experts.
        experts: the set.
        n: maximum number of sets.
        seed: of the random sets.

    Raises:
        ValueError: the set is empty or larger than half of the layer, or holds an expert twice or
            one that does not exist; or a load is NaN.
    """
    check_experts(torch.tensor([list(experts)], dtype=torch.long), len(load))
    if not experts or len(set(experts)) < len(experts) or min(experts) < 0:
        raise ValueError(
            tr("experts are {experts}: expected at least one, each once", experts=list(experts))
        )
    if bool(load.isnan().any()):
        raise ValueError(tr("a load is NaN: expected counts or shares of 0 or more"))
    others = [expert for expert in range(len(load)) if expert not in experts]
    if len(others) < len(experts):
        raise ValueError(
            tr(
                "the set has {n_experts} of {n_load} experts: expected at most half, to "
                "leave enough for control sets",
                n_experts=len(experts),
                n_load=len(load),
            )
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        tuple(sorted(others[i] for i in torch.randperm(len(others), generator=generator)[:k]))
        for k in [len(experts)] * 50 * n
    }
    target = float(load[list(experts)].sum())
    nearest = sorted(
        drawn, key=lambda chosen: (abs(float(load[list(chosen)].sum()) - target), chosen)
    )
    return nearest[:n]
