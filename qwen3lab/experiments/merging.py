"""Merges experts that do similar things, and measures what that costs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.arguments import Count, CountOrNone, Seed, checked
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.experiments.effects import Text
from qwen3lab.experiments.pruning import (
    RANDOM,
    SHARES,
    PruningCurve,
    PruningPoint,
    best_experts,
    measured,
    number_of,
    prune,
    random_scores,
)
from qwen3lab.lab import Lab
from qwen3lab.model.experts import swiglu
from qwen3lab.thinking import Problem
from qwen3lab.translation import tr

ROUTERS = ("centroid", "all")
MAX_TOKENS = 512
"""Tokens on which outputs of experts are compared."""

Groups = Mapping[int, Sequence[Sequence[int]]]


@checked
@without_grad
def merge(
    lab: Lab, groups: Groups, scores: Float[Tensor, "layer expert"], *, router: str = "centroid"
) -> Lab:
    """A lab of the model with each group of experts merged into one.

    The neurons of an expert have no fixed order, so those of each member are first permuted to
    match the centroid's: the permutation of the smallest distance between their weights. The merged
    matrices are the mean of the group's, weighted by the scores.

    A merged expert still needs rows of the router. With `router="centroid"` it has the centroid's
    row, and the others go with their experts: the model has fewer experts, and a token that chose
    two of a group now chooses another one beside it. With `router="all"` every row stays, and the
    experts of a group become equal: the probabilities of a group add up as before, which tells the
    cost of the merged matrices apart from that of the router; the model is not smaller.

    Args:
        lab: a mixture of experts, whole in memory and not quantised.
        groups: for each layer with experts, its groups, the centroid first; an expert in no group
            is dropped (with `router="centroid"`) or left as it is.
        scores: such as `corpus.expert_scores(run).reap`; not negative.
        router: "centroid" or "all".

    Raises:
        ValueError: an expert in two groups, an empty group, other numbers of groups in two layers,
            fewer groups than a token is routed to, scores that do not fit, or an unknown router.
        LabError: the model is streamed, quantised, or has adapters beside its weights.

    Source: Jha et al. 2026, REAM (arXiv 2604.04356): centroids of the largest saliency keep their
    router row, groups are averaged by saliency; Li et al. 2024, M-SMoE (arXiv 2310.01334): the
    permutation, and all rows of the router kept.
    """
    if router not in ROUTERS:
        raise ValueError(f"router is {router!r}: choose from {', '.join(ROUTERS)}")
    centroids = _centroids(lab, groups, scores)
    pruned = prune(lab, centroids)  # Checks the lab, the layers and the numbers.
    model = (prune(lab, _all(lab)) if router == "all" else pruned).model
    own = dict(model.state_dict())
    for row, (layer, listed) in enumerate(sorted(groups.items())):
        gate_up, down = (lab.model.state_dict()[_name(layer, part)] for part in ("gate_up", "down"))
        for place, group in enumerate(listed):
            merged = _merged(gate_up, down, list(group), scores[row])
            places = list(group) if router == "all" else [place]
            for part, value in zip(("gate_up", "down"), merged, strict=True):
                own[_name(layer, part)][places] = value
    name = f"{lab.name}, merged into {len(next(iter(centroids.values())))} experts"
    return Lab(model, lab.tokenizer, name, defaults=lab.defaults, stored_as=lab.stored_as)


def _name(layer: int, part: str) -> str:
    return f"blocks.{layer}.mlp.{part}"


def _all(lab: Lab) -> dict[int, range]:
    return {layer: range(lab.config.n_experts) for layer in lab.config.moe_layers}


def _centroids(lab: Lab, groups: Groups, scores: Tensor) -> dict[int, list[int]]:
    """The first expert of each group, by layer."""
    shape = (len(lab.config.moe_layers), lab.config.n_experts)
    if tuple(scores.shape) != shape or bool((scores < 0).any()) or bool(scores.isnan().any()):
        raise ValueError(
            f"scores have the shape {tuple(scores.shape)}: expected {shape}, and none below 0"
        )
    for layer, listed in groups.items():
        members = [expert for group in listed for expert in group]
        twice = sorted({expert for expert in members if members.count(expert) > 1})
        if twice or not all(listed):
            reason = f"expert {twice[0]} is in two groups" if twice else "a group is empty"
            raise ValueError(f"layer {layer}: {reason}, and each expert belongs to one at most")
        outside = [expert for expert in members if not 0 <= expert < shape[1]]
        if outside:
            raise ValueError(
                f"expert {outside[0]} does not exist: layer {layer} has experts 0 to {shape[1] - 1}"
            )
    return {layer: [group[0] for group in listed] for layer, listed in groups.items()}


def _merged(
    gate_up: Float[Tensor, "expert twice_d_expert d_model"],
    down: Float[Tensor, "expert d_model d_expert"],
    group: Sequence[int],
    scores: Float[Tensor, " expert"],
) -> tuple[Float[Tensor, "twice_d_expert d_model"], Float[Tensor, "d_model d_expert"]]:
    """The matrices of the merged expert: a mean of the aligned ones in float32."""
    weights = scores[list(group)].double()
    # Experts without a score are merged, too: all alike.
    weights = weights / weights.sum() if weights.sum() > 0 else torch.ones(len(group)) / len(group)
    neurons = [_neurons(gate_up[expert], down[expert]) for expert in group]
    aligned = [neurons[0], *(each[_order(neurons[0], each)] for each in neurons[1:])]
    mean = sum(float(w) * each for w, each in zip(weights, aligned, strict=True))
    assert isinstance(mean, Tensor)
    gate, up, out = mean.to(gate_up.dtype).split(gate_up.shape[2], dim=1)
    return torch.cat([gate, up]), out.T


def _neurons(
    gate_up: Float[Tensor, "twice_d_expert d_model"], down: Float[Tensor, "d_model d_expert"]
) -> Float[Tensor, "d_expert three_d_model"]:
    """A row for each neuron: its gate, its up and its down weights."""
    gate, up = gate_up.float().chunk(2)
    return torch.cat([gate, up, down.float().T], dim=1)


def _order(
    one: Float[Tensor, "neuron weight"], other: Float[Tensor, "neuron weight"]
) -> Int[Tensor, " neuron"]:
    """The neurons of the other expert in the order in which they match this one's best."""
    _, columns = linear_sum_assignment(torch.cdist(one, other).cpu().numpy())
    return torch.from_numpy(columns).to(one.device)


