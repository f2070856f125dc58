"""Headers of tensors in memory, as a safetensors file has them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from qwen3lab.checkpoints.safetensors_file import RAW_DTYPES
from qwen3lab.storage.tensor_header import StoredTensor

CODES: dict[torch.dtype, str] = {dtype: code for code, dtype in RAW_DTYPES.items()}


def headers_of(tensors: Mapping[str, Tensor]) -> dict[str, StoredTensor]:
    """Dtype code and shape of each tensor."""
    return {
        name: StoredTensor(CODES[value.dtype], tuple(value.shape), 0, value.nbytes)
        for name, value in tensors.items()
    }
