"""Files of steering vectors: safetensors with checksums, and the GGUF files of repeng.

A file holds directions by hook and layer. The tokens that a vector is added to are not part of it.
"""

import json
import re
from pathlib import Path

import torch
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.display import one_line
from qwen3lab.errors import VectorError
from qwen3lab.steering.addition import RESID_POST, STREAM_HOOKS, Addition
from qwen3lab.steering.gguf_file import GgufFile, read_gguf, to_bytes
from qwen3lab.steering.places import EVERYWHERE
from qwen3lab.steering.vector import Vector
from qwen3lab.storage.atomic_files import whole_file
from qwen3lab.storage.checked_tensors import CheckedTensors, open_tensors, save_checked

FORMAT = 1
KIND = "steering vector"
ARCHITECTURE = "controlvector"
NAME = re.compile(rf"blocks\.(0|[1-9]\d{{0,4}})\.({'|'.join(map(re.escape, STREAM_HOOKS))})")
GGUF_NAME = re.compile(r"direction\.(0|[1-9]\d{0,4})")
MAX_REASON_CHARACTERS = 200


@checked
def save(vector: Vector, path: str | Path) -> None:
    """Write a vector to a safetensors file; `steering.load` reads it.

    Args:
        vector: for all tokens, as a file does not say which.
        path: of the file.

    Raises:
        VectorError: the file cannot be written, or the vector is for some tokens only.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import steering
        >>> vector = steering.from_token(qwen3lab.load("tiny-moe"), "7", layer=3)
        >>> steering.save(vector, "seven.safetensors")
        >>> steering.load("seven.safetensors") == vector
        True
    """
    _check_everywhere(vector)
    about = {
        "format": FORMAT,
        "kind": KIND,
        "made_by": vector.made_by,
        "model_name": vector.model_name,
        "weights": vector.weights,
    }
    tensors = {each.name: each.direction.clone() for each in vector.additions}
    with whole_file(Path(path), error=VectorError) as part:
        save_checked(tensors, part, {"qwen3lab": json.dumps(about)})


@checked
def load(path: str | Path) -> Vector:
    """Read a vector that `steering.save` wrote.

    Args:
        path: of the file.

    Raises:
        VectorError: the file does not exist, holds no vector, or is damaged.
    """
    path = Path(path)
    try:
        with open_tensors(path) as file:
            return _vector(file)
    except (ValueError, OSError, RecursionError) as error:
        raise _unreadable(path, error, "steering.save wrote") from error


@checked
def save_gguf(vector: Vector, path: str | Path, *, model_hint: str = "qwen3") -> None:
    """Write a vector as a control vector of llama.cpp and repeng.

    Args:
        vector: added to the residual stream after its layers, at all tokens.
        path: of the file.
        model_hint: the model type that the file names, "qwen3" or "qwen3_moe"; only repeng compares
            it, when it adds two vectors.

    Raises:
        VectorError: the file cannot be written, the vector is for other hooks or some tokens
            only, or it has a direction for layer 0, which llama.cpp refuses.
    """
    _check_everywhere(vector)
    other = [each.hook for each in vector.additions if each.hook != RESID_POST]
    if other:
        raise VectorError(
            f"a control vector is added to {RESID_POST}, and this vector to {other[0]}: "
            "write it with steering.save"
        )
    if 0 in vector.layers:
        raise VectorError(
            "a control vector has no direction for layer 0 (llama.cpp refuses the file): choose "
            "other layers with vector.at(layers=...), or write it with steering.save"
        )
    metadata = {
        "general.architecture": ARCHITECTURE,
        f"{ARCHITECTURE}.model_hint": model_hint,
        f"{ARCHITECTURE}.layer_count": len(vector.additions),
    }
    vectors = {f"direction.{each.layer}": each.direction.numpy() for each in vector.additions}
    with whole_file(Path(path), error=VectorError) as part:
        part.write_bytes(to_bytes(GgufFile(metadata, vectors)))


@checked
def load_gguf(path: str | Path) -> Vector:
    """Read a control vector of repeng or llama.cpp: `direction.n` is added after layer `n`.

    Args:
        path: of the file.

    Raises:
        VectorError: the file does not exist, holds no control vector, or is damaged.
    """
    path = Path(path)
    try:
        file = read_gguf(path)
        if file.metadata.get("general.architecture") != ARCHITECTURE:
            raise ValueError(f"its architecture is not {ARCHITECTURE}")
        hint = str(file.metadata.get(f"{ARCHITECTURE}.model_hint", ""))
        found = {name: torch.from_numpy(value) for name, value in file.vectors.items()}
        additions = [_addition(name, found[name], GGUF_NAME) for name in found]
        return _sorted(additions, f"control vector of {one_line(path.name)}", hint, "")
    except (ValueError, OSError) as error:
        raise _unreadable(path, error, "steering.save_gguf or repeng wrote") from error


def _vector(file: CheckedTensors) -> Vector:
    """The vector of an open file; raises `ValueError` if there is none."""
    about = json.loads(file.metadata.get("qwen3lab", "null"))
    if not isinstance(about, dict) or about.get("kind") != KIND or not file.has_checksums:
        raise ValueError("it is a safetensors file of something else")
    if about.get("format") != FORMAT:
        raise ValueError(f"its format is {about.get('format')!r:.20}: expected {FORMAT}")
    texts = [about.get(name) for name in ("made_by", "model_name", "weights")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("its description is not text")
    for name, stored in file.stored.items():
        if stored.dtype != torch.float32 or len(stored.shape) != 1:
            raise ValueError(f"{name} is no vector of float32")
    additions = [_addition(name, file.read(name), NAME) for name in file.stored]
    return _sorted(additions, *map(str, texts))


def _addition(name: str, direction: Tensor, pattern: re.Pattern[str]) -> Addition:
    match = pattern.fullmatch(name)
    if match is None:
        raise ValueError(f"{one_line(name, width=60)} names no layer and hook")
    hook = match[2] if pattern is NAME else RESID_POST
    return Addition(int(match[1]), direction, hook)


def _sorted(additions: list[Addition], made_by: str, model_name: str, weights: str) -> Vector:
    if not additions:
        raise ValueError("it holds no direction")
    additions = sorted(additions, key=lambda each: (each.layer, STREAM_HOOKS.index(each.hook)))
    return Vector(tuple(additions), made_by, model_name, weights)


def _check_everywhere(vector: Vector) -> None:
    limited = [each.place for each in vector.additions if each.place != EVERYWHERE]
    if limited:
        raise VectorError(
            f"the vector is for {limited[0]} only, and a file does not say for which tokens it "
            'is: write vector.at(positions="all")'
        )


def _unreadable(path: Path, error: Exception, writer: str) -> VectorError:
    if isinstance(error, FileNotFoundError):
        return VectorError(f"{path} does not exist: give a file that {writer}")
    reason = one_line(str(error), width=MAX_REASON_CHARACTERS)
    return VectorError(f"{path} holds no steering vector ({reason}): give a file that {writer}")
