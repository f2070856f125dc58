"""Routing statistics: weights by expert, and the load of each expert."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.arguments import Count, checked
from qwen3lab.recording.indices import index_of
from qwen3lab.recording.labels import LabelledTensor, Labels, labelled, relabelled
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later, tr

LOAD = later("expert load")


@checked
def expert_load(
    experts: Int[Tensor, "pos k"], n_experts: Count, *, mask: Bool[Tensor, " pos"] | None = None
) -> Float[Tensor, " expert"]:
    """Share of routed slots of each expert.

    Args:
        experts: chosen experts of a layer, such as `rec.routing.layer(2).experts`; -1 is no
            expert.
        n_experts: experts in the layer.
        mask: True for tokens to count; all if None.

    Returns:
        Fractions in [0, 1] that sum to 1; float32. Labels of `experts` are kept.

    Raises:
        ValueError: an index is outside [-1, n_experts), or the mask leaves no token.

    Source: OLMoE (arXiv 2409.02060), section 5.

    Example:
        >>> import torch
        >>> from qwen3lab.analysis.routing import expert_load
        >>> expert_load(torch.tensor([[0, 2], [2, 1]]), 4).tolist()
        [0.25, 0.25, 0.5, 0.0]
    """
    check_experts(experts, n_experts)
    counted = experts if mask is None else experts[mask]
    counted = counted[counted >= 0]
    if counted.numel() == 0:
        raise ValueError(tr("no token is left to count: expected at least one True in the mask"))
    counts = torch.bincount(counted.flatten(), minlength=n_experts)
    return relabelled(counts.float() / counted.numel(), experts, LOAD, ["expert"])


@checked
def weights_by_expert(
    experts: Int[Tensor, "pos k"], weights: Float[Tensor, "pos k"], n_experts: Count
) -> Float[Tensor, "pos expert"]:
    """Routing weights, one column per expert; 0 for experts that were not chosen.

    Args:
        experts: chosen experts of one layer, best first; -1 is no expert.
        weights: their weights, in the same order; those of no expert do not count.
        n_experts: experts in the layer.

    Raises:
        ValueError: an index is outside [-1, n_experts).
    """
    check_experts(experts, n_experts)
    table = torch.zeros(experts.shape[0], n_experts, dtype=weights.dtype)
    weights = weights.where(experts >= 0, 0)
    filled = table.scatter_add(1, experts.long().clamp(min=0), weights)
    return relabelled(filled, experts, later("expert weights"), ["token", "expert"])


@checked
def layer_weights(recording: Recording, layer: int) -> Float[LabelledTensor, "token expert"]:
    """Routing weights of one layer, by token and expert; no columns for a dense model.

    Args:
        recording: with routing.
        layer: its number in the model.

    Raises:
        RecordingError: the model has experts, but not in this layer.
    """
    if not recording.routing.layers:
        layer = index_of(layer, recording.config.n_layers, "layer", tr("the model"))
        tokens, name = tuple(recording.tokens), recording.model_name
        labels = Labels("expert weights", ("token", "expert"), (layer,), None, tokens, name)
        return labelled(torch.zeros(len(recording), 0), labels)
    routing = recording.routing.layer(layer)
    table = weights_by_expert(routing.experts, routing.weights, routing.n_experts)
    assert isinstance(table, LabelledTensor)
    return table


@checked
def layer_loads(
    recording: Recording, *, tokens: slice = slice(None)
) -> Float[LabelledTensor, "layer expert"]:
    """Expert load of each layer with experts; no rows for a dense model.

    Args:
        recording: with routing.
        tokens: to count.

    Raises:
        ValueError: there is no token to count.
    """
    layers, n_experts = recording.routing.layers, recording.config.n_experts
    rows = [
        expert_load(recording.routing.layer(layer).experts[tokens], n_experts) for layer in layers
    ]
    loads = torch.stack(rows) if rows else torch.zeros(0, n_experts)
    return loads_of_layers(loads, layers, recording.model_name)


@checked
def loads_of_layers(
    loads: Float[Tensor, "layer expert"], layers: Sequence[int], model_name: str
) -> Float[LabelledTensor, "layer expert"]:
    """Loads with labels for layers and model.

    Args:
        loads: share of routed slots, rows sum to 1.
        layers: the layer number of each row.
        model_name: name of the loaded model.
    """
    return labelled(loads, Labels(LOAD, ("layer", "expert"), tuple(layers), model_name=model_name))


def check_experts(experts: Int[Tensor, "token k"], n_experts: int) -> None:
    """Raises `ValueError` for an index outside of [-1, n_experts); -1 is no expert."""
    outside = experts[(experts < -1) | (experts >= n_experts)]
    if outside.numel():
        raise ValueError(
            tr(
                "expert {outside} does not exist: the layer has experts 0 to {last}",
                outside=int(outside[0]),
                last=n_experts - 1,
            )
        )
