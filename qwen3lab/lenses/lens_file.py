"""Safetensors files of trained lenses, which name the weights that they were trained for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qwen3lab.display import one_line
from qwen3lab.errors import CheckpointError
from qwen3lab.lab import Lab
from qwen3lab.recording.weights_fingerprint import fingerprint
from qwen3lab.storage.atomic_files import whole_file
from qwen3lab.storage.checked_tensors import CheckedTensors, open_tensors, save_checked

FORMAT = 1
ENTRY = "qwen3lab_lens"
"""Metadata entry of the file that describes the lens."""
MAX_REASON_CHARACTERS = 200


def save_lens(
    path: str | Path, kind: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> None:
    """Write a lens, completely or not at all.

    Args:
        path: of the file.
        kind: such as "tuned lens".
        tensors: on the CPU, by name.
        about: JSON values: `fingerprint`, `model_name`, `layers`, `rounded`, and what the kind
            adds.

    Raises:
        CheckpointError: the file cannot be written.
    """
    entry = json.dumps({"format": FORMAT, "kind": kind, **about})
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with whole_file(Path(path), error=CheckpointError) as part:
        save_checked(contiguous, part, {ENTRY: entry})


def read_lens(
    path: str | Path, kind: str, lab: Lab, axes: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `save_lens` wrote, checked against a lab.

    Args:
        path: of the file.
        kind: that is expected.
        lab: that the lens shall read.
        axes: of each expected tensor, from "layer" and "d_model".

    Raises:
        CheckpointError: the file does not exist, is damaged or of another kind, or the lens was
            trained for other weights.

    Returns:
        What the file says, with the fingerprint of the lab's weights, and the tensors.
    """
    path = Path(path)
    try:
        with open_tensors(path) as file:
            about = _about(file, kind)
            _check_weights(about, lab)
            _check_layers(about["layers"], lab)
            _check_shapes(file, about, lab, axes)
            tensors = {name: file.read(name) for name in axes}
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist: give a file that save() wrote") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
        reason = one_line(str(error), width=MAX_REASON_CHARACTERS)
        raise CheckpointError(f"{path} is no {kind} of {one_line(lab.name)}: {reason}") from error
    for name, value in tensors.items():
        if not bool(value.isfinite().all()):
            raise CheckpointError(f"{path} is damaged: {name} has values that are not finite")
    return {**about, "fingerprint": fingerprint(lab.model)}, tensors


def is_lens_of(path: Path, kind: str, lab: Lab) -> bool:
    """True if the file holds a lens of this kind for the weights of a lab."""
    with open_tensors(path) as file:
        about = _about(file, kind)
        widths = {stored.shape[-1] for stored in file.stored.values()}
    # Sizes first: the fingerprint of a large model takes seconds.
    if widths != {lab.config.d_model} or about["layers"] != list(range(lab.config.n_layers - 1)):
        return False
    return fingerprint(lab.model) in (about["fingerprint"], *about["rounded"])


def _about(file: CheckedTensors, kind: str) -> dict[str, Any]:
    if not file.has_checksums or ENTRY not in file.metadata:
        raise ValueError("it is not a file of a lens that save() wrote")
    about = json.loads(file.metadata[ENTRY])
    if about["format"] != FORMAT:
        raise ValueError(
            f"it has format {about['format']}, and this qwen3lab reads {FORMAT}: upgrade qwen3lab"
        )
    if about["kind"] != kind:
        raise ValueError(f"it holds a {about['kind']}")
    about.setdefault("rounded", [])
    texts = [about["model_name"], about["fingerprint"], *about["rounded"]]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("its model name or a fingerprint is not text")
    return about


def _check_weights(about: Mapping[str, Any], lab: Lab) -> None:
    if fingerprint(lab.model) not in (about["fingerprint"], *about["rounded"]):
        raise ValueError(
            f"it was trained for other weights (of {about['model_name']}): give the lab of the "
            "same weights, in the same dtype"
        )


def _check_layers(layers: Any, lab: Lab) -> None:
    is_sorted = isinstance(layers, list) and all(type(layer) is int for layer in layers)
    if not is_sorted or layers != sorted(set(layers)) or not layers:
        raise ValueError("its layers are not a list of different numbers")
    if layers[0] < 0 or layers[-1] >= lab.config.n_layers - 1:
        raise ValueError(
            f"it has layers {layers[0]} to {layers[-1]}: expected some of 0 to "
            f"{lab.config.n_layers - 2}"
        )


def _check_shapes(
    file: CheckedTensors, about: Mapping[str, Any], lab: Lab, axes: Mapping[str, str]
) -> None:
    if file.stored.keys() != axes.keys():
        raise ValueError("it holds other tensors")
    sizes = {"layer": len(about["layers"]), "d_model": lab.config.d_model}
    for name, names in axes.items():
        expected = tuple(sizes[axis] for axis in names.split())
        stored = file.stored[name]
        if stored.shape != expected or stored.dtype not in (torch.float16, torch.float32):
            raise ValueError(
                f"{name} has dtype {stored.code} and shape {stored.shape}: expected floating "
                f"point numbers of shape {expected}"
            )
