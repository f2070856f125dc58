"""AWQ's matrices, as AutoAWQ decodes them (`tests/data/formats/make_awq.py`)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from qwen3lab.checkpoints.formats.awq import Awq
from qwen3lab.errors import CheckpointError
from tests.checkpoints.formats.headers import headers_of

PATH = Path(__file__).parents[2] / "data" / "formats" / "awq.safetensors"
FIELDS = {"bits": 4, "group_size": 16, "zero_point": True, "version": "gemm"}


def stored(size=16):
    tensors = load_file(PATH)
    parts = {part: tensors[f"{size}.{part}"] for part in ("qweight", "qzeros", "scales", "decoded")}
    return parts, parts.pop("decoded")


@pytest.mark.parametrize(("size", "group_size"), [(16, 16), (64, 64), (64, -1)])
def test_matrices_are_decoded_as_autoawq_decodes_them(size, group_size):
    tensors, expected = stored(size)
    found = Awq.from_config({**FIELDS, "group_size": group_size})
    assert found.shape("m", headers_of(tensors), tensors.__getitem__) == tuple(expected.shape)
    assert torch.equal(found.decode("m", tensors), expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 8}, "bits as 8"),
        ({"zero_point": False}, "zero_point as False"),
        ({"version": "gemv"}, "version as 'gemv'"),
        ({"version": 1}, "version as 1"),
    ],
)
def test_settings_that_are_not_read_are_refused(fields, message):
    with pytest.raises(CheckpointError, match=message):
        Awq.from_config({**FIELDS, **fields})


@pytest.mark.parametrize(
    ("fields", "change", "message"),
    [
        ({}, lambda t: t.pop("qzeros"), r"m\.qzeros is missing"),
        ({}, lambda t: t.update(scales=t["scales"].T), r"m\.scales is stored as F16"),
        ({"group_size": 24}, lambda t: None, "groups of 24 do not divide"),
        ({"group_size": 32}, lambda t: None, r"m\.qzeros is stored as I32 of shape \(4, 4\)"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(fields, change, message):
    tensors, _ = stored()
    change(tensors)
    with pytest.raises(CheckpointError, match=message):
        Awq.from_config({**FIELDS, **fields}).shape("m", headers_of(tensors), tensors.__getitem__)