@checked
@without_grad
def similar_groups(
    lab: Lab, texts: Sequence[Text], scores: Float[Tensor, "layer expert"], n: Count
) -> dict[int, list[list[int]]]:
    """Groups of experts: those of the largest scores, each with the experts most similar to it.

    Two experts are similar if their outputs point the same way: the mean cosine over tokens, on the
    inputs of up to 512 tokens, whether they are routed to the experts or not.

    Args:
        lab: a mixture of experts, whole in memory.
        texts: whose tokens are used, from the first text on.
        scores: by layer and expert.
        n: groups of each layer.

    Returns:
        For each layer, its groups; the centroid comes first.

    Raises:
        ValueError: no text, or scores that do not fit.

    Source: Jha et al. 2026, REAM (arXiv 2604.04356), with the assignment of M-SMoE: each expert
    joins its nearest centroid.
    """
    centroids = best_experts(scores, lab.config.moe_layers, n)
    inputs = _inputs(lab, texts)
    found = dict[int, list[list[int]]]()
    for layer, kept in centroids.items():
        alike = _similarity(lab, layer, inputs[layer])
        groups = {centroid: [centroid] for centroid in kept}
        for expert in set(range(lab.config.n_experts)) - set(kept):
            nearest = int(alike[expert, list(kept)].argmax())
            groups[kept[nearest]].append(expert)
        found[layer] = list(groups.values())
    return found


