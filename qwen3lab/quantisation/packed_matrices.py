"""Quantised matrices in int8 and int4: storage, dequantisation and products.

`torchao` chooses the scales and rounds. Products use torch's quantised kernels where these are
faster; otherwise a matrix is dequantised for the duration of one product.
"""

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, Int8 as Int8Array, UInt8
from torch import Tensor, nn

from qwen3lab.device.grad_mode import without_grad
from qwen3lab.errors import CheckpointError
from qwen3lab.quantisation.torch_int4_layout import pack_int4, unpack_int4

GROUP_SIZE = 32
"""Number of consecutive int4 weights in a row that share a scale and a zero point."""
MAX_ROWS_INT8_KERNEL = 16
"""Maximum input rows for which the int8 kernel is faster than dequantising (measured)."""
MAX_ROWS_INT4_KERNEL = 128
"""The same for the int4 kernel; dequantising int4 takes longer."""
INT8_COLUMN_MULTIPLE = 32
"""The int8 kernel may read this many columns at once.

With another number of columns it would read beyond the end of a row.
"""
ROW_MULTIPLE = 16
"""The int4 kernel for CPUs needs a multiple of so many rows."""
FLIPPED_SIGNS = 0x88
"""Turns the two values of a byte, 0 to 15, into -8 to 7 in two's complement, and back."""
Int8Values = Int8Array[Tensor, "matrix row half"]


