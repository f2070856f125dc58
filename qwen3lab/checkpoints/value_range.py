"""Refuses weights with NaN or infinity, and warns of weights beyond the range of a dtype.

The check takes the smallest and the largest value of memory that was just read. It reads nothing a
second time: weights in memory are checked while they load, streamed weights when a forward pass
first reads them.
"""

import warnings

import torch
from jaxtyping import Shaped
from torch import Tensor

from qwen3lab.errors import CheckpointError


class ValueRange:
    """The range of one tensor's values, taken in piece by piece.

    Args:
        name: published name of the tensor.
        source: the file or model that holds it, for messages.
    """

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source, self.largest = name, source, 0.0

    def add(self, values: Shaped[Tensor, "*any"]) -> None:
        """Take in some values, of any float dtype.

        Raises:
            CheckpointError: a value is NaN or infinite.
        """
        if not values.numel():
            return
        # Unlike `isfinite`, this needs no second tensor. A NaN makes both ends NaN.
        low, high = (float(end) for end in values.aminmax())
        largest = max(abs(low), abs(high))
        if not largest < float("inf"):
            kind = "infinite" if largest == float("inf") else "NaN"
            raise CheckpointError(
                f"{self.name} in {self.source} has values that are not finite ({kind}): the model "
                "was damaged in training or conversion, so use another checkpoint of it"
            )
        self.largest = max(self.largest, largest)

    def warn_beyond(self, dtype: torch.dtype) -> None:
        """Warn if `dtype` cannot hold the largest value, which then becomes infinite."""
        if self.largest > torch.finfo(dtype).max:
            warnings.warn(
                f"{self.name} in {self.source} has values up to {self.largest:.3g}, beyond the "
                f"range of {str(dtype).removeprefix('torch.')}, where they become infinite: load "
                "the model in float32 or bfloat16",
                stacklevel=2,
            )
