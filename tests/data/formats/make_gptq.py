"""Writes matrices in GPTQ's format with GPTQModel, and what GPTQModel decodes them to.

Run where GPTQModel 7.7 can be imported; the result is `gptq.safetensors` beside this file.
"""

import json
from pathlib import Path

import torch
from gptqmodel.nn_modules.qlinear.torch import TorchLinear
from gptqmodel.quantization import FORMAT
from safetensors.torch import save_file

N_OUT, N_IN = 32, 64
CASES = {
    "int4": {"bits": 4, "group_size": 16, "act_order": False},
    "int8": {"bits": 8, "group_size": 32, "act_order": False},
    "int2": {"bits": 2, "group_size": 16, "act_order": False},
    "one_group": {"bits": 4, "group_size": -1, "act_order": False},
    "act_order": {"bits": 4, "group_size": 16, "act_order": True},
}
VERSIONS = {"gptq": FORMAT.GPTQ, "gptq_v2": FORMAT.GPTQ_V2}


def packed(case: dict, seed: int) -> TorchLinear:
    """A layer with random weights, packed by GPTQModel in the second version of the format."""
    generator = torch.Generator().manual_seed(seed)
    linear = torch.nn.Linear(N_IN, N_OUT, bias=False)
    linear.weight.data = torch.randn(N_OUT, N_IN, generator=generator)
    size = N_IN if case["group_size"] == -1 else case["group_size"]
    groups = torch.arange(N_IN) // size
    if case["act_order"]:
        groups = groups[torch.randperm(N_IN, generator=generator)]
    highest = 2 ** case["bits"] - 1
    scales = torch.rand(N_OUT, N_IN // size, generator=generator) * 4 / highest + 0.01
    # From 1 on: in the first version, a zero of 0 cannot be told from the number of levels.
    zeros = torch.randint(1, highest + 1, (N_OUT, N_IN // size), generator=generator).float()
    layer = TorchLinear(
        bits=case["bits"],
        group_size=case["group_size"],
        sym=False,
        desc_act=case["act_order"],
        in_features=N_IN,
        out_features=N_OUT,
    )
    layer.pack(linear, scales.half().float(), zeros, groups.int())
    layer.post_init()
    return layer


def main() -> None:
    tensors, cases = {}, {}
    for seed, (name, case) in enumerate(CASES.items()):
        layer = packed(case, seed)
        layer.scales = layer.scales.float()
        decoded = layer.dequantize_weight().T.contiguous()
        for version in VERSIONS:
            zeros = layer.qzeros.clone()
            if version == "gptq":  # The inverse of GPTQModel's conversion to the second version.
                ones = sum(1 << shift for shift in range(0, 32, case["bits"]))
                zeros = (zeros.long() - ones).int()
            key = f"{name}.{version}"
            cases[key] = {"bits": case["bits"], "group_size": case["group_size"]}
            cases[key]["checkpoint_format"] = version
            parts = {"qweight": layer.qweight, "qzeros": zeros, "g_idx": layer.g_idx.int()}
            parts["scales"] = layer.scales.half()
            tensors |= {f"{key}.{part}": value.contiguous() for part, value in parts.items()}
            tensors[f"{key}.decoded"] = decoded.float()
    path = Path(__file__).parent / "gptq.safetensors"
    save_file(
        {name: value.clone() for name, value in tensors.items()}, path, {"cases": json.dumps(cases)}
    )


if __name__ == "__main__":
    main()
