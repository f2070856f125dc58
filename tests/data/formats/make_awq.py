"""Writes random matrices in AWQ's format, and what AutoAWQ 0.2.9 decodes them to.

Run with the path of AutoAWQ's `awq/utils/packing_utils.py`, which needs torch only; the result is
`awq.safetensors` beside this file.
"""

import importlib.util
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

N_OUT, N_IN = 32, 64
GROUP_SIZES = (16, 64)


def main(path: str) -> None:
    spec = importlib.util.spec_from_file_location("packing_utils", path)
    assert spec is not None and spec.loader is not None
    awq = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(awq)
    tensors = {}
    for size in GROUP_SIZES:
        generator = torch.Generator().manual_seed(size)
        words = {"qweight": (N_IN, N_OUT // 8), "qzeros": (N_IN // size, N_OUT // 8)}
        parts = {
            name: torch.randint(-(2**31), 2**31, shape, generator=generator).int()
            for name, shape in words.items()
        }
        parts["scales"] = torch.rand(N_IN // size, N_OUT, generator=generator).half()
        decoded = awq.dequantize_gemm(
            parts["qweight"], parts["qzeros"], parts["scales"].float(), 4, size
        )
        tensors |= {f"{size}.{part}": value for part, value in parts.items()}
        tensors[f"{size}.decoded"] = decoded.T.contiguous()
    save_file(tensors, Path(__file__).parent / "awq.safetensors")


if __name__ == "__main__":
    main(sys.argv[1])
