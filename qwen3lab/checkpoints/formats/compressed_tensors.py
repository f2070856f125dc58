"""compressed-tensors: integers packed into words, int8, or float8, as llm-compressor writes them.

W = (q - z) * s, with a scale for the whole matrix, for each output, for groups of inputs, or for
blocks. "pack-quantized" holds q + 2^(bits - 1) in `weight_packed` [out, in * bits / 32] and zeros
packed along the outputs; "int-quantized" and "float-quantized" hold q in `weight`.

Source: compressed-tensors 0.20, `compressors/pack_quantized`, `compressors/naive_quantized`,
`quantization/lifecycle/forward.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.checkpoints.formats.config_fields import chosen
from qwen3lab.checkpoints.formats.packed_format import (
    FLOATS,
    INTEGER_WORDS,
    Grouped,
    PackedFormat,
    ReadPart,
    grouped,
    shared,
)
from qwen3lab.checkpoints.formats.words import WORD_BITS, unpacked
from qwen3lab.errors import CheckpointError
from qwen3lab.storage.tensor_header import StoredTensor

PACKED, INT8, FLOAT8 = "pack-quantized", "int-quantized", "float-quantized"
KINDS = {PACKED: ("int", (4, 8, 2)), INT8: ("int", (8,)), FLOAT8: ("float", (8,))}
"""Type and numbers of bits of each format."""
REORDERED = ("group", "dynamic", True)
"""Values of `actorder` with which `weight_g_idx` names the group of each input."""
ORDERS = (None, *REORDERED, "weight", "static", False)
STRATEGIES = ("group", "channel", "tensor", "block")


@dataclass(frozen=True)
class CompressedTensors(PackedFormat):
    """A compressed-tensors checkpoint.

    Attributes:
        kind: of `KINDS`.
        bits: of a value.
        strategy: which values share a scale, one of `STRATEGIES`.
        group_size: inputs that share a scale, for groups.
        block: outputs and inputs that share a scale, for blocks.
        is_symmetric: False if there are zeros.
        rounds_activations: True if its own kernels quantise activations, too.
        reorders: True if inputs were reordered, so that `weight_g_idx` names the group of each.
    """

    method: ClassVar[str] = "compressed-tensors"
    name: ClassVar[str] = "compressed-tensors"
    parts: ClassVar[Mapping[str, bool]] = {
        "weight_packed": False,
        "weight": False,
        "weight_scale": True,
        "weight_zero_point": False,
        "weight_g_idx": False,
        "weight_shape": False,
        "input_scale": False,
        "input_zero_point": False,
    }
    marker: ClassVar[str] = "weight_scale"

    kind: str
    bits: int
    strategy: str
    group_size: int
    block: tuple[int, int]
    is_symmetric: bool
    rounds_activations: bool
    reorders: bool

    @classmethod
    def from_config(cls, fields: Mapping[str, Any]) -> "CompressedTensors":
        """The format that a `quantization_config` describes.

        Raises:
            CheckpointError: settings that are not read.
        """
        for name in ("transform_config", "sparsity_config"):
            chosen({name: fields.get(name) or None}, name, (None,), cls.name)
        kind = chosen(fields, "format", tuple(KINDS), cls.name)
        weights, activations = _only_scheme(fields)
        kind_of_number, bits = KINDS[kind]
        chosen(weights, "type", (kind_of_number,), cls.name)
        strategy = chosen(weights, "strategy", STRATEGIES, cls.name)
        size, block = _sizes(weights, strategy)
        return cls(
            kind=kind,
            bits=chosen(weights, "num_bits", bits, cls.name),
            strategy=strategy,
            group_size=size,
            block=block,
            is_symmetric=chosen(weights, "symmetric", (True, False), cls.name),
            rounds_activations=activations,
            reorders=chosen(weights, "actorder", ORDERS, cls.name) in REORDERED,
        )

    @property
    def described(self) -> str:
        shared = {
            "group": f"in {grouped(self.group_size)}",
            "channel": "with a scale for each output",
            "tensor": "with one scale for a matrix",
            "block": f"in blocks of {self.block[0]} x {self.block[1]}",
        }
        return f"{self.name} ({self.kind}), {self.bits} bits {shared[self.strategy]}"

    @property
    def note(self) -> str:
        if not self.rounds_activations:
            return ""
        return (
            "its own kernels also round activations, which is not done here: logits differ by that"
        )

    def shape(
        self, module: str, stored: Mapping[str, StoredTensor], read: ReadPart
    ) -> tuple[int, int]:
        self.check_parts(module, stored)
        n_out, n_in = self._shape(module, stored, read)
        scales = self._n_scales(n_out, n_in)
        shapes = [scales] if self.strategy != "tensor" else [(1,), (1, 1), ()]
        if stored["weight_scale"].shape not in shapes or stored["weight_scale"].code not in FLOATS:
            self.expect(module, "weight_scale", stored, FLOATS, shapes[0])
        if not self.is_symmetric:
            if "weight_zero_point" not in stored:
                raise CheckpointError(
                    f"{module}.weight_zero_point is missing: fetch the files again"
                )
            if self.kind == PACKED:
                words = (-(-n_out * self.bits // WORD_BITS), scales[1])
                self.expect(module, "weight_zero_point", stored, INTEGER_WORDS, words)
            else:
                shape = stored["weight_scale"].shape
                self.expect(module, "weight_zero_point", stored, ("I8",), shape)
        if self.reorders and "weight_g_idx" not in stored:
            raise CheckpointError(
                f"{module}.weight_g_idx is missing, without which actorder cannot be undone: fetch "
                "the files again"
            )
        if "weight_g_idx" in stored:
            self.expect(module, "weight_g_idx", stored, INTEGER_WORDS, (n_in,))
        return n_out, n_in

    def decode(self, module: str, tensors: Mapping[str, Tensor]) -> Float[Tensor, "out in"]:
        offset = 2 ** (self.bits - 1)
        if self.kind == PACKED:
            n_in = int(tensors["weight_shape"][1])
            q = (unpacked(tensors["weight_packed"], self.bits)[:, :n_in] - offset).float()
        else:
            q = tensors["weight"].float()
        scales = tensors["weight_scale"].float()
        scales = scales.view(1, 1) if self.strategy == "tensor" else scales
        zeros = torch.zeros(())
        if self.is_symmetric and bool(tensors.get("weight_zero_point", zeros).any()):
            raise CheckpointError(
                f"{module}.weight_zero_point has values that are not 0, and quantization_config "
                "says that weights are symmetric: fetch config.json and weights together"
            )
        if not self.is_symmetric:
            zeros = tensors["weight_zero_point"]
            if self.kind == PACKED:
                zeros = unpacked(zeros.T.contiguous(), self.bits).T[: len(q)] - offset
            zeros = self._spread(module, zeros.float().view_as(scales), q, tensors)
        return (q - zeros) * self._spread(module, scales, q, tensors)

    def grouped(self, module: str, tensors: Mapping[str, Tensor]) -> Grouped | None:
        is_in_order = self.strategy in ("group", "channel") and "weight_g_idx" not in tensors
        if self.kind != PACKED or self.bits != 4 or not is_in_order:
            return None
        n_in, scales = int(tensors["weight_shape"][1]), tensors["weight_scale"].float()
        size = n_in // scales.shape[1] if self.group_size == -1 else self.group_size
        if n_in != size * scales.shape[1]:
            return None
        q = unpacked(tensors["weight_packed"], self.bits)[:, :n_in]
        zeros = torch.full_like(scales, 2 ** (self.bits - 1))
        if not self.is_symmetric:
            packed = tensors["weight_zero_point"].T.contiguous()
            zeros = unpacked(packed, self.bits).T[: len(q)].float()
        return Grouped(q, scales, -scales * zeros, size)

    def _shape(
        self, module: str, stored: Mapping[str, StoredTensor], read: ReadPart
    ) -> tuple[int, int]:
        """The matrix's shape, of its own tensor."""
        part = "weight_packed" if self.kind == PACKED else "weight"
        if part not in stored:
            raise CheckpointError(f"{module}.{part} is missing: fetch the files again")
        self.expect_axes(module, stored, {part: 2})
        n_out, n_in = stored[part].shape
        if self.kind != PACKED:
            code = "I8" if self.kind == INT8 else "F8_E4M3"
            self.expect(module, part, stored, (code,), (n_out, n_in))
            return n_out, n_in
        if "weight_shape" not in stored or stored["weight_shape"].shape != (2,):
            raise CheckpointError(f"{module}.weight_shape is missing: fetch the files again")
        self.expect(module, "weight_shape", stored, ("I64", "I32"), (2,))
        shape = tuple(int(size) for size in read("weight_shape"))
        n_words = -(-shape[1] * self.bits // WORD_BITS)
        self.expect(module, part, stored, INTEGER_WORDS, (shape[0], n_words))
        return shape[0], shape[1]

    def _n_scales(self, n_out: int, n_in: int) -> tuple[int, int]:
        """The shape of the scales."""
        if self.strategy == "block":
            return -(-n_out // self.block[0]), -(-n_in // self.block[1])
        if self.strategy == "group":
            return n_out, -(-n_in // self.group_size)
        return (n_out, 1) if self.strategy == "channel" else (1, 1)

    def _spread(
        self, module: str, values: Tensor, q: Tensor, tensors: Mapping[str, Tensor]
    ) -> Tensor:
        """A value for each of the matrix's, of those that share one."""
        if self.strategy == "block":
            rows, columns = (shared(*pair) for pair in zip(q.shape, self.block, strict=True))
            return values[rows][:, columns]
        if self.strategy != "group":
            return values
        groups = shared(q.shape[1], self.group_size)
        if "weight_g_idx" in tensors:
            groups = tensors["weight_g_idx"].long()
            if not 0 <= int(groups.min()) <= int(groups.max()) < values.shape[1]:
                raise CheckpointError(
                    f"{module}.weight_g_idx names groups {int(groups.min())} to "
                    f"{int(groups.max())}: expected some of 0 to {values.shape[1] - 1}"
                )
        return values[:, groups]


def _sizes(weights: Mapping[str, Any], strategy: str) -> tuple[int, tuple[int, int]]:
    """Group size and block of a strategy; -1 and zeros where it has none."""
    size = weights.get("group_size") if strategy == "group" else -1
    found = weights.get("block_structure") if strategy == "block" else (0, 0)
    block: list[Any] = list(found) if isinstance(found, list | tuple) else []
    is_pair = len(block) == 2 and all(type(each) is int for each in block)
    if type(size) is not int or size == 0 or not is_pair:
        raise CheckpointError(
            f"quantization_config gives no sizes for the strategy {strategy!r}: expected a "
            "group_size, or a block_structure of two sizes"
        )
    rows, columns = block
    if size < -1 or (strategy == "block" and min(rows, columns) < 1):
        raise CheckpointError(
            f"quantization_config gives the sizes {size} and {rows} x {columns} for the strategy "
            f"{strategy!r}: expected more than 0"
        )
    return size, (rows, columns)


def _only_scheme(fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The settings of weights, which all groups share, and whether activations are quantised."""
    groups = fields.get("config_groups")
    schemes = list(groups.values()) if isinstance(groups, Mapping) else []
    weights = [
        each["weights"] for each in schemes if isinstance(each, Mapping) and "weights" in each
    ]
    if not weights or len(weights) < len(schemes):
        raise CheckpointError("quantization_config has no config_groups with weights")
    if not isinstance(weights[0], Mapping) or any(each != weights[0] for each in weights):
        raise CheckpointError(
            "quantization_config gives groups of modules different settings, which are not read: "
            "load another release of the model"
        )
    first = {name: value for name, value in weights[0].items() if value is not None}
    return first, any(each.get("input_activations") is not None for each in schemes)
