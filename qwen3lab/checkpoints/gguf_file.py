"""GGUF files of Qwen3: llama.cpp's names, stacked experts, and quantised rows.

Rows are decoded by the `gguf` package, matrix by matrix. The file is read, not mapped, once its
header is known: a file that is cut short is an error like any other.

Source: llama.cpp's `gguf-py` (`constants.py`, `tensor_mapping.py`, `quants.py`).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qwen3lab.checkpoints.computed_tensors import ComputedTensors
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError

ARCHITECTURES = {"qwen3": "qwen3", "qwen3moe": "qwen3_moe"}
"""`model_type` of each architecture."""
OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
INSIDE = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    **{f"attn_{x}": f"self_attn.{x}_proj" for x in "qkv"},
    "attn_output": "self_attn.o_proj",
    **{f"attn_{x}_norm": f"self_attn.{x}_norm" for x in "qk"},
    **{f"ffn_{x}": f"mlp.{x}_proj" for x in ("gate", "up", "down")},
    "ffn_gate_inp": "mlp.gate",
}
EXPERTS = {f"ffn_{x}_exps": f"{x}_proj" for x in ("gate", "up", "down")}
FIELDS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
    "max_position_embeddings": "context_length",
}
OF_EXPERTS = {
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
}
MUST_BE = {
    "rope.scaling.type": ("none",),
    "expert_weights_scale": (0.0, 1.0),
    "attention.sliding_window": (0,),
    "expert_shared_count": (0,),
    "leading_dense_block_count": (0,),
}
"""Values of fields that may be there; others mean another computation."""


@dataclass(frozen=True)
class StackedRows:
    """Where a tensor's rows are in the file.

    Attributes:
        kind: the package's type of the values.
        shape: of the tensor, as torch has it.
        offset: of the first byte.
        n_bytes: of the tensor.
        entry: place in the first axis of a stack of experts; None for a whole tensor.
    """

    kind: Any
    shape: tuple[int, ...]
    offset: int
    n_bytes: int
    entry: int | None = None


class GgufFile(ComputedTensors):
    """One GGUF file: its config, and its tensors under published names.

    Raises:
        CheckpointError: the file is damaged, of another architecture, or one part of several.
        ImportError: the `gguf` package is not installed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(None, str(path))
        self.path = path
        self.fields, stored = _header(path)
        self.architecture = _architecture(path, self.fields)
        self._rows = _published(stored)
        self._stamp = self._stamp_now()

    @property
    def described(self) -> str:
        """Format and kinds of the matrices, such as "GGUF, Q4_K and Q6_K"."""
        kinds = sorted({rows.kind.name for rows in self._rows.values()} - {"F32"})
        return f"GGUF, {' and '.join(kinds) or 'F32'}"

    def config(self) -> dict[str, Any]:
        """The fields of a `config.json` that describes this file's model.

        Raises:
            CheckpointError: a field is missing, or one means another computation.
        """
        self._check_fields()
        wanted = FIELDS | (OF_EXPERTS if self.architecture == "qwen3moe" else {})
        config = {name: self._field(key) for name, key in wanted.items()}
        embedding = self._rows.get("model.embed_tokens.weight")
        if embedding is None:
            raise CheckpointError(f"{self.path} has no token_embd.weight: fetch it again")
        width = self.fields.get(f"{self.architecture}.feed_forward_length")
        config |= {
            "model_type": ARCHITECTURES[self.architecture],
            "vocab_size": embedding.shape[0],
            "intermediate_size": config.get("moe_intermediate_size") if width is None else width,
            "tie_word_embeddings": "lm_head.weight" not in self._rows,
            "hidden_act": "silu",
            "attention_bias": False,
            "torch_dtype": "bfloat16",
        }
        if self.architecture == "qwen3moe":  # llama.cpp always divides by the sum of the weights.
            config |= {"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}
        return config

    def names(self) -> set[str]:
        return set(self._rows)

    def shape(self, name: str) -> tuple[int, ...]:
        rows = self._rows[name]
        return rows.shape if rows.entry is None else rows.shape[1:]

    def dtype(self, name: str) -> torch.dtype:
        if name not in self._rows:
            raise CheckpointError(f"{name} is missing from {self.path}")
        return torch.bfloat16

    def is_computed(self, name: str) -> bool:
        return True

    def compute(self, name: str) -> Tensor:
        import numpy as np
        from gguf.quants import dequantize

        rows, shape = self._rows[name], self.shape(name)
        n_bytes = rows.n_bytes if rows.entry is None else rows.n_bytes // rows.shape[0]
        held = np.frombuffer(self._read(rows.offset + (rows.entry or 0) * n_bytes, n_bytes), "u1")
        n_rows = math.prod(shape[:-1])
        if rows.kind.name in ("F32", "F16"):
            held = held.view({"F32": "<f4", "F16": "<f2"}[rows.kind.name])
        decoded = dequantize(held.reshape(n_rows, -1), rows.kind)
        return torch.from_numpy(np.array(decoded, dtype="f4")).view(shape)

    def file_stamps(self) -> list[str]:
        return [f"{self.path.name} {self._stamp_now()}"]

    def is_unchanged(self) -> bool:
        """True if the file on disk is still the one whose header was read.

        Raises:
            CheckpointError: the file is missing.
        """
        return self._stamp_now() == self._stamp

    def _read(self, offset: int, n_bytes: int) -> bytes:
        try:
            if not self.is_unchanged():
                raise CheckpointError(
                    f"{self.path} has changed since the model was loaded from it: load it again"
                )
            with self.path.open("rb", buffering=0) as file:
                file.seek(offset)
                held = file.read(n_bytes)
        except OSError as error:
            raise CheckpointError(f"{self.path} can no longer be read ({error})") from error
        if len(held) != n_bytes:
            raise CheckpointError(f"{self.path} is truncated: fetch it again")
        return held

    def _stamp_now(self) -> str:
        try:
            stat = self.path.stat()
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read ({error.strerror})") from error
        return f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"

    def _field(self, key: str) -> Any:
        full = f"{self.architecture}.{key}"
        if full not in self.fields:
            raise CheckpointError(f"{self.path} has no field {full}: fetch it again")
        value = self.fields[full]
        return _shortest(value) if isinstance(value, float) else value

    def _check_fields(self) -> None:
        allowed = dict(MUST_BE)
        allowed["attention.value_length"] = (self._field("attention.key_length"),)
        allowed["rope.dimension_count"] = (self._field("attention.key_length"),)
        for key, values in allowed.items():
            found = self.fields.get(f"{self.architecture}.{key}", values[0])
            if found not in values:
                raise CheckpointError(
                    f"{self.path} gives {self.architecture}.{key} as {str(found)[:60]}, which is "
                    "not read: load the model's safetensors release"
                )


def _shortest(value: float) -> float:
    """The number with the fewest digits that is this float32, such as 1e-06 for 9.9999999e-07."""
    import numpy as np

    return float(str(np.float32(value)))


def _header(path: Path) -> tuple[dict[str, Any], dict[str, StackedRows]]:
    """The plain fields of a file, and its tensors under llama.cpp's names."""
    from gguf import GGUFReader

    try:
        if not path.is_file():
            raise CheckpointError(f"{path} is not a file: expected a .gguf file")
        reader = GGUFReader(path)
        fields = {
            name: field.contents()
            for name, field in reader.fields.items()
            if not name.startswith("tokenizer.")
        }
        stored = {
            each.name: StackedRows(
                kind=each.tensor_type,
                shape=tuple(int(size) for size in reversed(each.shape)),
                offset=int(each.data_offset),
                n_bytes=int(each.n_bytes),
            )
            for each in reader.tensors
        }
    except (ValueError, KeyError, IndexError, OverflowError, TypeError, OSError) as error:
        reason = one_line(str(error), width=200)
        raise CheckpointError(
            f"{path} is no complete GGUF file ({reason}): fetch it again"
        ) from error
    return fields, stored


def _architecture(path: Path, fields: Mapping[str, Any]) -> str:
    found = fields.get("general.architecture")
    if found not in ARCHITECTURES:
        raise CheckpointError(
            f"{path} is a GGUF file of the architecture {one_line(str(found), width=60)!r}: this "
            f"package runs {' and '.join(ARCHITECTURES)}"
        )
    n_parts = fields.get("split.count", 1)
    if n_parts not in (0, 1):
        raise CheckpointError(
            f"{path} is one of {n_parts} parts of a GGUF file: join them first "
            "(llama-gguf-split --merge)"
        )
    return str(found)


def _published(stored: Mapping[str, StackedRows]) -> dict[str, StackedRows]:
    """The tensors by published name; experts of a stack have one each."""
    rows: dict[str, StackedRows] = {}
    for name, held in stored.items():
        match = re.fullmatch(r"blk\.(\d{1,4})\.(\w+)\.weight", name)
        inner = match[2] if match else ""
        if match and inner in EXPERTS and len(held.shape) == 3:
            for entry in range(held.shape[0]):
                published = f"model.layers.{match[1]}.mlp.experts.{entry}.{EXPERTS[inner]}.weight"
                rows[published] = StackedRows(
                    held.kind, held.shape, held.offset, held.n_bytes, entry
                )
        elif match and inner in INSIDE:
            rows[f"model.layers.{match[1]}.{INSIDE[inner]}.weight"] = held
        else:
            rows[OUTSIDE.get(name, name)] = held
    return rows
