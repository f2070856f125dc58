"""MLX's matrices, as MLX decodes them (`tests/data/formats/make_mlx.py`)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from qwen3lab.checkpoints.formats.mlx import Mlx
from qwen3lab.errors import CheckpointError
from tests.checkpoints.formats.headers import headers_of

PATH = Path(__file__).parents[2] / "data" / "formats" / "mlx.safetensors"
with safe_open(PATH, "pt") as held:
    CASES = json.loads(held.metadata()["cases"])
FIELDS = {"bits": 4, "group_size": 64}


def stored(case):
    tensors = load_file(PATH)
    parts = {part: tensors[f"{case}.{part}"] for part in ("weight", "scales", "biases", "decoded")}
    return parts, parts.pop("decoded")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("at_once", [300, 2**22])
def test_matrices_are_decoded_as_mlx_decodes_them(case, at_once, monkeypatch):
    monkeypatch.setattr("qwen3lab.checkpoints.formats.mlx.VALUES_AT_ONCE", at_once)
    module = "a.switch_mlp.b" if case == "experts" else "m"
    tensors, expected = stored(case)
    found = Mlx.from_config(CASES[case])
    assert found.shape(module, headers_of(tensors), tensors.__getitem__) == tuple(expected.shape)
    assert torch.equal(found.decode(module, tensors), expected)


def test_a_module_has_settings_of_its_own():
    tensors, expected = stored("bits8")
    found = Mlx.from_config({**FIELDS, "m": CASES["bits8"], "n": False, "o": True})
    assert found.shape("m", headers_of(tensors), tensors.__getitem__) == tuple(expected.shape)
    assert torch.equal(found.decode("m", tensors), expected)
    assert found.described == "MLX, 4 bits in groups of 64, some modules with others"
    with pytest.raises(CheckpointError, match=r"n is packed, and .* says that it is not"):
        found.shape("n", headers_of(tensors), tensors.__getitem__)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 7}, "bits as 7"),
        ({"bits": "4"}, "bits as '4'"),
        ({"group_size": 48}, "group_size as 48"),
        ({"group_size": None}, "group_size as None"),
        ({"mode": "mxfp4"}, "mode as 'mxfp4'"),
        ({"m": 4}, "gives m as 4"),
        ({"m": {"bits": 4}}, "group_size as None"),
    ],
)
def test_settings_that_are_not_read_are_refused(fields, message):
    with pytest.raises(CheckpointError, match=message):
        Mlx.from_config({**FIELDS, **fields})


@pytest.mark.parametrize(
    ("fields", "change", "message"),
    [
        ({}, lambda t: t.pop("biases"), r"m\.biases is missing"),
        ({}, lambda t: t.pop("weight"), r"m\.weight is missing"),
        ({"bits": 8}, lambda t: None, r"m\.scales is stored as BF16 of shape \(6, 4\)"),
        ({"bits": 3}, lambda t: None, "no values of 3 bits"),
        ({"group_size": 32}, lambda t: None, r"m\.scales is stored"),
        ({}, lambda t: t.update(biases=t["biases"].float()), r"m\.biases is stored as F32"),
        ({}, lambda t: t.update(weight=t["weight"][None]), "expected 2 axes"),
        ({}, lambda t: t.update(weight=t["weight"].view(torch.int32)), "stored as I32"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(fields, change, message):
    tensors, _ = stored("bits4")
    change(tensors)
    with pytest.raises(CheckpointError, match=message):
        Mlx.from_config({**FIELDS, **fields}).shape("m", headers_of(tensors), tensors.__getitem__)
