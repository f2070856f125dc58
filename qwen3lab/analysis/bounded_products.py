"""Blocks of a matrix product in low precision, with a bound of the error of each entry."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

FLOAT32_ROUNDING = 2.0**-8 * 1.02
"""Relative error of two float32 values and their product, also if TF32 or bfloat16 is allowed."""

SMALLEST = 2.0**-120
"""Above the error of a float32 product that is too small for a normal number."""

LEVELS = 127
"""Largest magnitude of an int8 value here: -128 is not used."""

MIN_INT8_DIMENSIONS = 16
ROWS_AT_ONCE = 2**14
CPU_BLOCK, GPU_BLOCK = (512, 4096), (4096, 2**14)
"""Rows and columns of one product: on a CPU, it stays in the cache until it has been read."""


def block_size(device: torch.device) -> tuple[int, int]:
    """Rows and columns of one product on a device."""
    return CPU_BLOCK if device.type == "cpu" else GPU_BLOCK


class BoundedProducts:
    """Products of rows with columns minus their mean.

    In int8 on CPUs that multiply it faster and without saturation; elsewhere in float32.

    Args:
        left: of which `rows` take part.
        right: of which `columns` take part.
        rows: in the order in which blocks name them.
        columns: likewise.
        mean: subtracted from each column.
    """

    def __init__(
        self,
        left: Float[Tensor, "row d"],
        right: Float[Tensor, "column d"],
        rows: Int[Tensor, " chosen"],
        columns: Int[Tensor, " chosen_column"],
        mean: Float[Tensor, " d"],
    ) -> None:
        is_int8 = _has_fast_int8(left)
        height, width = block_size(left.device)
        self._width = width
        parts = (left[part] for part in rows.split(ROWS_AT_ONCE))
        self._left = _Rounded.of(parts, by_row=True, is_int8=is_int8)
        parts = (right[part] - mean for part in columns.split(width))
        self._right = _Rounded.of(parts, by_row=False, is_int8=is_int8)
        dtype = torch.int32 if is_int8 else torch.float32
        self._size, self._dtype = height * width, dtype
        self._of_thread = threading.local()
        self._rounding = 0.0 if is_int8 else FLOAT32_ROUNDING + left.shape[1] * 2.0**-23
        self._smallest = left.shape[1] * SMALLEST
        self._multiply = torch.ops.aten._int_mm.out if is_int8 else torch.mm

    def product(self, rows: slice, columns: slice) -> Tensor:
        """A block of the product, in units of the scales; valid until the thread's next one."""
        left, right = self._left.values[rows], self._right.values[columns]
        if not hasattr(self._of_thread, "out"):
            empty = torch.empty(self._size, dtype=self._dtype, device=left.device)
            self._of_thread.out = empty
        out = self._of_thread.out[: len(left) * len(right)].view(len(left), len(right))
        return self._multiply(left, right.T, out=out)

    def limit(
        self,
        value: Float[Tensor, " chosen"],
        row_length: Float[Tensor, " chosen"],
        longest: float,
        rows: slice,
        columns: slice,
    ) -> Float[Tensor, " chosen"]:
        """What `product` has at least where the exact entry is `value` or more, by row.

        With a and b the exact vectors and a', b' the rounded ones, ab - a'b' = (a - a')b +
        a'(b - b'), so it is at most ``|a - a'| |b| + |a'| |b - b'|``.

        Args:
            value: of the exact entry.
            row_length: Euclidean length of the exact rows.
            longest: the length of the block's longest column.
            rows: of the block.
            columns: of the block.
        """
        block = columns.start // self._width
        left_error, right_error = self._left.error[rows], float(self._right.error[block])
        length = row_length + left_error
        error = left_error * longest + length * right_error
        error = error + self._rounding * length * (longest + right_error)
        scale = self._left.scale[rows] * self._right.scale[block]
        return (value - error) / scale - self._smallest


@dataclass(frozen=True)
class _Rounded:
    """A matrix in low precision.

    Attributes:
        values: the matrix in units of `scale`.
        scale: of each row or block.
        error: upper bound of the Euclidean length of a row's rounding error, by row or block.
    """

    values: Tensor
    scale: Float[Tensor, " group"]
    error: Float[Tensor, " group"]

    @classmethod
    def of(cls, parts: Iterable[Tensor], *, by_row: bool, is_int8: bool) -> "_Rounded":
        """Round a matrix that is given in blocks.

        Args:
            parts: the blocks.
            by_row: each row has a scale of its own, not each block.
            is_int8: round to int8, not to float32.
        """
        rounded = [_rounded(part, by_row, is_int8) for part in parts]
        values, scale, error = (torch.cat(items) for items in zip(*rounded, strict=True))
        return cls(values, scale, error)


def _rounded(
    part: Float[Tensor, "row d"], by_row: bool, is_int8: bool
) -> tuple[Tensor, Float[Tensor, " group"], Float[Tensor, " group"]]:
    largest = part.abs().amax(dim=1, keepdim=True) if by_row else part.abs().max().view(1, 1)
    scale = torch.where(largest > 0, largest, 1.0) / (LEVELS if is_int8 else 1)
    values = part / scale
    values = values.round_().to(torch.int8) if is_int8 else values.float()
    # 1.001: for the rounding of this computation itself.
    error = (part - values.double() * scale).norm(dim=1) * 1.001
    return values, scale[:, 0], error if by_row else error.max().view(1)


def _has_fast_int8(matrix: Tensor) -> bool:
    """Without VNNI, int8 products are slow, or saturate at 16 bits."""
    is_wide = matrix.shape[1] >= MIN_INT8_DIMENSIONS
    return matrix.device.type == "cpu" and is_wide and torch.cpu._is_vnni_supported()
