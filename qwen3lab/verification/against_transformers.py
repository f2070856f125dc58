"""Checks a model against `transformers` on the same weights, from a folder or the hub."""

import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qwen3lab.checkpoints.folder_contents import open_tensors_of
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.device.free_memory import free_bytes
from qwen3lab.errors import CheckpointError
from qwen3lab.lab import Lab, load
from qwen3lab.quantisation.quantised_model import quantisation_of
from qwen3lab.translation import tr
from qwen3lab.verification.comparison import compare
from qwen3lab.verification.controls import check_controls
from qwen3lab.verification.prompts import continued, prompt_ids
from qwen3lab.verification.report import Verification
from qwen3lab.verification.transformers_reference import (
    ReadTensor,
    Reference,
    open_layered,
    open_whole,
)

TOKENS, TOKENS_IF_STREAMED = 24, 4
"""New tokens of each prompt; on a GPU the first 16 come before decoding steps are captured."""
COPIES_OF_WEIGHTS = 1.5
"""Free memory for the whole reference, in copies of its weights: one layer is widened, too."""


def verify(
    name: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    memory: str | int | None = None,
    layered: bool | None = None,
    tokens: int | None = None,
    progress: bool = True,
) -> Verification:
    """Compare a model with `transformers` on the same weights, hook by hook.

    Args:
        name: an embedded model, a folder, a .gguf file, or a hub id.
        device: of both models; a GPU if there is one, else the CPU.
        dtype: of both models; None as in `load`.
        revision: branch, tag or commit on the hub.
        memory: as in `load`, for our model. The reference is then filled layer by layer.
        layered: fill the reference layer by layer; None decides by the free memory. Quantised
            checkpoints are always filled so, with the weights that qwen3lab decodes.
        tokens: greedy tokens for each prompt; 24, or 4 if the model is streamed.
        progress: show progress bars.

    Raises:
        CheckpointError: no such model, or one that either side does not open.
    """
    started = time.perf_counter()
    lab = load(name, device=device, dtype=dtype, revision=revision, memory=memory)
    folder = find_folder(name, revision=revision)
    opening = time.perf_counter() - started
    found = verify_lab(lab, folder, layered=layered, tokens=tokens, progress=progress)
    return replace(found, seconds={"opening qwen3lab": opening, **found.seconds})


def verify_lab(
    lab: Lab,
    folder: Path,
    *,
    layered: bool | None = None,
    tokens: int | None = None,
    progress: bool = True,
) -> Verification:
    """Compare a lab with what `transformers` makes of a folder; see `verify`.

    Raises:
        CheckpointError: the lab is quantised, or `transformers` does not open the folder.
    """
    found = quantisation_of(lab.model)
    if found is not None and (found.error or found.kind != "kept"):
        raise CheckpointError(
            tr(
                "{name} is quantised to {weights}, so it differs from transformers by design: "
                "verify the unquantised model, and measure the rest with experiments.fidelity",
                name=lab.name,
                weights=lab.weights,
            )
        )
    is_streamed = lab.model.blocks.is_streamed
    tokens = tokens or (TOKENS_IF_STREAMED if is_streamed else TOKENS)
    seconds: dict[str, float] = {}
    if lab.model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(lab.model.device)
    with lab.lock:
        with _timed(seconds, "greedy text"):
            runs = [continued(lab, ids, n, tokens=tokens) for n, ids in prompt_ids(lab).items()]
        with _timed(seconds, "thinking controls"):
            controls = check_controls(lab, tokens=tokens)
        with _timed(seconds, "opening transformers"):
            reference = _open_reference(lab, folder, layered)
        with _timed(seconds, "comparison"):
            found = compare(lab.model, reference, runs, progress=progress)
    return Verification(
        name=lab.name,
        about=_about(lab, reference),
        prompts={run.name: run.ids.shape[1] for run in runs},
        differences=tuple(found.differences),
        hooks=tuple(found.worst.values()),
        experts=found.experts,
        greedy=found.greedy,
        controls=controls,
        seconds=seconds,
        peak_bytes=_peak_bytes(lab.model.device),
    )


def _open_reference(lab: Lab, folder: Path, layered: bool | None) -> Reference:
    place: dict[str, Any] = {"device": lab.model.device, "dtype": lab.model.dtype}
    if lab.stored_as:
        return open_layered(folder, **place, decoded=_decoded(folder))
    if layered is None:
        needed = COPIES_OF_WEIGHTS * lab.config.n_params * lab.model.dtype.itemsize
        free = free_bytes(lab.model.device)
        layered = lab.model.blocks.is_streamed or (free is not None and free < needed)
    return open_layered(folder, **place) if layered else open_whole(folder, **place)


def _decoded(folder: Path) -> ReadTensor:
    weights = open_tensors_of(folder)
    names = weights.names()

    def read(name: str) -> Tensor:
        if name not in names:
            raise KeyError(name)
        return weights.tensor(name)

    return read


def _about(lab: Lab, reference: Reference) -> dict[str, str]:
    device, config = lab.model.device, lab.config
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    streamed = "streamed from disk" if lab.model.blocks.is_streamed else "in memory"
    return {
        **{name: version(name) for name in ("qwen3lab", "torch", "transformers")},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": f"{device} ({card})" if card else str(device),
        "dtype": str(lab.model.dtype).removeprefix("torch."),
        "parameters": f"{config.n_params:,}",
        "layers": str(config.n_layers),
        "weights": f"{streamed}, decoded from {lab.stored_as}" if lab.stored_as else streamed,
        "reference": f"transformers {reference.how}",
    }


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - started


def _peak_bytes(device: torch.device) -> int | None:
    """Peak memory of the GPU, or of the process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # On Windows.
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
