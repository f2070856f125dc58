"""Opens published Jacobian lenses: `.pt` files of `anthropics/jacobian-lens` and TransformerLens.

`neuronpedia/jacobian-lens` on the Hugging Face hub has Qwen3 from 1.7B to 32B. A `.pt` file is a
pickle, which can run code when it is opened; torch opens it with `weights_only=True`, which allows
tensors and plain values only.
"""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from qwen3lab.arguments import checked, is_whole
from qwen3lab.display import one_line
from qwen3lab.errors import CheckpointError
from qwen3lab.lab import Lab
from qwen3lab.lenses.jacobian import JacobianLens

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
NOT_NAMED = (
    "published; the file does not name the weights, so that they are this model's is not known"
)
MAX_REASON_CHARACTERS = 200


@checked
def open_published(path: str | Path, lab: Lab) -> JacobianLens:
    """Open a published Jacobian lens.

    Args:
        path: of the `.pt` file: a dict of `J` (a matrix by layer), `source_layers`, `n_prompts` and
            `d_model`.
        lab: whose sizes it must have. The file does not name the weights that it was fitted to.

    Raises:
        CheckpointError: the file does not exist, holds anything but tensors and plain values, or
            does not fit the model.
    """
    path = Path(path)
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
        matrices = _matrices(payload, lab)
        n_prompts = _whole(payload, "n_prompts")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist: give a published .pt file") from error
    except UnpicklingError as error:
        raise CheckpointError(
            f"{path} was not opened: it holds more than tensors and plain values, or is no file of "
            "torch.save: give a published Jacobian lens"
        ) from error
    except (ValueError, TypeError, RuntimeError, EOFError, OSError) as error:
        reason = one_line(str(error), width=MAX_REASON_CHARACTERS)
        raise CheckpointError(f"{path} is no Jacobian lens of {lab.name}: {reason}") from error
    layers = tuple(sorted(matrices))
    stacked = torch.stack([matrices[layer] for layer in layers])
    return JacobianLens(path.name, "", layers, stacked, n_prompts, NOT_NAMED)


def _matrices(payload: Any, lab: Lab) -> dict[int, Tensor]:
    """J by layer, checked against the model's sizes."""
    if not isinstance(payload, Mapping) or not isinstance(payload.get("J"), Mapping):
        raise ValueError("it has no J, a matrix for each layer")
    d_model, last = lab.config.d_model, lab.config.n_layers - 1
    if _whole(payload, "d_model") != d_model:
        raise ValueError(f"its d_model is {payload['d_model']}, and the model has {d_model}")
    matrices = payload["J"]
    wrong = [layer for layer in matrices if not is_whole(layer) or not 0 <= layer < last]
    if wrong or not matrices:
        shown = f"layer {wrong[0]!r}" if wrong else "no layer"
        raise ValueError(f"it has {shown}: expected some of 0 to {last - 1}")
    if "source_layers" in payload and sorted(payload["source_layers"]) != sorted(matrices):
        raise ValueError("its source_layers are not the layers of J")
    target = (payload.get("metadata") or {}).get("target_layer", last)
    if target != last:
        raise ValueError(f"it was fitted to the stream after layer {target}, not after the last")
    for layer, matrix in matrices.items():
        _check_matrix(layer, matrix, d_model)
    return {int(layer): matrix for layer, matrix in matrices.items()}


def _check_matrix(layer: int, matrix: Any, d_model: int) -> None:
    if not isinstance(matrix, Tensor) or matrix.dtype not in DTYPES:
        raise ValueError(f"J of layer {layer} is no tensor of floating point numbers")
    if tuple(matrix.shape) != (d_model, d_model):
        raise ValueError(
            f"J of layer {layer} has shape {tuple(matrix.shape)}: expected {(d_model, d_model)}"
        )
    if not bool(matrix.isfinite().all()):
        raise ValueError(f"J of layer {layer} has values that are not finite")


def _whole(payload: Mapping[str, Any], name: str) -> int:
    value = payload.get(name)
    if not is_whole(value):
        raise ValueError(f"its {name} is {value!r:.40}: expected an integer")
    return int(value)  # type: ignore[arg-type]
