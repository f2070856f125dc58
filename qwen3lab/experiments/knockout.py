"""The loss of each group of texts with one expert switched off."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.arguments import Count, checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.experiments.effects import Text, expert_loads, group_losses
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.interventions import rerouting
from qwen3lab.lab import Lab
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.translation import tr, tr_count

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False, eq=False)
class KnockOut(EqualByValue, Displayed):
    """The loss of each group of texts when one expert is switched off.

    Attributes:
        layers: of the model; the first axis of `added` and `load`.
        groups: of the texts; the last axis of `added`.
        base: loss of each group with all experts, nats per token.
        added: increase over `base` when one expert is off, nats per token; NaN for experts that
            were not run.
        load: share of the routed slots that each expert receives when all are on.
    """

    layers: tuple[int, ...]
    groups: tuple[str, ...]
    base: Float[Tensor, " group"]
    added: Float[Tensor, "layer expert group"]
    load: Float[Tensor, "layer expert"]

    def ranked(self) -> list[tuple[int, int]]:
        """Layer and number of the experts that were run, by the largest loss added to any group."""
        largest = self.added.flatten(0, 1).amax(dim=1)
        n_experts = self.added.shape[1]
        n_run = int(largest.isnan().logical_not().sum())
        cells = largest.nan_to_num(nan=-torch.inf).argsort(descending=True, stable=True).tolist()
        cells = cells[:n_run]
        return [(self.layers[cell // n_experts], cell % n_experts) for cell in cells]

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table: layer, expert, load, group, base, added; the largest `added` first."""
        import pandas

        sizes = (
            torch.tensor(self.layers, dtype=torch.long),
            *map(torch.arange, self.added.shape[1:]),
        )
        layer, expert, group = (axis.flatten() for axis in torch.meshgrid(*sizes, indexing="ij"))
        n_groups = len(self.groups)
        table = pandas.DataFrame(
            {
                "layer": layer.numpy(),
                "expert": expert.numpy(),
                "load": self.load.flatten().repeat_interleave(n_groups).numpy(),
                "group": [self.groups[index] for index in group],
                "base": self.base[group].numpy(),
                "added": self.added.flatten().numpy(),
            }
        )
        run = table.dropna(subset=["added"])
        return run.sort_values("added", ascending=False, ignore_index=True)

    def _summary(self) -> Summary:
        facts = {
            tr("experts"): tr(
                "{n_experts} in {layers}",
                n_experts=self.added.shape[1],
                layers=tr_count("{n:,} layer", "{n:,} layers", len(self.layers)),
            ),
            tr("groups"): ", ".join(self.groups),
        }
        run = self.added.isnan().any(dim=-1).logical_not()
        if not bool(run.all()):
            facts[tr("run")] = tr("{n:,} of {all:,} experts", n=int(run.sum()), all=run.numel())
        return Summary(tr("Loss added by switching off each expert"), facts, frame=self._greatest)

    def _greatest(self) -> "pandas.DataFrame":
        return self.to_pandas().head(8)


@checked
def knock_out(
    lab: Lab,
    texts: Sequence[Text],
    *,
    layers: Sequence[int] | None = None,
    busiest: Count | None = None,
    progress: bool = True,
) -> KnockOut:
    """Measure the loss on the texts with each expert switched off in turn.

    Runs the model over all texts once per expert that any token is routed to; without another one,
    nothing changes. Memory does not depend on the number of texts.

    Args:
        lab: a mixture of experts.
        texts: in groups.
        layers: layers whose experts are switched off; all layers with experts if None.
        busiest: number of experts of each layer to run, those with the largest load on the texts;
            all if None.
        progress: show a progress bar with the experts that are done and the time left.

    Returns:
        The losses; after a keyboard interrupt, those of the experts that were done, if any.

    Raises:
        HookError: the model is dense, or a layer has no experts.
        ValueError: there is no text, or a group has no token that counts.
    """
    config = lab.config
    # Raises an error about the model or the layers before the first run.
    rerouting.off(0, layers=layers).edits(config, (0,))
    every = rerouting.moe_layers_of(None if layers is None else tuple(layers), config)
    base = group_losses(lab, texts, progress=progress)
    load = expert_loads(lab, texts, every)
    groups, values = tuple(base), torch.tensor(list(base.values()))
    added = torch.full((len(every), config.n_experts, len(groups)), torch.nan)
    added[load == 0] = 0
    cells = _busiest(load, busiest).tolist()
    bar = tqdm(cells, unit=tr("expert"), disable=not progress)
    with HeldInterrupts(at_once=False, keep=True) as held, closing(bar):
        try:
            for row, expert in bar:
                edits = rerouting.off(expert, layers=every[row])
                without = group_losses(lab, texts, edits=edits, progress=False)
                added[row, expert] = torch.tensor([without[g] - base[g] for g in groups])
            held.hold()
        except KeyboardInterrupt:
            held.hold()
            if not any(added[row, expert].isfinite().all() for row, expert in cells):
                raise
        return KnockOut(every, groups, values, added, load)


def _busiest(load: Float[Tensor, "layer expert"], n: int | None) -> Int[Tensor, "cell 2"]:
    """Row and expert of the `n` most loaded experts of each layer, of those with any load."""
    most = load.topk(min(n or load.shape[1], load.shape[1]), dim=1)
    return torch.zeros_like(load).scatter(1, most.indices, most.values).nonzero()
