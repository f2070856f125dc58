"""Writes the weights of a folder as one GGUF file, for llama.cpp to read."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from qwen3lab.checkpoints.gguf_file import INSIDE, OUTSIDE
from qwen3lab.checkpoints.safetensors_reader import CheckpointReader
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import BenchError

INSIDE_OF = {published: name for name, published in INSIDE.items()}
OUTSIDE_OF = {published: name for name, published in OUTSIDE.items()}


def write_gguf(folder: Path, path: Path, kind: str) -> None:
    """Write a dense model without its tokenizer.

    Args:
        folder: the checkpoint.
        path: the file to write.
        kind: type of the matrices, such as "F32", "BF16" or "Q8_0"; norms are stored in float32.

    Raises:
        BenchError: the model has experts.
    """
    gguf: Any = import_module("gguf")  # Any: an optional package.
    config, reader = Qwen3Config.from_file(folder), CheckpointReader(folder)
    if config.is_moe:
        raise BenchError("only dense models are written as GGUF: choose one without experts")
    writer = gguf.GGUFWriter(path, "qwen3")
    _write_config(writer, config)
    number = gguf.GGMLQuantizationType[kind]
    for name in sorted(reader.names()):
        value = reader.tensor(name).to(torch.float32).numpy()
        of_value = number if value.ndim > 1 else gguf.GGMLQuantizationType.F32
        stored = gguf.quants.quantize(value, of_value)
        writer.add_tensor(gguf_name(name), stored, raw_dtype=of_value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(published: str) -> str:
    """The name of a published tensor in GGUF: "blk.0.attn_q.weight"."""
    if published in OUTSIDE_OF:
        return OUTSIDE_OF[published]
    layer, _, part = published.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{INSIDE_OF[part.removesuffix('.weight')]}.weight"


def _write_config(writer: Any, config: Qwen3Config) -> None:
    writer.add_block_count(config.n_layers)
    writer.add_context_length(config.n_ctx)
    writer.add_embedding_length(config.d_model)
    writer.add_feed_forward_length(config.d_mlp)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_key_length(config.d_head)
    writer.add_value_length(config.d_head)
    writer.add_layer_norm_rms_eps(config.eps)
    writer.add_rope_freq_base(config.rope.theta)
    writer.add_vocab_size(config.d_vocab)
    writer.add_tokenizer_model("none")
