"""GGUF files of Qwen3: llama.cpp's names, stacked experts, and quantised rows.

Rows are decoded by the `gguf` package, matrix by matrix. The file is read, not mapped, once its
header is known: a file that is cut short is an error like any other.

Source: llama.cpp's `gguf-py` (`constants.py`, `tensor_mapping.py`, `quants.py`).
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qwen3lab.checkpoints.computed_tensors import ComputedTensors
from qwen3lab.checkpoints.formats.packed_format import Grouped
from qwen3lab.checkpoints.gguf_header import StackedRows, read_parts
from qwen3lab.checkpoints.gguf_rows import BLOCK_BYTES, decoded_rows, grouped_rows
from qwen3lab.checkpoints.packed_tensors import PackedTensor
from qwen3lab.checkpoints.tensor_names import StoredPart
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


class GgufFile(ComputedTensors):
    """One GGUF file, or all parts of a split one: config, and tensors under published names.

    Args:
        path: of the file, or of any of its parts.

    Raises:
        CheckpointError: the file is damaged, of another architecture, or a part of it is missing.
        ImportError: the `gguf` package is not installed.
    """

    def __init__(self, path: Path) -> None:
        header = read_parts(path)
        self.path = header.paths[0]
        super().__init__(None, str(self.path))
        self.paths, self.fields = header.paths, header.fields
        self.architecture = _architecture(self.path, self.fields)
        self._rows = _published(header.tensors, str(self.path))
        self._stamps = {each: _stamp(each) for each in self.paths}

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
        if f"{self.architecture}.pooling_type" in self.fields and config["tie_word_embeddings"]:
            # An embedding model: llama.cpp, too, gives no logits of it.
            kind = "Qwen3MoeModel" if self.architecture == "qwen3moe" else "Qwen3Model"
            config |= {"architectures": [kind], "tie_word_embeddings": False}
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
        held = np.frombuffer(self._bytes(name), "u1")
        n_rows = math.prod(shape[:-1])
        if rows.kind.name in ("F32", "F16"):
            held = held.view({"F32": "<f4", "F16": "<f2"}[rows.kind.name])
        try:
            decoded = dequantize(held.reshape(n_rows, -1), rows.kind)
        except (NotImplementedError, ValueError, IndexError) as error:
            raise CheckpointError(
                f"{name} in {rows.path} is stored as {rows.kind.name}, which the gguf package does "
                "not decode: load another file of the model, such as Q8_0"
            ) from error
        return torch.from_numpy(np.array(decoded, dtype="f4")).view(shape)

    def packed(self, part: StoredPart) -> PackedTensor | None:
        """A matrix as it is stored; None if its kind is a float, or is decoded on the host only."""
        kind, shape = self._rows[part.name].kind.name, self.shape(part.name)
        if kind not in BLOCK_BYTES or len(shape) != 2 or part.entry is not None:
            return None
        held = torch.frombuffer(bytearray(self._bytes(part.name)), dtype=torch.uint8)
        return PackedTensor(
            {"rows": held.view(shape[0], -1)},
            partial(_decoded_rows, kind=kind),
            partial(_grouped_rows, kind=kind),
        )

    def packed_bytes(self, name: str) -> int | None:
        """Bytes of a matrix that `packed` reads; None for any other tensor."""
        if self._rows[name].kind.name not in BLOCK_BYTES or len(self.shape(name)) != 2:
            return None
        return self._n_bytes(name)

    def file_stamps(self) -> list[str]:
        return [f"{path.name} {_stamp(path)}" for path in self.paths]

    def is_unchanged(self) -> bool:
        """True if the files on disk are still those whose headers were read.

        Raises:
            CheckpointError: a file is missing.
        """
        return all(_stamp(path) == stamp for path, stamp in self._stamps.items())

    def _n_bytes(self, name: str) -> int:
        rows = self._rows[name]
        return rows.n_bytes if rows.entry is None else rows.n_bytes // rows.shape[0]

    def _bytes(self, name: str) -> bytes:
        """The bytes of a tensor, or of its entry in a stack."""
        rows, n_bytes = self._rows[name], self._n_bytes(name)
        return self._read(rows.path, rows.offset + (rows.entry or 0) * n_bytes, n_bytes)

    def _read(self, path: Path, offset: int, n_bytes: int) -> bytes:
        try:
            if _stamp(path) != self._stamps[path]:
                raise CheckpointError(
                    f"{path} has changed since the model was loaded from it: load it again"
                )
            with path.open("rb", buffering=0) as file:
                file.seek(offset)
                held = file.read(n_bytes)
        except OSError as error:
            raise CheckpointError(f"{path} can no longer be read ({error})") from error
        if len(held) != n_bytes:
            raise CheckpointError(f"{path} is truncated: fetch it again")
        return held

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
                shown = one_line(str(found), width=60)
                raise CheckpointError(
                    f"{self.path} gives {self.architecture}.{key} as {shown}, which is "
                    "not read: load the model's safetensors release"
                )


def _decoded_rows(parts: Mapping[str, Tensor], kind: str) -> Tensor:
    return decoded_rows(parts["rows"], kind)


def _grouped_rows(parts: Mapping[str, Tensor], kind: str) -> Grouped | None:
    return grouped_rows(parts["rows"], kind)


def _stamp(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    return f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"


def _shortest(value: float) -> float:
    """The number with the fewest digits that is this float32, such as 1e-06 for 9.9999999e-07."""
    import numpy as np

    return float(str(np.float32(value)))


def _architecture(path: Path, fields: Mapping[str, Any]) -> str:
    found = fields.get("general.architecture")
    if not isinstance(found, str) or found not in ARCHITECTURES:
        raise CheckpointError(
            f"{path} is a GGUF file of the architecture {one_line(str(found), width=60)!r}: this "
            f"package runs {' and '.join(ARCHITECTURES)}"
        )
    return found


def _published(stored: Mapping[str, StackedRows], source: str) -> dict[str, StackedRows]:
    """The tensors by published name; experts of a stack have one each."""
    rows: dict[str, StackedRows] = {}
    for name, held in stored.items():
        for published, each in _published_parts(name, held):
            if published in rows:
                raise CheckpointError(f"{source} holds {published} twice: fetch it again")
            rows[published] = each
    return rows


def _published_parts(name: str, held: StackedRows) -> Iterator[tuple[str, StackedRows]]:
    match = re.fullmatch(r"blk\.(\d{1,4})\.(\w+)\.weight", name)
    inner = match[2] if match else ""
    if match and inner in EXPERTS and len(held.shape) == 3:
        for entry in range(held.shape[0]):
            published = f"model.layers.{match[1]}.mlp.experts.{entry}.{EXPERTS[inner]}.weight"
            yield published, replace(held, entry=entry)
    elif match and inner in INSIDE:
        yield f"model.layers.{match[1]}.{INSIDE[inner]}.weight", held
    else:
        yield OUTSIDE.get(name, name), held
