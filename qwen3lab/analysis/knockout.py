"""What is lost when experts are switched off, and whether others like them would be missed as much.

Loss is the mean cross-entropy, in nats, of the tokens of a text that count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab import rerouting
from qwen3lab.analysis.routing import expert_load
from qwen3lab.hooks import AnyEdits
from qwen3lab.lab import Lab

if TYPE_CHECKING:
    import pandas

BATCH = 32


@dataclass(frozen=True)
class Text:
    """A text to be read.

    Attributes:
        group: such as its domain.
        token_ids: the text.
        counts: True for each token whose prediction counts; all of them if None.
    """

    group: str
    token_ids: Sequence[int]
    counts: Sequence[bool] | None = None


@dataclass(frozen=True)
class KnockOut:
    """The loss of each group of texts when one expert is switched off.

    Attributes:
        layers: of the model; the first axis of `added` and `load`.
        groups: of the texts; the last axis of `added`.
        base: loss of each group with all experts, nats per token.
        added: what is added to it when one expert is off, nats per token.
        load: share of the routed slots that each expert has with all of them on.
    """

    layers: tuple[int, ...]
    groups: tuple[str, ...]
    base: Float[Tensor, " group"]
    added: Float[Tensor, "layer expert group"]
    load: Float[Tensor, "layer expert"]

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table: layer, expert, load, group, base, added; the greatest loss first."""
        import pandas

        sizes = (torch.tensor(self.layers), *map(torch.arange, self.added.shape[1:]))
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
        return table.sort_values("added", ascending=False, ignore_index=True)


@dataclass(frozen=True)
class Comparison:
    """What a set of experts adds to the loss when it is off, beside sets of like load.

    Attributes:
        experts: the set.
        load: its share of the routed slots.
        added: what is added to the loss of each group, nats per token.
        controls: sets of as many experts of the same layer.
        control_loads: their shares.
        control_added: what each of them adds, by group.
    """

    experts: tuple[int, ...]
    load: float
    added: Mapping[str, float]
    controls: tuple[tuple[int, ...], ...]
    control_loads: tuple[float, ...]
    control_added: Mapping[str, tuple[float, ...]]

    def p_value(self, group: str) -> float:
        """Share of the sets, this one counted, that are missed at least as much."""
        reached = sum(other >= self.added[group] for other in self.control_added[group])
        return (reached + 1) / (len(self.controls) + 1)


def group_losses(
    lab: Lab, texts: Sequence[Text], *, edits: AnyEdits | None = None
) -> dict[str, float]:
    """Mean loss of each group's counted tokens, in nats.

    Args:
        lab: the model.
        texts: to read; those of like length together waste least.
        edits: in force while it reads.

    Raises:
        ValueError: there is no text, or none of a group's tokens counts.
    """
    if not texts:
        raise ValueError("there is no text to read: expected at least one")
    lost: dict[str, list[Tensor]] = {text.group: [] for text in texts}
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        found = lab.record_batch([list(text.token_ids) for text in batch], edits=edits)
        for text, recording in zip(batch, found, strict=True):
            lost[text.group].append(_losses(recording.logits, text))
    means = {group: float(torch.cat(losses).mean()) for group, losses in lost.items()}
    empty = [group for group, mean in means.items() if mean != mean]
    if empty:
        raise ValueError(f"no token of group {empty[0]!r} counts: expected at least one")
    return means


def _losses(logits: Float[Tensor, "token vocab"], text: Text) -> Float[Tensor, " counted"]:
    ids = torch.tensor(text.token_ids)
    counts = [True] * len(ids) if text.counts is None else list(text.counts)
    if len(counts) != len(ids):
        raise ValueError(
            f"a text of {len(ids)} tokens has {len(counts)} marks of what counts: expected as many"
        )
    losses = F.cross_entropy(logits[:-1], ids[1:], reduction="none")
    return losses[torch.tensor(counts[1:], dtype=torch.bool)]


