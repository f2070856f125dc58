"""Looks up dtypes by name."""

import torch

from qwen3lab.errors import DtypeError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_of(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """The dtype with a name; returns a dtype or None unchanged.

    Raises:
        DtypeError: the name is not in `DTYPES`.
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise DtypeError(f"dtype {dtype!r} is unknown: choose from {', '.join(DTYPES)}")
    return DTYPES[dtype]
