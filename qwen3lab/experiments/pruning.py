"""Removes experts of a mixture of experts, by any score, and measures what that costs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.analysis.routing import check_experts
from qwen3lab.arguments import CountOrNone, Seed, checked
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display import Displayed, Summary
from qwen3lab.errors import LabError
from qwen3lab.experiments.effects import Text, error_rates, group_losses
from qwen3lab.lab import Lab
from qwen3lab.model.low_rank import Adapted
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation.quantised_model import quantisation_of
from qwen3lab.thinking import Problem
from qwen3lab.translation import tr

if TYPE_CHECKING:
    import pandas

SHARES = (1.0, 0.75, 0.5, 0.25)
RANDOM = "random"


@checked
def prune(lab: Lab, experts: Mapping[int, Sequence[int]]) -> Lab:
    """A lab of the model without the other experts: their matrices and rows of the router go.

    Every layer keeps the same number, as a published config has one number for all. What is left is
    a usual model: `qwen3lab.checkpoints.save_checkpoint(pruned.model, folder)` writes it for
    `transformers`, too. Norms, attention and embeddings are shared with the given lab.

    Args:
        lab: a mixture of experts, whole in memory and not quantised.
        experts: for each layer with experts, those that stay, each once; their order is kept.

    Raises:
        ValueError: not the layers with experts, an expert that does not exist or is named twice,
            different numbers in two layers, or fewer than a token is routed to.
        LabError: the model is streamed, quantised, or has adapters beside its weights.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab.experiments import pruning
        >>> lab = qwen3lab.load("tiny-moe")
        >>> pruned = pruning.prune(lab, {layer: range(8) for layer in lab.config.moe_layers})
        >>> pruned.config.n_experts, pruned.config.n_params < lab.config.n_params
        (8, True)
    """
    n_kept = _checked(lab, experts)
    config = replace(lab.config, n_experts=n_kept)
    model = Qwen3(config, device="meta", dtype=lab.model.dtype)
    state = lab.model.state_dict()
    for layer, kept in experts.items():
        for name in ("router.weight", "gate_up", "down"):
            name = f"blocks.{layer}.mlp.{name}"
            rows = torch.tensor(list(kept), device=state[name].device)
            state[name] = state[name].index_select(0, rows)
    model.load_state_dict(state, assign=True)
    name = f"{lab.name}, {n_kept} of {lab.config.n_experts} experts"
    return Lab(model, lab.tokenizer, name, defaults=lab.defaults, stored_as=lab.stored_as)


def _checked(lab: Lab, experts: Mapping[int, Sequence[int]]) -> int:
    """The number of experts of each layer that stay."""
    config, model = lab.config, lab.model
    if model.blocks.is_streamed or quantisation_of(model):
        raise LabError(
            f"{lab.name} is streamed or quantised, and only whole weights in memory can be pruned: "
            "load it without memory= and quantise="
        )
    if any(isinstance(module, Adapted) for module in model.modules()):
        raise LabError(f"{lab.name} has adapters beside its weights: load it with adapter=")
    if sorted(experts) != list(config.moe_layers):
        raise ValueError(
            f"experts are given for the layers {sorted(experts)}: the layers with experts are "
            f"{list(config.moe_layers)}"
        )
    sizes = {len(kept) for kept in experts.values()}
    if len(sizes) > 1:
        raise ValueError(
            f"layers keep {min(sizes)} to {max(sizes)} experts: a config has one number for all "
            "layers, so keep as many in each"
        )
    for layer, kept in experts.items():
        check_experts(torch.tensor([list(kept)], dtype=torch.long), config.n_experts)
        if len(set(kept)) < len(kept) or min(kept, default=-1) < 0:
            raise ValueError(f"layer {layer} keeps {list(kept)}: expected each expert once")
    n_kept = sizes.pop()
    if n_kept < config.n_experts_per_token:
        raise ValueError(
            f"{n_kept} experts stay, and a token is routed to {config.n_experts_per_token}: keep "
            "at least as many"
        )
    return n_kept


@checked
def best_experts(
    scores: Float[Tensor, "layer expert"], layers: Sequence[int], n: int
) -> dict[int, tuple[int, ...]]:
    """The experts of the largest scores of each layer, in ascending order.

    Args:
        scores: such as `corpus.expert_scores(run).reap`.
        layers: number of each row's layer.
        n: experts of each layer that stay.

    Raises:
        ValueError: other numbers of layers or experts.
    """
    if len(layers) != len(scores) or not 0 < n <= scores.shape[1]:
        raise ValueError(
            f"scores have {len(scores)} layers with {scores.shape[1]} experts: expected "
            f"{len(layers)} layers, and that 1 to {scores.shape[1]} experts stay, not {n}"
        )
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :n].sort(dim=1).values
    return {layer: tuple(row) for layer, row in zip(layers, order.tolist(), strict=True)}


@dataclass(frozen=True, repr=False)
class PruningPoint:
    """What one pruned model does.

    Attributes:
        score: name of the score that chose the experts; "random" for a random choice, and
            "random, merged" for random centroids.
        seed: of a random choice; 0 for others.
        n_experts: of each layer that stayed.
        share: of the experts that stayed.
        loss: nats per token, by group of texts.
        errors: share of problems answered wrong, by group; empty if there are no problems.
    """

    score: str
    seed: int
    n_experts: int
    share: float
    loss: Mapping[str, float]
    errors: Mapping[str, float]

    @property
    def is_random(self) -> bool:
        """True for a random choice."""
        return self.score == RANDOM or self.score.startswith(f"{RANDOM}, ")


@dataclass(frozen=True, repr=False)
class PruningCurve(Displayed):
    """Loss and errors against the share of experts that stay, with random choices beside it."""

    points: tuple[PruningPoint, ...]

    def __add__(self, other: "PruningCurve") -> "PruningCurve":
        """The points of both, for one figure."""
        return PruningCurve((*self.points, *other.points))

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table: score, seed, n_experts, share, measure ("loss", "errors"), group, value."""
        import pandas

        rows = [
            (each.score, each.seed, each.n_experts, each.share, measure, group, value)
            for each in self.points
            for measure in ("loss", "errors")
            for group, value in getattr(each, measure).items()
        ]
        columns = ["score", "seed", "n_experts", "share", "measure", "group", "value"]
        return pandas.DataFrame(rows, columns=columns)

    def _means(self) -> "pandas.DataFrame":
        """Means over groups and seeds: a row for each share, a column for score and measure."""
        table = self.to_pandas()
        return table.pivot_table(
            index="n_experts", columns=["measure", "score"], values="value", aggfunc="mean"
        ).sort_index(ascending=False)

    def _summary(self) -> Summary:
        scores = dict.fromkeys(each.score for each in self.points)
        facts = {tr("scores"): ", ".join(scores), tr("models"): str(len(self.points))}
        return Summary(tr("Pruning of experts"), facts, frame=self._means)


