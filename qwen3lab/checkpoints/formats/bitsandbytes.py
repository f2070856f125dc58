"""bitsandbytes: NF4 and FP4 with a scale for each block, and int8 with a scale for each output.

Four bits: `weight` holds two values in a byte, the first in the high bits, of the flat matrix;
`weight.quant_map` [16] holds the levels, `weight.absmax` a scale for each block of values. Scales
can be quantised themselves, with `weight.nested_absmax` and `weight.nested_quant_map`. The shape
and the sizes of blocks stand in `weight.quant_state.bitsandbytes__nf4`, JSON in bytes.

Eight bits: `weight` int8 [out, in], `SCB` [out]; W = weight * SCB / 127.

Source: bitsandbytes 0.50, `functional.py` (`QuantState.from_dict`, `dequantize_4bit`,
`int8_vectorwise_dequant`).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from qwen3lab.checkpoints.formats.config_fields import chosen
from qwen3lab.checkpoints.formats.packed_format import PackedFormat, ReadPart
from qwen3lab.errors import CheckpointError
from qwen3lab.storage.tensor_header import StoredTensor

LEVELS = {
    "nf4": (
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ),
    "fp4": tuple(sign * level / 12 for sign in (1, -1) for level in (0, 0.0625, 8, 12, 4, 6, 2, 3)),
}
"""Values of the sixteen codes of each kind, as the library has them whatever a file says."""

STATE = "weight.quant_state.bitsandbytes__"
MAX_STATE_BYTES = 10_000
BLOCKS = tuple(2**n for n in range(5, 13))
"""Sizes of blocks that the library reads."""
INT8_LEVELS = 127
MAX_ROUNDING = 1e-6
"""Largest difference of a stored level from the library's."""


def from_config(fields: Mapping[str, Any]) -> PackedFormat:
    """The format that a `quantization_config` describes.

    Raises:
        CheckpointError: it says neither four nor eight bits, or something else than true or false.
    """
    names, allowed = ("load_in_4bit", "load_in_8bit"), (False, True, None)
    four, eight = (chosen(fields, name, allowed, "bitsandbytes") is True for name in names)
    if four == eight:
        raise CheckpointError(
            "quantization_config says neither load_in_4bit nor load_in_8bit, or both: expected one "
            "of them for bitsandbytes"
        )
    return Bits4() if four else Bits8()


