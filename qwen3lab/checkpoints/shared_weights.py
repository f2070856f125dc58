"""Weights that all processes of a machine share: a file in a folder, which each of them maps.

The file holds the parameters as the forward pass uses them. It is written once, by the first
process, and never changed: the pages that processes read are in memory once.
"""

import hashlib
import json
import os
import shutil
import stat
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from qwen3lab.errors import CheckpointError
from qwen3lab.storage.atomic_files import whole_file
from qwen3lab.storage.tensor_header import read_header

FORMAT = 1
ALIGNMENT = 64
"""Bytes, of torch's tensors on a CPU."""
HEADER_BYTES = 8
"""A safetensors file starts with the length of its header in so many bytes."""
VARIABLE = "QWEN3LAB_SHARED_WEIGHTS"
"""Names the folder for every `load` of a process, as a JupyterHub sets it for all kernels."""


def shared_folder(given: str | Path | None) -> Path | None:
    """The folder for shared weights: as given, or of the environment; None for none.

    Raises:
        CheckpointError: there is no such folder.
    """
    named = given if given is not None else os.environ.get(VARIABLE) or None
    if named is None:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is no folder, so no weights can be shared in it: make the folder, or leave "
            f"out shared= and {VARIABLE}"
        )
    return folder.resolve()


def shared_file(
    folder: Path, source: Path, stamps: list[str], like: Mapping[str, Tensor], dtype: torch.dtype
) -> Path:
    """The file for the weights of a checkpoint, as this version of the package lays them out.

    Args:
        folder: for shared weights.
        source: folder of the checkpoint.
        stamps: names, sizes and modification times of its files: other files, other weights.
        like: the parameters by name, of which only the shapes are used.
        dtype: of the weights.
    """
    shapes = {name: list(value.shape) for name, value in like.items()}
    about = [FORMAT, str(source.resolve()), stamps, str(dtype), shapes]
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return folder / f"{digest[:32]}.safetensors"


def write_shared(path: Path, tensors: Mapping[str, Tensor]) -> bool:
    """Write a file of shared weights; False, with a warning, if the folder cannot be written."""
    # Two processes may write at once, each its own files.
    raw, own = (path.with_name(f"{path.stem}-{os.getpid()}.{end}") for end in ("raw", "new"))
    try:
        with whole_file(own, error=CheckpointError) as part:
            save_file({name: value.detach() for name, value in tensors.items()}, raw)
            _align(raw, part)
        own.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        own.replace(path)
    except (CheckpointError, OSError) as error:
        warnings.warn(
            f"the weights are not shared with other processes: {error}; load the model once with "
            "an account that may write to the folder",
            stacklevel=2,
        )
        return False
    finally:
        for left in (raw, own):
            with suppress(OSError):
                left.unlink()
    return True


def _align(source: Path, target: Path) -> None:
    """Copy a safetensors file so that its first tensor starts where torch starts one in memory.

    Kernels may add in another order where values start elsewhere, and so round in another way.
    """
    with source.open("rb") as file, target.open("wb") as out:
        header = file.read(int.from_bytes(file.read(HEADER_BYTES), "little"))
        padding = -(HEADER_BYTES + len(header)) % ALIGNMENT  # The format allows spaces here.
        out.write((len(header) + padding).to_bytes(HEADER_BYTES, "little"))
        out.write(header + b" " * padding)
        shutil.copyfileobj(file, out)


def map_shared(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of shared weights, mapped; a write to one makes a copy of its page.

    Raises:
        CheckpointError: another account could change the file, or it is damaged.
    """
    _refuse_open_to_others(path)
    try:
        with path.open("rb") as file:
            headers = read_header(file).tensors
    except (ValueError, OSError) as error:
        raise CheckpointError(
            f"{path}, a file of shared weights, cannot be read ({error}): delete it; the next "
            "process writes it anew"
        ) from error
    n_bytes = path.stat().st_size
    values = torch.from_file(str(path), shared=False, size=n_bytes, dtype=torch.uint8)
    found = {}
    for name, stored in headers.items():
        if stored.dtype is None:
            raise CheckpointError(f"{name} in {path} is of no float type: delete the file")
        part = values[stored.offset : stored.offset + stored.n_bytes]
        found[name] = part.view(stored.dtype).view(stored.shape)
    return found


def _refuse_open_to_others(path: Path) -> None:
    """Refuse weights that another account could exchange, or has put there."""
    if os.name != "posix":  # Elsewhere the file system says it by other means.
        return
    file, folder = path.stat(), path.parent.stat()
    writable = stat.S_IWGRP | stat.S_IWOTH
    for each, found in ((path, file), (path.parent, folder)):
        if found.st_mode & writable:
            raise CheckpointError(
                f"{each} can be changed by other accounts, so the weights shared in it could be, "
                f"too: take their right to write away (chmod go-w {each})"
            )
    if file.st_uid not in (os.getuid(), folder.st_uid, 0):
        raise CheckpointError(
            f"{path} belongs to another account than its folder: delete it, or choose another "
            "folder for shared weights"
        )
