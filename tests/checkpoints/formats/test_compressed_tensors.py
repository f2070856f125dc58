"""compressed-tensors' matrices, as the library itself writes and decodes them."""

from typing import Any

import pytest
import torch

from qwen3lab.checkpoints.formats.compressed_tensors import CompressedTensors
from qwen3lab.errors import CheckpointError
from tests.checkpoints.formats.headers import headers_of

pytest.importorskip("compressed_tensors")
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

N_OUT, N_IN = 24, 64
GROUP = {"strategy": "group", "group_size": 16}
CASES = {
    "int4 in groups": ("pack-quantized", {"num_bits": 4, "symmetric": True, **GROUP}),
    "int4 with zeros": ("pack-quantized", {"num_bits": 4, "symmetric": False, **GROUP}),
    "int8 packed": ("pack-quantized", {"num_bits": 8, "symmetric": True, "strategy": "channel"}),
    "int8": ("int-quantized", {"num_bits": 8, "symmetric": True, "strategy": "channel"}),
    "int8 with zeros": (
        "int-quantized",
        {"num_bits": 8, "symmetric": False, "strategy": "channel"},
    ),
    "int8, one scale": ("int-quantized", {"num_bits": 8, "symmetric": True, "strategy": "tensor"}),
    "float8": ("float-quantized", {"num_bits": 8, "symmetric": True, "strategy": "channel"}),
    "float8 in blocks": (
        "float-quantized",
        {"num_bits": 8, "symmetric": True, "strategy": "block", "block_structure": [8, 16]},
    ),
}


def scale_shape(args):
    if args["strategy"] == "group":
        return N_OUT, N_IN // args["group_size"]
    if args["strategy"] == "block":
        return N_OUT // args["block_structure"][0], N_IN // args["block_structure"][1]
    return (N_OUT, 1) if args["strategy"] == "channel" else (1,)


def stored(case):
    """The config, the parts that the library writes, and what it decodes them to."""
    kind, args = CASES[case]
    args = {"type": "float" if kind == "float-quantized" else "int", **args}
    generator = torch.Generator().manual_seed(0)
    state = {
        "weight": torch.randn(N_OUT, N_IN, generator=generator),
        "weight_scale": torch.rand(scale_shape(args), generator=generator) / 8 + 0.05,
    }
    if not args["symmetric"]:
        low, high = -(2 ** (args["num_bits"] - 1)), 2 ** (args["num_bits"] - 1)
        zeros = torch.randint(low, high, scale_shape(args), generator=generator)
        state["weight_zero_point"] = zeros.to(torch.int8)
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**args))
    library: Any = BaseCompressor.get_value_from_registry(kind)
    parts = library.compress(state, scheme)
    expected = library.decompress(parts, scheme)["weight"]
    fields = {"format": kind, "config_groups": {"group_0": {"weights": args}}}
    return fields, {name: value.contiguous() for name, value in parts.items()}, expected


@pytest.mark.parametrize("case", CASES)
def test_matrices_are_decoded_as_the_library_decodes_them(case):
    fields, parts, expected = stored(case)
    found = CompressedTensors.from_config(fields)
    headers = headers_of(parts)
    assert found.shape("m", headers, parts.__getitem__) == (N_OUT, N_IN)
    assert torch.equal(found.decode("m", parts), expected.float())
    assert found.note == ""


@pytest.mark.parametrize("case", CASES)
def test_four_bits_in_groups_have_the_same_weights(case):
    fields, parts, expected = stored(case)
    found = CompressedTensors.from_config(fields)
    groups = found.grouped("m", parts)
    assert (groups is not None) == case.startswith("int4")
    if groups is not None:
        assert groups.size == 16
        torch.testing.assert_close(groups.decoded(), expected.float(), rtol=1e-6, atol=1e-6)
        assert found.grouped("m", parts | {"weight_g_idx": torch.arange(N_IN) // 16}) is None


def test_numbers_of_groups_are_followed():
    fields, parts, _ = stored("int4 in groups")
    order = torch.randperm(N_IN, generator=torch.Generator().manual_seed(1))
    groups = torch.arange(N_IN) // 16
    found = CompressedTensors.from_config(fields)
    plain = found.decode("m", parts)
    scales = parts["weight_scale"]
    moved = found.decode("m", parts | {"weight_g_idx": groups[order].int()})
    torch.testing.assert_close(moved / scales[:, groups[order]], plain / scales[:, groups])
    with pytest.raises(CheckpointError, match="names groups 0 to 4"):
        found.decode(
            "m", parts | {"weight_g_idx": torch.full((N_IN,), 4).int() * (order > 0).int()}
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "nvfp4-pack-quantized"}, "format as 'nvfp4-pack-quantized'"),
        ({"transform_config": {"a": 1}}, "transform_config as"),
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config as"),
        ({"config_groups": {}}, "no config_groups with weights"),
        ({"config_groups": {"a": {"weights": {"num_bits": 3, "type": "int"}}}}, "no sizes for"),
        (
            {
                "config_groups": {
                    "a": {"weights": {"num_bits": 4}},
                    "b": {"weights": {"num_bits": 8}},
                }
            },
            "different settings",
        ),
    ],
)
def test_settings_that_are_not_read_are_refused(changes, message):
    fields, _, _ = stored("int4 in groups")
    with pytest.raises(CheckpointError, match=message):
        CompressedTensors.from_config(fields | changes)


@pytest.mark.parametrize(
    ("case", "missing", "message"),
    [
        ("int4 in groups", "weight_packed", "weight_packed is missing"),
        ("int4 in groups", "weight_shape", "weight_shape is missing"),
        ("int4 with zeros", "weight_zero_point", "weight_zero_point is missing"),
        ("float8", "weight_scale", "weight_scale is missing"),
    ],
)
def test_missing_parts_are_named(case, missing, message):
    fields, parts, _ = stored(case)
    left = {name: value for name, value in parts.items() if name != missing}
    with pytest.raises(CheckpointError, match=message):
        CompressedTensors.from_config(fields).shape("m", headers_of(left), left.__getitem__)


def test_scales_of_another_shape_are_refused():
    fields, parts, _ = stored("int4 in groups")
    changed = parts | {"weight_scale": parts["weight_scale"][:, :2].contiguous()}
    with pytest.raises(
        CheckpointError, match=r"m\.weight_scale is stored as F32 of shape \(24, 2\)"
    ):
        CompressedTensors.from_config(fields).shape("m", headers_of(changed), changed.__getitem__)