@dataclass(frozen=True)
class Bits4(PackedFormat):
    """A checkpoint in NF4 or FP4."""

    method: ClassVar[str] = "bitsandbytes"
    name: ClassVar[str] = "bitsandbytes"
    parts: ClassVar[Mapping[str, bool]] = {
        "weight": True,
        "weight.absmax": True,
        "weight.quant_map": True,
        "weight.nested_absmax": False,
        "weight.nested_quant_map": False,
        **{f"{STATE}{kind}": False for kind in LEVELS},
    }
    marker: ClassVar[str] = "weight.absmax"

    @property
    def described(self) -> str:
        return f"{self.name}, 4 bits"

    def shape(
        self, module: str, stored: Mapping[str, StoredTensor], read: ReadPart
    ) -> tuple[int, int]:
        self.check_parts(module, stored)
        state = _state(module, stored, read)
        n_out, n_in = state.shape
        n = n_out * n_in
        n_blocks = -(-n // state.block)
        # Older files store the bytes as a column.
        bytes_shape = (-(-n // 2), 1) if len(stored["weight"].shape) == 2 else (-(-n // 2),)
        self.expect(module, "weight", stored, ("U8",), bytes_shape)
        self.expect(module, "weight.quant_map", stored, ("F32",), (16,))
        is_nested = "weight.nested_absmax" in stored
        scale_codes = ("U8",) if is_nested else ("F32",)
        self.expect(module, "weight.absmax", stored, scale_codes, (n_blocks,))
        others = {state.nested_block > 0, "weight.nested_quant_map" in stored}
        if others != {is_nested} or (is_nested and state.nested_offset is None):
            raise CheckpointError(
                f"{module} has only some of the tensors of scales that are quantised themselves: "
                "fetch the files of the model again"
            )
        if is_nested:
            n_nested = -(-n_blocks // state.nested_block)
            self.expect(module, "weight.nested_absmax", stored, ("F32",), (n_nested,))
            self.expect(module, "weight.nested_quant_map", stored, ("F32",), (256,))
        return n_out, n_in

    def decode(self, module: str, tensors: Mapping[str, Tensor]) -> Float[Tensor, "out in"]:
        state = _state(module, tensors, tensors.__getitem__)
        levels = torch.tensor(LEVELS[state.kind], device=tensors["weight"].device)
        if float((tensors["weight.quant_map"] - levels).abs().max()) > MAX_ROUNDING:
            raise CheckpointError(
                f"{module}.weight.quant_map holds other levels than {state.kind} has: fetch the "
                "files of the model again"
            )
        n_out, n_in = state.shape
        packed = tensors["weight"].flatten()
        codes = torch.stack([packed >> 4, packed & 15], dim=1).flatten()[: n_out * n_in]
        scales = _scales(tensors, state).repeat_interleave(state.block)[: n_out * n_in]
        return (levels[codes.int()] * scales).view(n_out, n_in)


@dataclass(frozen=True)
class Bits8(PackedFormat):
    """A checkpoint in int8."""

    method: ClassVar[str] = "bitsandbytes"
    name: ClassVar[str] = "bitsandbytes"
    parts: ClassVar[Mapping[str, bool]] = {"weight": True, "SCB": True, "weight_format": False}
    marker: ClassVar[str] = "SCB"

    @property
    def described(self) -> str:
        return f"{self.name}, 8 bits"

    @property
    def note(self) -> str:
        return (
            "its own kernels also round most activations to int8, which is not done here: logits "
            "differ by that"
        )

    def is_packed(self, stored: Mapping[str, StoredTensor]) -> bool:
        weight = stored.get("weight")
        return super().is_packed(stored) or (weight is not None and weight.code == "I8")

    def shape(
        self, module: str, stored: Mapping[str, StoredTensor], read: ReadPart
    ) -> tuple[int, int]:
        self.check_parts(module, stored)
        self.expect_axes(module, stored, {"weight": 2})
        n_out, n_in = stored["weight"].shape
        self.expect(module, "weight", stored, ("I8",), (n_out, n_in))
        self.expect(module, "SCB", stored, ("F32",), (n_out,))
        if "weight_format" in stored:
            self.expect(module, "weight_format", stored, ("U8",), ())
            if int(read("weight_format")) != 0:
                raise CheckpointError(
                    f"{module}.weight_format is {int(read('weight_format'))}: only rows (0) are "
                    "read; save the model again with a newer bitsandbytes"
                )
        return n_out, n_in

    def decode(self, module: str, tensors: Mapping[str, Tensor]) -> Float[Tensor, "out in"]:
        return tensors["weight"].float() * tensors["SCB"][:, None] * (1 / INT8_LEVELS)


@dataclass(frozen=True)
class _State:
    """What a module in four bits says about itself."""

    kind: str
    shape: tuple[int, int]
    block: int
    nested_block: int
    nested_offset: float | None


def _state(module: str, held: Mapping[str, Any], read: ReadPart) -> _State:
    """The state in a module's JSON.

    Raises:
        CheckpointError: it has none, or a value that is not read.
    """
    kinds = [kind for kind in LEVELS if f"{STATE}{kind}" in held]
    if len(kinds) != 1:
        raise CheckpointError(
            f"{module} has {len(kinds)} tensors {STATE}nf4 or {STATE}fp4, without which "
            "bitsandbytes weights cannot be decoded: fetch the files of the model again"
        )
    part = f"{STATE}{kinds[0]}"
    values = read(part)
    if values.dtype != torch.uint8 or values.ndim != 1 or len(values) > MAX_STATE_BYTES:
        raise CheckpointError(f"{module}.{part} is no row of at most {MAX_STATE_BYTES} bytes")
    try:
        fields = json.loads(bytes(values.tolist()).decode())
        shape, block = tuple(fields["shape"]), fields["blocksize"]
        nested = fields.get("nested_blocksize", 0)
        offset = float(fields.get("nested_offset", 0.0))
        is_right = fields["quant_type"] == kinds[0] and block in BLOCKS and type(block) is int
        is_right &= len(shape) == 2 and all(type(n) is int and 0 < n < 2**31 for n in shape)
        is_right &= type(nested) is int and (nested == 0 or nested in BLOCKS)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{module}.{part} is damaged: fetch the file again") from error
    if not is_right or not math.isfinite(offset):
        raise CheckpointError(
            f"{module}.{part} gives a type, a shape or a size of blocks that bitsandbytes does not "
            "write: fetch the file again"
        )
    has_offset = "nested_offset" in fields
    return _State(kinds[0], (shape[0], shape[1]), block, nested, offset if has_offset else None)


def _scales(tensors: Mapping[str, Tensor], state: _State) -> Float[Tensor, " block"]:
    """The scale of each block."""
    scales: UInt8[Tensor, " block"] | Float[Tensor, " block"] = tensors["weight.absmax"]
    if not state.nested_block:
        return scales.float()
    levels = tensors["weight.nested_quant_map"][scales.int()]
    by_block = tensors["weight.nested_absmax"].repeat_interleave(state.nested_block)
    return levels * by_block[: len(scales)] + (state.nested_offset or 0.0)