class PackedMatrices(nn.Module):
    """Quantised matrices of one shape.

    Args:
        shape: number of matrices, rows and columns.
        device: of the buffers.
        dtype: of the inputs and outputs of products.

    Attributes:
        squared_error: sum of squares of the rounding errors.
        squared_norm: sum of squares of the original weights.
    """

    kind: str

    def __init__(
        self, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.shape, self.device, self.dtype = shape, device, dtype
        self.squared_error, self.squared_norm = 0.0, 0.0

    @without_grad
    def store(self, index: int, matrix: Float[Tensor, "row column"]) -> None:
        """Quantise a matrix and store it as number `index`."""
        self._quantise(index, matrix)
        self.squared_error += float((self.dequantise(index) - matrix).float().square().sum())
        self.squared_norm += float(matrix.float().square().sum())

    def matmul(
        self, x: Float[Tensor, "row_in column"], index: int = 0
    ) -> Float[Tensor, "place row"]:
        """`x` times the transpose of a matrix, as in a linear layer."""
        return F.linear(x, self.dequantise(index))

    def dequantise(self, index: int = 0) -> Float[Tensor, "row column"]:
        """A matrix in full precision, with its rounding errors."""
        raise NotImplementedError

    def stored(self, *, single: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The parts of the torchao tensor with these values, and its metadata in a file.

        Args:
            single: without the axis of the matrices, of which there is one.
        """
        raise NotImplementedError

    def restore(self, parts: dict[str, Tensor]) -> None:
        """Take the parts that `stored` gave."""
        raise NotImplementedError

    def torchao_config(self) -> dict[str, Any]:
        """The torchao config of such tensors, as JSON."""
        raise NotImplementedError

    def _quantise(self, index: int, matrix: Float[Tensor, "row column"]) -> None:
        """Round a matrix and store it as number `index`."""
        raise NotImplementedError

    def _add_buffer(self, name: str, *shape: int, dtype: torch.dtype) -> Tensor:
        """A new buffer for all matrices, which is not part of the state dict."""
        buffer = torch.empty(self.shape[0], *shape, device=self.device, dtype=dtype)
        self.register_buffer(name, buffer, persistent=False)
        return buffer


class Int8(PackedMatrices):
    """Eight bits per weight and a scale per row: `w = q * scale` with |q| at most 127."""

    kind = "int8"

    def __init__(
        self, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(shape, device, dtype)
        self.q = self._add_buffer("q", *shape[1:], dtype=torch.int8)
        self.scale = self._add_buffer("scale", shape[1], dtype=_scale_dtype(dtype))

    def matmul(
        self, x: Float[Tensor, "row_in column"], index: int = 0
    ) -> Float[Tensor, "place row"]:
        if self.has_kernel(x):
            return torch.ops.aten._weight_int8pack_mm(x, self.q[index], self.scale[index])
        return super().matmul(x, index)

    def has_kernel(self, x: Float[Tensor, "row_in column"]) -> bool:
        """True if torch's int8 kernel is correct and faster for this input."""
        is_correct = self.shape[2] % INT8_COLUMN_MULTIPLE == 0
        return is_correct and len(x) <= MAX_ROWS_INT8_KERNEL and _has_kernels(x)

    def dequantise(self, index: int = 0) -> Float[Tensor, "row column"]:
        scale = self.scale[index, :, None]
        return (self.q[index].to(scale.dtype) * scale).to(self.dtype)

    def _quantise(self, index: int, matrix: Float[Tensor, "row column"]) -> None:
        block, ao = (1, self.shape[2]), _torchao()
        symmetric = ao.MappingType.SYMMETRIC
        limits = {"quant_min": -127, "quant_max": 127}
        options = {"eps": _min_scale(self.scale.dtype), "scale_dtype": torch.float32, **limits}
        scale, zero = ao.choose_qparams_affine(matrix, symmetric, block, torch.int8, **options)
        self.scale[index] = scale
        # Round with the stored scale, which may have fewer bits than the chosen one.
        stored = self.scale[index].float()
        self.q[index] = ao.quantize_affine(matrix, block, stored, zero, torch.int8, **limits)

    def stored(self, *, single: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        parts = {"qdata": self.q, "scale": self.scale[..., None]}
        about = {
            "act_quant_kwargs": None,
            "reduce_range": False,
            "block_size": [1] * (1 if single else 2) + [self.shape[2]],
            "dtype": _json_of(self.dtype),
        }
        return _shown(parts, single), _torchao_tensor("Int8Tensor", about, parts)

    def restore(self, parts: dict[str, Tensor]) -> None:
        self.q.copy_(parts["qdata"].view(self.q.shape))
        self.scale.copy_(parts["scale"].view(self.scale.shape))

    def torchao_config(self) -> dict[str, Any]:
        by_row = {"_type": "PerRow", "_version": 1, "_data": {"dim": -1}}
        options = {"group_size": None, "granularity": by_row, "set_inductor_config": True}
        return {"_type": "Int8WeightOnlyConfig", "_version": 2, "_data": options}


class Int4(PackedMatrices):
    """Four bits per weight, scale and zero per group: `w = (q - 8) * scale + zero`.

    Two consecutive weights share a byte, the first in the lower nibble.
    """

    kind = "int4"

    def __init__(
        self,
        shape: tuple[int, int, int],
        device: torch.device,
        dtype: torch.dtype,
        group_size: int = GROUP_SIZE,
    ) -> None:
        super().__init__(shape, device, dtype)
        self.group_size = group_size
        _, rows, columns = shape
        self.q = self._add_buffer("q", rows, columns // 2, dtype=torch.uint8)
        # Groups before rows, as torch's kernel requires.
        self.scale_zero = self._add_buffer(
            "scale_zero", columns // group_size, rows, 2, dtype=_scale_dtype(dtype)
        )

    def dequantise(self, index: int = 0) -> Float[Tensor, "row column"]:
        q = self._unpack_values(index).unflatten(-1, (-1, self.group_size)).float()
        spread = "group row both -> both row group 1"
        scale, zero = rearrange(self.scale_zero[index], spread).float()
        return q.mul_(scale).add_(zero - 8 * scale).to(self.dtype).flatten(1)

    def _quantise(self, index: int, matrix: Float[Tensor, "row column"]) -> None:
        block, ao = (1, GROUP_SIZE), _torchao()
        limits = {"quant_min": 0, "quant_max": 15}
        least = _min_scale(self.scale_zero.dtype)
        options = {"eps": least, "scale_dtype": torch.float32, **limits}
        chosen = ao.choose_qparams_affine(
            matrix, ao.MappingType.ASYMMETRIC, block, torch.int32, keepdim=True, **options
        )
        # Shape (row, group), also if a row is a single group.
        scale, zero_point = (parameter.reshape(len(matrix), -1) for parameter in chosen)
        q = ao.quantize_affine(matrix, block, scale, zero_point, torch.int32, **limits)
        zero = (8 - zero_point) * scale
        self.scale_zero[index] = torch.stack([scale, zero], dim=-1).transpose(0, 1)
        self._store_values(index, q)

    def stored(self, *, single: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As in `PackedMatrices`; torchao's values are those here minus 8, in two's complement."""
        scale, zero = (part.contiguous() for part in self.scale_zero.unbind(dim=-1))
        parts = {"qdata": self._signed_values(), "scale": scale, "zero_point": zero}
        n, rows, columns = self.shape
        about = {
            "activation_dtype": _json_of(torch.bfloat16),
            "block_size": [1] * (1 if single else 2) + [GROUP_SIZE],
            "shape": [rows, columns] if single else [n, rows, columns],
        }
        return _shown(parts, single), _torchao_tensor("Int4Tensor", about, parts)

    def _signed_values(self) -> Int8Values:
        n, rows, columns = self.shape
        out = torch.empty(n, rows, columns // 2, dtype=torch.int8, device=self.device)
        if out.is_meta:
            return out
        for index in range(n):
            first, second = self._unpack_values(index).unflatten(-1, (-1, 2)).unbind(dim=-1)
            out[index] = ((first | second << 4) ^ FLIPPED_SIGNS).view(torch.int8)
        return out

    def restore(self, parts: dict[str, Tensor]) -> None:
        both = [parts[name].view(self.scale_zero.shape[:-1]) for name in ("scale", "zero_point")]
        self.scale_zero.copy_(torch.stack(both, dim=-1))
        n, rows, columns = self.shape
        signed = parts["qdata"].view(n, rows, columns // 2)
        for index in range(n):
            both_values = signed[index].view(torch.uint8) ^ FLIPPED_SIGNS
            values = torch.stack([both_values & 15, both_values >> 4], dim=-1).flatten(1)
            self._store_values(index, values.int().to(self.device))

    def torchao_config(self) -> dict[str, Any]:
        options = {
            "group_size": GROUP_SIZE,
            "set_inductor_config": True,
            "int4_packing_format": {"_type": "Int4PackingFormat", "_data": "PLAIN"},
            "int4_choose_qparams_algorithm": {
                "_type": "Int4ChooseQParamsAlgorithm",
                "_data": "TINYGEMM",
            },
            "int4_tile_packed_ntile": 8,
        }
        return {"_type": "Int4WeightOnlyConfig", "_version": 2, "_data": options}

    def _unpack_values(self, index: int) -> UInt8[Tensor, "row column"]:
        """The stored value of each weight, from 0 to 15."""
        return torch.stack([self.q[index] & 15, self.q[index] >> 4], dim=-1).flatten(1)

    def _store_values(self, index: int, q: Int[Tensor, "row column"]) -> None:
        first, second = q.to(torch.uint8).unflatten(-1, (-1, 2)).unbind(dim=-1)
        self.q[index] = first | second << 4


class Int4ForCpu(Int4):
    """Int4 in the memory layout of torch's CPU kernel."""

    def matmul(
        self, x: Float[Tensor, "row_in column"], index: int = 0
    ) -> Float[Tensor, "place row"]:
        if len(x) > MAX_ROWS_INT4_KERNEL or not _has_kernels(x):
            return super().matmul(x, index)
        scales = self.scale_zero[index]
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.q[index], self.group_size, scales)

    def _unpack_values(self, index: int) -> UInt8[Tensor, "row column"]:
        return unpack_int4(self.q[index])

    def _store_values(self, index: int, q: Int[Tensor, "row column"]) -> None:
        self.q[index] = pack_int4(q)


KINDS: dict[str, type[PackedMatrices]] = {"int8": Int8, "int4": Int4}
PackFunction = Callable[[Float[Tensor, "*n row column"]], PackedMatrices]


def make_packer(kind: str) -> PackFunction:
    """A function that quantises a matrix, or a stack of matrices.

    Args:
        kind: one of `KINDS`.

    Raises:
        CheckpointError: an unknown kind, or torchao is missing.
    """
    if kind not in KINDS:
        raise CheckpointError(
            f"quantise is {kind!r}: choose from {', '.join(KINDS)}; or keep, for a checkpoint "
            "whose weights are packed"
        )
    _torchao()

    def pack(matrices: Float[Tensor, "*n row column"]) -> PackedMatrices:
        stack = matrices.detach()[None] if matrices.ndim == 2 else matrices.detach()
        n, rows, columns = stack.shape
        if kind == "int4" and columns % GROUP_SIZE:
            raise CheckpointError(
                f"a matrix of {columns} columns cannot be split into groups of {GROUP_SIZE}, as "
                "int4 requires: choose int8"
            )
        packed = empty_matrices(kind, (n, rows, columns), stack.device, stack.dtype)
        for index, matrix in enumerate(stack):
            packed.store(index, matrix)
        return packed

    return pack


def empty_matrices(
    kind: str, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
) -> PackedMatrices:
    """Matrices without values, in the layout that is fastest on the device.

    Args:
        kind: one of `KINDS`.
        shape: number of matrices, rows and columns.
        device: of the buffers.
        dtype: of the inputs and outputs of products.
    """
    for_cpu = kind == "int4" and fits_int4_kernel(shape, device, dtype)
    return (Int4ForCpu if for_cpu else KINDS[kind])(shape, device, dtype)


def fits_int4_kernel(shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype) -> bool:
    """True if torch's int4 kernel for CPUs runs such matrices."""
    return _runs_kernels(device, dtype) and shape[1] % ROW_MULTIPLE == 0


def _has_kernels(x: Tensor) -> bool:
    """True if torch has fast kernels for this input: on a CPU, bfloat16, without gradients."""
    return _runs_kernels(x.device, x.dtype) and not x.requires_grad


def _runs_kernels(device: torch.device, dtype: torch.dtype) -> bool:
    return device.type == "cpu" and dtype == torch.bfloat16


def _shown(parts: dict[str, Tensor], single: bool) -> dict[str, Tensor]:
    """The parts, without the axis of the matrices if there is one."""
    return {name: part[0] if single else part for name, part in parts.items()}


def _torchao_tensor(name: str, about: dict[str, Any], parts: dict[str, Tensor]) -> dict[str, Any]:
    return {"_type": name, "_data": about, "_tensor_data_names": list(parts)}


def _json_of(dtype: torch.dtype) -> dict[str, str]:
    return {"_type": "torch.dtype", "_data": str(dtype).removeprefix("torch.")}


def _scale_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype of the scales: float32 for float16 models, where small scales would lose precision."""
    return torch.float32 if dtype == torch.float16 else dtype


def _min_scale(dtype: torch.dtype) -> float:
    """The smallest scale, so that a row of zeros does not divide by zero."""
    return torch.finfo(dtype).tiny


def _torchao() -> Any:
    # On import, torchao warns about compiled extensions that are not needed here.
    previous = logging.root.manager.disable
    logging.disable(max(previous, logging.WARNING))
    try:
        return import_module("torchao.quantization.quant_primitives")
    except ImportError as error:
        raise CheckpointError(
            "quantised weights need torchao, which is not installed: "
            "run pip install 'qwen3lab[quantised]'"
        ) from error
    finally:
        logging.disable(previous)