def _inputs(lab: Lab, texts: Sequence[Text]) -> dict[int, Float[Tensor, "token d_model"]]:
    """What the experts of each layer read, for the first tokens of the texts."""
    if not texts:
        raise ValueError("there is no text: outputs of experts are compared on tokens")
    hooks = {layer: f"blocks.{layer}.ln2.hook_normalized" for layer in lab.config.moe_layers}
    pieces: dict[int, list[Tensor]] = {layer: [] for layer in hooks}
    n_tokens = 0
    for text in texts:
        if n_tokens >= MAX_TOKENS:
            break
        rec = lab.record(text.token_ids, capture=list(hooks.values()))
        n_tokens += len(rec)
        for layer, hook in hooks.items():
            pieces[layer].append(rec[hook])
    model = lab.model
    return {
        layer: torch.cat(own)[:MAX_TOKENS].to(model.device, model.dtype)
        * model.get_parameter(f"blocks.{layer}.ln2.weight")
        for layer, own in pieces.items()
    }


def _similarity(
    lab: Lab, layer: int, inputs: Float[Tensor, "token d_model"]
) -> Float[Tensor, "expert other"]:
    """Mean cosine of the outputs of each pair of experts."""
    gate_up, down = (lab.model.get_parameter(_name(layer, part)) for part in ("gate_up", "down"))
    outputs = [
        F.normalize(F.linear(swiglu(F.linear(inputs, gates)), out).float(), dim=-1)
        for gates, out in zip(gate_up, down, strict=True)
    ]
    flat = torch.stack(outputs).flatten(1)
    return flat @ flat.T / len(inputs)


@checked
def merging_curve(
    lab: Lab,
    scores: Mapping[str, Float[Tensor, "layer expert"]],
    texts: Sequence[Text],
    *,
    similar_on: Sequence[Text],
    problems: Mapping[str, Sequence[Problem]] | None = None,
    shares: Sequence[float] = SHARES,
    n_random: CountOrNone = 0,
    seed: Seed = 0,
    router: str = "centroid",
    thinking: bool = True,
    progress: bool = True,
) -> PruningCurve:
    """Merge to several shares of the experts by each score, and measure each model.

    The points stand beside those of pruning and of random choices:
    `figures.pruning_curve(pruning_curve(...) + merging_curve(...))`.

    Args:
        lab: as in `merge`.
        scores: by name; experts of the largest scores are the centroids.
        texts: in groups, for the loss.
        similar_on: other texts, on which outputs of experts are compared.
        problems: by group, for the errors; None leaves them out.
        shares: of the groups to the experts, 1 for no merging.
        n_random: number of random choices of centroids for each share; their matrices are plain
            means.
        seed: of the first random choice.
        router: as in `merge`.
        thinking: let the model think before it answers a problem.
        progress: show a progress bar.

    Raises:
        ValueError: no text, or a share that leaves too few experts or is above 1.
        LabError: as in `merge`.
    """
    choices = list(_choices(lab, scores, shares, range(seed, seed + n_random)))
    kind = "merged" if router == "centroid" else "merged, whole router"
    points = list[PruningPoint]()
    with closing(tqdm(choices, unit=tr("model"), disable=not progress)) as bar:
        for name, number, n, order, weights in bar:
            merged = lab
            if n < lab.config.n_experts:
                groups = similar_groups(lab, similar_on, order, n)
                merged = merge(lab, groups, weights, router=router)
            about = (f"{name}, {kind}", number, n, n / lab.config.n_experts)
            points.append(measured(merged, about, texts, problems, thinking=thinking))
    return PruningCurve(tuple(points))


def _choices(
    lab: Lab, scores: Mapping[str, Tensor], shares: Sequence[float], seeds: Sequence[int]
) -> Iterator[tuple[str, int, int, Tensor, Tensor]]:
    """Score, seed and number of each model, the order of its centroids, weights of its means."""
    for share in shares:
        n = number_of(lab.config, share)
        for name, values in scores.items():
            yield name, 0, n, values, values
        for seed in seeds if n < lab.config.n_experts else ():
            drawn = random_scores(lab.config, seed)
            yield RANDOM, seed, n, drawn, torch.ones_like(drawn)
