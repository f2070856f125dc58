"""Checkpoints of published shapes as sparse files: all weights are zero and use no disk space."""

import json
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

import torch

from qwen3lab.checkpoints.safetensors_reader import INDEX
from qwen3lab.checkpoints.tensor_names import EXPERT_MATRICES, stored_parts
from qwen3lab.checkpoints.writer import write_config
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.model.transformer import Qwen3

SHARD_BYTES = 4 * 10**9
"""Maximum size of a shard, about that of published checkpoints."""


def write_sparse(config: Qwen3Config, folder: Path) -> int:
    """Write a bfloat16 checkpoint whose tensors are holes in sparse files.

    Args:
        config: configuration of the model.
        folder: folder of the checkpoint; created if missing.

    Returns:
        Total apparent size of the tensors, in bytes.

    Source: the safetensors format, github.com/huggingface/safetensors, README.md.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    free = SHARD_BYTES
    for name, shape in _tensors(config):
        n_bytes = 2 * prod(shape)
        if shards[-1] and n_bytes > free:
            shards.append({})
            free = SHARD_BYTES
        shards[-1][name] = shape
        free -= n_bytes
    weight_map, total = {}, 0
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        total += _write_shard(folder / file, shard)
        weight_map |= dict.fromkeys(shard, file)
    describe(config, folder, dtype=torch.bfloat16, where=weight_map, n_bytes=total)
    return total


def describe(
    config: Qwen3Config,
    folder: Path,
    *,
    dtype: torch.dtype,
    where: Mapping[str, str],
    n_bytes: int,
) -> None:
    """Write the files of a checkpoint besides its shards: config.json and the index.

    Args:
        config: configuration of the model.
        folder: folder of the checkpoint, which must exist.
        dtype: dtype of the weights.
        where: the file name of each tensor, by published tensor name.
        n_bytes: total size of all tensors.
    """
    write_config(config, folder, dtype)
    index = {"metadata": {"total_size": n_bytes}, "weight_map": dict(where)}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def _tensors(config: Qwen3Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Published names and shapes of all tensors."""
    for name, parameter in Qwen3(config, device="meta").named_parameters():
        parts = stored_parts(name, config, frozenset())
        shape = tuple(parameter.shape)
        if name.partition(".mlp.")[2] and f"mlp.{name.partition('.mlp.')[2]}" in EXPERT_MATRICES:
            shape = (shape[0] * shape[1] // len(parts), shape[2])
        yield from ((part.name, shape) for part in parts)


def _write_shard(path: Path, tensors: dict[str, tuple[int, ...]]) -> int:
    """Write the header of a shard and a hole for its tensors; return the size of the hole."""
    header, offset = {}, 0
    for name, shape in tensors.items():
        end = offset + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
    return offset
