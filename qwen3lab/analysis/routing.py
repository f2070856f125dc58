"""What the router did: weights laid out by expert, and the load of each expert."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.recording.recording import Recording


def expert_load(
    experts: Int[Tensor, "pos k"], n_experts: int, *, mask: Bool[Tensor, " pos"] | None = None
) -> Float[Tensor, " expert"]:
    """Share of routed slots that each expert received.

    Args:
        experts: chosen experts, from `blocks.{l}.mlp.hook_expert_indices`; -1 is no expert.
        n_experts: experts in the layer.
        mask: True where a token counts; all count if None.

    Returns:
        Fractions in [0, 1] that sum to 1; float32.

    Raises:
        ValueError: an index is outside [-1, n_experts), or the mask leaves no token.

    Source: OLMoE (arXiv 2409.02060), section 5.

    Example:
        >>> import torch
        >>> from qwen3lab.analysis.routing import expert_load
        >>> expert_load(torch.tensor([[0, 2], [2, 1]]), 4).tolist()
        [0.25, 0.25, 0.5, 0.0]
    """
    _check_experts(experts, n_experts)
    counted = experts if mask is None else experts[mask]
    counted = counted[counted >= 0]
    if counted.numel() == 0:
        raise ValueError("no token is left to count: expected at least one, loosen the mask")
    counts = torch.bincount(counted.flatten(), minlength=n_experts)
    return counts.float() / counted.numel()


def weights_by_expert(
    experts: Int[Tensor, "pos k"], weights: Float[Tensor, "pos k"], n_experts: int
) -> Float[Tensor, "pos expert"]:
    """Weights as applied, one column per expert; zero where an expert was not chosen.

    Args:
        experts: chosen experts of one layer, best first; -1 is no expert.
        weights: their weights, in the same order; 0 for no expert.
        n_experts: experts in the layer.

    Raises:
        ValueError: an index is outside [-1, n_experts).
    """
    _check_experts(experts, n_experts)
    table = torch.zeros(experts.shape[0], n_experts, dtype=weights.dtype)
    return table.scatter_add(1, experts.long().clamp(min=0), weights)


def layer_weights(recording: Recording, layer: int) -> Float[Tensor, "token expert"]:
    """One layer's weights as applied, by token and expert; no columns for a dense model.

    Raises:
        ValueError: the model has experts, but not in this layer.
    """
    routing, n_experts = recording.routing, recording.config.n_experts
    if not routing.layers:
        return torch.zeros(len(recording), 0)
    if layer not in routing.layers:
        listed = ", ".join(map(str, routing.layers))
        raise ValueError(f"layer {layer} has no experts: the layers with experts are {listed}")
    row = routing.layers.index(layer)
    return weights_by_expert(routing.experts[row], routing.weights[row], n_experts)


def layer_loads(recording: Recording) -> Float[Tensor, "layer expert"]:
    """The load of every expert in each layer that has experts; no rows for a dense model."""
    n_experts = recording.config.n_experts
    if not recording.routing.layers:
        return torch.zeros(0, n_experts)
    return torch.stack([expert_load(experts, n_experts) for experts in recording.routing.experts])


def _check_experts(experts: Int[Tensor, "pos k"], n_experts: int) -> None:
    outside = experts[(experts < -1) | (experts >= n_experts)]
    if outside.numel():
        raise ValueError(
            f"expert {int(outside[0])} does not exist: the layer has experts 0 to {n_experts - 1}"
        )