def knock_out(
    lab: Lab,
    texts: Sequence[Text],
    *,
    layers: Sequence[int] | None = None,
    progress: bool = True,
) -> KnockOut:
    """Switch off each expert in turn, and read the texts without it.

    The cost is one reading of the texts for each expert.

    Args:
        lab: a mixture of experts.
        texts: in groups.
        layers: whose experts; every layer with experts if None.
        progress: show a progress bar.

    Raises:
        HookError: the model is dense, or a layer has no experts.
        ValueError: there is no text, or none of a group's tokens counts.
    """
    config = lab.config
    every = tuple(layers) if layers is not None else config.moe_layers
    # Says what is wrong with model or layers before the work begins.
    rerouting.off(0, layers=every or None).edits(config, (0,))
    base = group_losses(lab, texts)
    groups = tuple(base)
    added = torch.zeros(len(every), config.n_experts, len(groups))
    cells = [(row, expert) for row in range(len(every)) for expert in range(config.n_experts)]
    for row, expert in tqdm(cells, unit="expert", disable=not progress):
        without = group_losses(lab, texts, edits=rerouting.off(expert, layers=every[row]))
        added[row, expert] = torch.tensor([without[group] - base[group] for group in groups])
    load = torch.stack([_load(lab, texts, layer) for layer in every])
    return KnockOut(every, groups, torch.tensor(list(base.values())), added, load)


def compare_with_others(
    lab: Lab,
    texts: Sequence[Text],
    experts: Sequence[int],
    *,
    layer: int,
    n_controls: int = 19,
    seed: int = 0,
    progress: bool = True,
) -> Comparison:
    """Switch off a set of experts, then other sets of the same layer with about the same load.

    Of many random sets of as many other experts, those of the nearest load are taken.

    Args:
        lab: a mixture of experts.
        texts: in groups.
        experts: the set.
        layer: of the experts.
        n_controls: how many other sets; fewer if there are no more.
        seed: of their draw.
        progress: show a progress bar.

    Raises:
        HookError: the model is dense, or has no such layer or expert.
        ValueError: there is no text, or too few other experts.
    """
    rerouting.off(experts, layers=layer).edits(lab.config, (0,))
    load = _load(lab, texts, layer)
    controls = sets_of_like_load(load, experts, n=n_controls, seed=seed)
    base = group_losses(lab, texts)
    added: list[dict[str, float]] = []
    for chosen in tqdm([tuple(experts), *controls], unit="set", disable=not progress):
        without = group_losses(lab, texts, edits=rerouting.off(chosen, layers=layer))
        added.append({group: without[group] - base[group] for group in base})
    return Comparison(
        experts=tuple(experts),
        load=float(load[list(experts)].sum()),
        added=added[0],
        controls=tuple(controls),
        control_loads=tuple(float(load[list(chosen)].sum()) for chosen in controls),
        control_added={group: tuple(one[group] for one in added[1:]) for group in base},
    )


def sets_of_like_load(
    load: Float[Tensor, " expert"], experts: Sequence[int], *, n: int, seed: int = 0
) -> list[tuple[int, ...]]:
    """Random sets of as many other experts whose summed load is nearest to that of a set.

    Args:
        load: of the layer's experts.
        experts: the set.
        n: how many; fewer if there are no more.
        seed: of the draw.

    Raises:
        ValueError: there are fewer other experts than the set has.
    """
    others = [expert for expert in range(len(load)) if expert not in experts]
    if len(others) < len(experts):
        raise ValueError(
            f"a set of {len(experts)} leaves {len(others)} of {len(load)} experts to compare "
            "with: expected at most half of them"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        tuple(sorted(others[i] for i in torch.randperm(len(others), generator=generator)[:k]))
        for k in [len(experts)] * 50 * n
    }
    wanted = float(load[list(experts)].sum())
    nearest = sorted(
        drawn, key=lambda chosen: (abs(float(load[list(chosen)].sum()) - wanted), chosen)
    )
    return nearest[:n]


def _load(lab: Lab, texts: Sequence[Text], layer: int) -> Float[Tensor, " expert"]:
    """Load of a layer's experts over all tokens of the texts."""
    row = lab.config.moe_layers.index(layer % lab.config.n_layers)
    chosen = []
    for start in range(0, len(texts), BATCH):
        ids = [list(text.token_ids) for text in texts[start : start + BATCH]]
        chosen += [recording.routing.experts[row] for recording in lab.record_batch(ids)]
    return expert_load(torch.cat(chosen), lab.config.n_experts)
