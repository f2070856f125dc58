"""GPTQ's matrices, as GPTQModel wrote and decoded them (`tests/data/formats/make_gptq.py`)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from qwen3lab.checkpoints.formats.gptq import Gptq
from qwen3lab.errors import CheckpointError
from tests.checkpoints.formats.headers import headers_of

PATH = Path(__file__).parents[2] / "data" / "formats" / "gptq.safetensors"
with safe_open(PATH, "pt") as file:
    CASES = json.loads(file.metadata()["cases"])


def stored(case):
    with safe_open(PATH, "pt") as file:
        parts = ("qweight", "qzeros", "scales", "g_idx", "decoded")
        tensors = {part: file.get_tensor(f"{case}.{part}") for part in parts}
    return tensors, tensors.pop("decoded")


@pytest.mark.parametrize("case", CASES)
def test_matrices_are_decoded_as_gptqmodel_decodes_them(case):
    tensors, expected = stored(case)
    found = Gptq.from_config(CASES[case])
    assert found.shape("m", headers_of(tensors), tensors.__getitem__) == tuple(expected.shape)
    assert torch.equal(found.decode("m", tensors), expected)


def test_without_group_numbers_the_groups_follow_each_other():
    tensors, expected = stored("int4.gptq_v2")
    del tensors["g_idx"]
    assert torch.equal(Gptq.from_config(CASES["int4.gptq_v2"]).decode("m", tensors), expected)


def test_modules_with_other_bits_need_a_config_that_says_so():
    tensors, expected = stored("int8.gptq_v2")
    fields = CASES["int4.gptq_v2"]
    with pytest.raises(CheckpointError, match="not 4 bits for each"):
        Gptq.from_config(fields).shape("m", headers_of(tensors), tensors.__getitem__)
    mixed = Gptq.from_config({**fields, "dynamic": {"+:.*down.*": {"bits": 8}}})
    assert mixed.shape("m", headers_of(tensors), tensors.__getitem__) == tuple(expected.shape)
    assert torch.equal(mixed.decode("m", tensors), expected)
    assert "some modules with others" in mixed.described


def test_a_zero_that_libraries_read_differently_is_refused():
    tensors, _ = stored("int4.gptq")
    tensors["qzeros"][0, 0] = -1
    with pytest.raises(CheckpointError, match=r"m\.qzeros holds 15.*gptq_v2"):
        Gptq.from_config(CASES["int4.gptq"]).decode("m", tensors)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 3}, "bits as 3.*expected one of 4, 8, 2"),
        ({"bits": True}, "bits as True"),
        ({"checkpoint_format": "marlin"}, "checkpoint_format as 'marlin'"),
        ({"pack_dtype": "int64"}, "pack_dtype as 'int64'"),
        ({"group_size": 0}, "group_size as 0"),
        ({"group_size": "128"}, "group_size as '128': expected an integer"),
    ],
)
def test_settings_that_are_not_read_are_refused(fields, message):
    with pytest.raises(CheckpointError, match=message):
        Gptq.from_config({"bits": 4, "group_size": 16, **fields})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("scales"), r"m\.scales is missing"),
        (lambda t: t.update(scales=t["scales"][:-1]), r"m\.qzeros is stored as I32"),
        (lambda t: t.update(qweight=t["qweight"].long()), r"m\.qweight is stored as I64"),
        (lambda t: t.update(g_idx=t["g_idx"][1:]), r"m\.g_idx is stored as I32 of shape \(63,\)"),
        (lambda t: t.update(qweight=t["qweight"].flatten()), "expected 2 axes"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(change, message):
    tensors, _ = stored("int4.gptq")
    change(tensors)
    with pytest.raises(CheckpointError, match=message):
        Gptq.from_config(CASES["int4.gptq"]).shape("m", headers_of(tensors), tensors.__getitem__)


def test_a_group_that_does_not_exist_is_refused():
    tensors, _ = stored("int4.gptq")
    tensors["g_idx"][3] = 4
    with pytest.raises(CheckpointError, match="groups 0 to 4: expected some of 0 to 3"):
        Gptq.from_config(CASES["int4.gptq"]).decode("m", tensors)
