"""Matrices of 8 or 4 bits: what is kept of them, and how they multiply.

`torchao` chooses scales and rounds; torch's own kernels multiply where they are quick, and
elsewhere a matrix is made whole for as long as a product takes.
"""

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from qwen3lab.errors import CheckpointError
from qwen3lab.quantisation.torch_int4_layout import packed, unpacked

GROUP = 32
"""Neighbours in a row that share a scale and a zero, where there are 4 bits."""
FEW = 16
"""Rows up to which a product with 8-bit weights is quicker than making them whole (measured)."""
MANY = 128
"""The same of 4 bits, which take longer to make whole."""
EVEN = 32
"""Columns that torch's kernel for 8 bits takes together, at most: of a matrix whose columns are no
multiple, it would read beyond the rows."""


class Packed(nn.Module):
    """Matrices of one shape, quantised.

    Args:
        shape: how many there are, and their rows and columns.
        device: where they are kept.
        dtype: in which they multiply.

    Attributes:
        lost: sum of squares of what rounding changed.
        total: sum of squares of the weights as they were.
    """

    kind: str

    def __init__(
        self, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.shape, self.device, self.dtype = shape, device, dtype
        self.lost, self.total = 0.0, 0.0

    @torch.no_grad()
    def put(self, which: int, matrix: Float[Tensor, "row column"]) -> None:
        """Quantise a matrix and keep it as number `which`."""
        self._pack(which, matrix)
        self.lost += float((self.whole(which) - matrix).float().square().sum())
        self.total += float(matrix.float().square().sum())

    def times(self, x: Float[Tensor, "place column"], which: int = 0) -> Float[Tensor, "place row"]:
        """The product of rows of `x` and a matrix, as of a linear layer."""
        return F.linear(x, self.whole(which))

    def whole(self, which: int = 0) -> Float[Tensor, "row column"]:
        """A matrix as it multiplies."""
        raise NotImplementedError

    def _pack(self, which: int, matrix: Float[Tensor, "row column"]) -> None:
        """Round a matrix and keep it."""
        raise NotImplementedError

    def _room(self, name: str, *shape: int, dtype: torch.dtype) -> Tensor:
        """A buffer for all matrices; not saved with a model, since no format holds it."""
        room = torch.empty(self.shape[0], *shape, device=self.device, dtype=dtype)
        self.register_buffer(name, room, persistent=False)
        return room


class Int8(Packed):
    """Eight bits for each weight, and a scale for each row: `w = q * scale`, |q| at most 127."""

    kind = "int8"

    def __init__(
        self, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(shape, device, dtype)
        self.q = self._room("q", *shape[1:], dtype=torch.int8)
        self.scale = self._room("scale", shape[1], dtype=_kind_of_scale(dtype))

    def times(self, x: Float[Tensor, "place column"], which: int = 0) -> Float[Tensor, "place row"]:
        if self.has_kernel(x):
            return torch.ops.aten._weight_int8pack_mm(x, self.q[which], self.scale[which])
        return super().times(x, which)

    def has_kernel(self, x: Float[Tensor, "place column"]) -> bool:
        """Whether torch multiplies these rows quickly, and rightly."""
        return len(x) <= FEW and self.shape[2] % EVEN == 0 and _has_kernels(x)

    def whole(self, which: int = 0) -> Float[Tensor, "row column"]:
        scale = self.scale[which, :, None]
        return (self.q[which].to(scale.dtype) * scale).to(self.dtype)

    def _pack(self, which: int, matrix: Float[Tensor, "row column"]) -> None:
        block, ao = (1, self.shape[2]), _torchao()
        symmetric = ao.MappingType.SYMMETRIC
        limits = {"quant_min": -127, "quant_max": 127}
        options = {"eps": _least_scale(self.scale.dtype), "scale_dtype": torch.float32, **limits}
        scale, nought = ao.choose_qparams_affine(matrix, symmetric, block, torch.int8, **options)
        self.scale[which] = scale
        # Rounded with the scale as it is kept, which has fewer bits.
        kept = self.scale[which].float()
        self.q[which] = ao.quantize_affine(matrix, block, kept, nought, torch.int8, **limits)


class Int4(Packed):
    """Four bits for each weight, a scale and a zero for each group: `w = (q - 8) * scale + zero`.

    Two neighbours share a byte, the first in its lower half.
    """

    kind = "int4"

    def __init__(
        self, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(shape, device, dtype)
        _, rows, columns = shape
        self.q = self._room("q", rows, columns // 2, dtype=torch.uint8)
        # Groups first, then rows: as torch's kernel wants them.
        kind = _kind_of_scale(dtype)
        self.scale_zero = self._room("scale_zero", columns // GROUP, rows, 2, dtype=kind)

    def whole(self, which: int = 0) -> Float[Tensor, "row column"]:
        q = self._numbers(which).unflatten(-1, (-1, GROUP)).float()
        spread = "group row both -> both row group 1"
        scale, zero = rearrange(self.scale_zero[which], spread).float()
        return q.mul_(scale).add_(zero - 8 * scale).to(self.dtype).flatten(1)

    def _pack(self, which: int, matrix: Float[Tensor, "row column"]) -> None:
        block, ao = (1, GROUP), _torchao()
        limits = {"quant_min": 0, "quant_max": 15}
        least = _least_scale(self.scale_zero.dtype)
        options = {"eps": least, "scale_dtype": torch.float32, **limits}
        chosen = ao.choose_qparams_affine(
            matrix, ao.MappingType.ASYMMETRIC, block, torch.int32, keepdim=True, **options
        )
        # One number for each group of a row, also where a row is one group.
        scale, nought = (found.reshape(len(matrix), -1) for found in chosen)
        q = ao.quantize_affine(matrix, block, scale, nought, torch.int32, **limits)
        zero = (8 - nought) * scale
        self.scale_zero[which] = torch.stack([scale, zero], dim=-1).transpose(0, 1)
        self._keep(which, q)

    def _numbers(self, which: int) -> UInt8[Tensor, "row column"]:
        """What is kept of each weight, from 0 to 15."""
        return torch.stack([self.q[which] & 15, self.q[which] >> 4], dim=-1).flatten(1)

    def _keep(self, which: int, q: Int[Tensor, "row column"]) -> None:
        first, second = q.to(torch.uint8).unflatten(-1, (-1, 2)).unbind(dim=-1)
        self.q[which] = first | second << 4


class Int4ForCpu(Int4):
    """The same, in the order in which torch's kernel for CPUs reads it."""

    def times(self, x: Float[Tensor, "place column"], which: int = 0) -> Float[Tensor, "place row"]:
        if len(x) > MANY or not _has_kernels(x):
            return super().times(x, which)
        scales = self.scale_zero[which]
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.q[which], GROUP, scales)

    def _numbers(self, which: int) -> UInt8[Tensor, "row column"]:
        return unpacked(self.q[which])

    def _keep(self, which: int, q: Int[Tensor, "row column"]) -> None:
        self.q[which] = packed(q)


KINDS: dict[str, type[Packed]] = {"int8": Int8, "int4": Int4}
Pack = Callable[[Float[Tensor, "*n row column"]], Packed]


def packer(kind: str) -> Pack:
    """What packs a matrix, or a stack of them, in one of the `KINDS`.

    Raises:
        CheckpointError: an unknown kind, or torchao is missing.
    """
    if kind not in KINDS:
        raise CheckpointError(f"quantise is {kind!r}: choose from {', '.join(KINDS)}")
    _torchao()

    def pack(whole: Float[Tensor, "*n row column"]) -> Packed:
        stack = whole.detach()[None] if whole.ndim == 2 else whole.detach()
        n, rows, columns = stack.shape
        if kind == "int4" and columns % GROUP:
            raise CheckpointError(
                f"a matrix of {columns} columns does not go into groups of {GROUP}, which share a "
                "scale in int4: choose int8"
            )
        ordered = kind == "int4" and _has_kernels(stack) and rows % 16 == 0
        made = (Int4ForCpu if ordered else KINDS[kind])(
            (n, rows, columns), stack.device, stack.dtype
        )
        for which, matrix in enumerate(stack):
            made.put(which, matrix)
        return made

    return pack


def _has_kernels(x: Tensor) -> bool:
    """Torch multiplies by packed weights quickly on CPUs, in bfloat16, without a gradient."""
    return x.device.type == "cpu" and x.dtype == torch.bfloat16 and not x.requires_grad


def _kind_of_scale(dtype: torch.dtype) -> torch.dtype:
    """What scales are kept in: those of small weights would be too coarse in float16."""
    return torch.float32 if dtype == torch.float16 else dtype


def _least_scale(dtype: torch.dtype) -> float:
    """So that rows of zeros have a scale, too."""
    return torch.finfo(dtype).tiny


def _torchao() -> Any:
    # It warns of extensions of its own that are built for another machine, and not needed.
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        return import_module("torchao.quantization.quant_primitives")
    except ImportError as error:
        raise CheckpointError(
            "quantised weights need torchao, which is not installed: "
            "run pip install 'qwen3lab[quantised]'"
        ) from error
    finally:
        logging.disable(before)
