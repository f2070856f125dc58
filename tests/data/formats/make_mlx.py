"""Writes matrices in MLX's format with MLX, and what MLX decodes them to.

Run where MLX 0.32 can be imported (`pip install "mlx[cpu]"`); the result is `mlx.safetensors`
beside this file.
"""

import json
from pathlib import Path

import mlx.core as mx

N_OUT, N_IN, N_EXPERTS = 6, 256, 3
CASES = {
    **{f"bits{bits}": {"bits": bits, "group_size": 64} for bits in (2, 3, 4, 5, 6, 8)},
    "groups of 32": {"bits": 4, "group_size": 32},
    "groups of 128": {"bits": 8, "group_size": 128},
    "half": {"bits": 4, "group_size": 64},
    "experts": {"bits": 4, "group_size": 64},
}


def main() -> None:
    tensors = {}
    for seed, (name, case) in enumerate(CASES.items()):
        shape = (N_EXPERTS, N_OUT, N_IN) if name == "experts" else (N_OUT, N_IN)
        kind = mx.float16 if name == "half" else mx.bfloat16
        weight = mx.random.normal(shape, key=mx.random.key(seed)).astype(kind)
        packed, scales, biases = mx.quantize(weight, **case)
        decoded = mx.dequantize(
            packed, scales.astype(mx.float32), biases.astype(mx.float32), **case
        )
        tensors |= {f"{name}.weight": packed, f"{name}.scales": scales, f"{name}.biases": biases}
        tensors[f"{name}.decoded"] = decoded
    path = Path(__file__).parent / "mlx.safetensors"
    mx.save_safetensors(str(path), tensors, {"cases": json.dumps(CASES)})


if __name__ == "__main__":
    main()
