"""Four-bit integers with their groups: the same weights as a format's decoder gives."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from qwen3lab.checkpoints.formats.awq import Awq
from qwen3lab.checkpoints.formats.gptq import Gptq
from qwen3lab.checkpoints.formats.mlx import Mlx

DATA = Path(__file__).parents[2] / "data" / "formats"

AWQ_CASES = {str(size): {"bits": 4, "group_size": size, "zero_point": True} for size in (16, 64)}


def cases(name):
    with safe_open(DATA / f"{name}.safetensors", "pt") as file:
        fields = AWQ_CASES if name == "awq" else json.loads(file.metadata()["cases"])
        for case in fields:
            keys = [key for key in [*file.keys()] if key.startswith(f"{case}.")]
            tensors = {key.removeprefix(f"{case}."): file.get_tensor(key) for key in keys}
            yield case, fields[case], tensors


@pytest.mark.parametrize(("name", "format"), [("gptq", Gptq), ("awq", Awq), ("mlx", Mlx)])
def test_groups_give_the_weights_that_other_libraries_decode(name, format):
    n_grouped = 0
    for case, fields, tensors in cases(name):
        expected = tensors.pop("decoded").float()
        found = format.from_config(fields)
        groups = found.grouped("m", tensors)
        is_four = fields["bits"] == 4 and expected.ndim == 2
        numbers = tensors.get("g_idx", torch.zeros(1))
        reordered = bool((numbers.diff() < 0).any())
        assert (groups is not None) == (is_four and not reordered), case
        if groups is None:
            continue
        n_grouped += 1
        assert torch.allclose(groups.decoded(), found.decode("m", tensors), atol=1e-6)
        assert torch.allclose(groups.decoded(), expected, atol=1e-2)
    assert n_grouped