@checked
def pruning_curve(
    lab: Lab,
    scores: Mapping[str, Float[Tensor, "layer expert"]],
    texts: Sequence[Text],
    *,
    problems: Mapping[str, Sequence[Problem]] | None = None,
    shares: Sequence[float] = SHARES,
    n_random: CountOrNone = 3,
    seed: Seed = 0,
    thinking: bool = True,
    progress: bool = True,
) -> PruningCurve:
    """Prune to several shares of the experts by each score, and at random, and measure each model.

    Measure on other texts than those that gave the scores.

    Args:
        lab: as in `prune`.
        scores: by name; experts of the largest scores stay.
        texts: in groups, for the loss.
        problems: by group, for the errors; None leaves them out.
        shares: of the experts that stay, 1 for all.
        n_random: number of random choices for each share.
        seed: of the first random choice.
        thinking: let the model think before it answers a problem.
        progress: show a progress bar.

    Raises:
        ValueError: no text, or a share that leaves too few experts or is above 1.
        LabError: as in `prune`.
    """
    choices = list(_choices(lab, scores, shares, range(seed, seed + n_random)))
    points = []
    with closing(tqdm(choices, unit=tr("model"), disable=not progress)) as bar:
        for name, number, n, kept in bar:
            pruned = lab if n == lab.config.n_experts else prune(lab, kept)
            about = (name, number, n, n / lab.config.n_experts)
            points.append(measured(pruned, about, texts, problems, thinking=thinking))
    return PruningCurve(tuple(points))


def measured(
    lab: Lab,
    about: tuple[str, int, int, float],
    texts: Sequence[Text],
    problems: Mapping[str, Sequence[Problem]] | None,
    *,
    thinking: bool,
) -> PruningPoint:
    """Loss and errors of one model; `about` are the first fields of its point."""
    errors = dict[str, float]()
    if problems:
        errors = error_rates(lab, problems, thinking=thinking, progress=False)
    return PruningPoint(*about, group_losses(lab, texts, progress=False), errors)


def number_of(config: Qwen3Config, share: float) -> int:
    """The number of experts that a share leaves in each layer.

    Raises:
        ValueError: fewer than a token is routed to, or more than there are.
    """
    n = round(share * config.n_experts)
    if not config.n_experts_per_token <= n <= config.n_experts:
        raise ValueError(
            f"a share of {share:g} leaves {n} of {config.n_experts} experts: a token is routed to "
            f"{config.n_experts_per_token}"
        )
    return n


def _choices(
    lab: Lab, scores: Mapping[str, Tensor], shares: Sequence[float], seeds: Sequence[int]
) -> Iterator[tuple[str, int, int, dict[int, tuple[int, ...]]]]:
    """Score, seed, number and experts of each model that is measured; all are checked first."""
    config, layers = lab.config, lab.config.moe_layers
    for share in shares:
        n = number_of(config, share)
        for name, values in scores.items():
            yield name, 0, n, best_experts(values, layers, n)
        for seed in seeds if n < config.n_experts else ():
            yield RANDOM, seed, n, best_experts(random_scores(config, seed), layers, n)


def random_scores(config: Qwen3Config, seed: int) -> Float[Tensor, "layer expert"]:
    """Scores that know nothing of the experts."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(config.moe_layers), config.n_experts, generator=generator)
