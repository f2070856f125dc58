"""Dtypes by name."""

import torch

from qwen3lab.errors import CheckpointError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_of(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A dtype by its name; None stays None.

    Raises:
        CheckpointError: none of `DTYPES`.
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype {dtype!r} is unknown: choose from {', '.join(DTYPES)}")
    return DTYPES[dtype]
