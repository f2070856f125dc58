"""Exports recorded activations to xarray."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.hooks.points import hook_names

if TYPE_CHECKING:
    import xarray

AXIS_NAMES = {"pos": "token", "1": "one", "k": "rank"}


def to_xarray(
    activations: Mapping[str, Tensor],
    config: Qwen3Config,
    tokens: list[str],
    token_ids: Int[Tensor, " token"],
) -> "xarray.Dataset":
    """One variable per hook; stacked over layers if all layers, or all with experts, have it.

    Args:
        activations: by hook name, without the batch axis.
        config: of the model that ran.
        tokens: text of each token.
        token_ids: token id of every position.

    Raises:
        ImportError: xarray is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise ImportError("to_xarray needs xarray: install qwen3lab[export]") from error

    variables = {}
    for name, layers in _by_hook(activations).items():
        if layers == [None]:
            variables[name] = (_axes(name, config), _to_numpy(activations[name]))
            continue
        dimension = _layer_dimension(layers, config)
        names = [f"blocks.{layer}.{name}" for layer in layers]
        if dimension is None:
            variables |= {n: (_axes(n, config), _to_numpy(activations[n])) for n in names}
        else:
            stacked = torch.stack([activations[n] for n in names])
            variables[name] = ((dimension, *_axes(names[0], config)), _to_numpy(stacked))
    used = {axis for axes, _ in variables.values() for axis in axes}
    return xarray.Dataset(variables, coords=_coordinates(used, config, tokens, token_ids))


def _by_hook(activations: Mapping[str, Tensor]) -> dict[str, list[int | None]]:
    """Layers of each hook, by the hook's name without the layer; [None] outside of layers."""
    layers: dict[str, list[int | None]] = {}
    for name in activations:
        if name.startswith("blocks."):
            _, layer, hook = name.split(".", 2)
            layers.setdefault(hook, []).append(int(layer))
        else:
            layers.setdefault(name, []).append(None)
    return {hook: sorted(numbers, key=lambda x: x or 0) for hook, numbers in layers.items()}


def _layer_dimension(layers: list[int | None], config: Qwen3Config) -> str | None:
    if layers == list(range(config.n_layers)):
        return "layer"
    return "moe_layer" if layers == list(config.moe_layers) else None


def _axes(name: str, config: Qwen3Config) -> tuple[str, ...]:
    axes = hook_names(config)[name].axes.split()[1:]
    return tuple(AXIS_NAMES.get(axis, axis) for axis in axes)


def _to_numpy(value: Tensor):
    return (value.float() if value.is_floating_point() else value).numpy()


def _coordinates(
    used: set[str], config: Qwen3Config, tokens: list[str], token_ids: Int[Tensor, " token"]
) -> dict:
    coordinates: dict = {
        "token_text": ("token", tokens),
        "token_id": ("token", token_ids.numpy()),
    }
    for axis in {"query", "key"} & used:
        coordinates[f"{axis}_text"] = (axis, tokens)
    if "moe_layer" in used:
        coordinates["moe_layer"] = list(config.moe_layers)
    return coordinates
