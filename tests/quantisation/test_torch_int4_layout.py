"""What is packed for torch's kernel is found again, whatever the machine's order is."""

import pytest
import torch

from qwen3lab.quantisation.torch_int4_layout import bands, packed, unpacked


@pytest.mark.parametrize("columns", [32, 96, 256])
@pytest.mark.parametrize("rows", [16, 32, 48, 64, 80, 192, 304])
def test_four_bits_are_found_again(rows, columns):
    generator = torch.Generator().manual_seed(rows)
    q = torch.randint(0, 16, (rows, columns), dtype=torch.int32, generator=generator)
    kept = packed(q)
    assert kept.numel() == rows * columns // 2
    assert torch.equal(unpacked(kept).int(), q)
    assert sum(len(band.order) for band in bands(rows)) == rows


def test_the_kernel_agrees_on_what_stands_where():
    q = torch.randint(0, 16, (80, 64), generator=torch.Generator().manual_seed(0)).int()
    ones = torch.stack([torch.ones(2, 80), torch.zeros(2, 80)], dim=-1).bfloat16()
    eye = torch.eye(64, dtype=torch.bfloat16)
    found = torch.ops.aten._weight_int4pack_mm_for_cpu(eye, packed(q), 32, ones)
    assert torch.equal(found.T.int(), unpacked(packed(q)).int() - 8)
