"""Values packed for torch's CPU kernel can be unpacked again, in any machine's layout."""

import pytest
import torch

from qwen3lab.quantisation.torch_int4_layout import bands, pack_int4, unpack_int4


@pytest.mark.parametrize("columns", [32, 96, 256])
@pytest.mark.parametrize("rows", [16, 32, 48, 64, 80, 192, 304])
def test_unpacking_inverts_packing(rows, columns):
    generator = torch.Generator().manual_seed(rows)
    q = torch.randint(0, 16, (rows, columns), dtype=torch.int32, generator=generator)
    packed = pack_int4(q)
    assert packed.numel() == rows * columns // 2
    assert torch.equal(unpack_int4(packed).int(), q)
    assert sum(len(band.order) for band in bands(rows)) == rows


def test_unpacked_values_match_the_kernels_product_with_an_identity():
    q = torch.randint(0, 16, (80, 64), generator=torch.Generator().manual_seed(0)).int()
    ones = torch.stack([torch.ones(2, 80), torch.zeros(2, 80)], dim=-1).bfloat16()
    eye = torch.eye(64, dtype=torch.bfloat16)
    product = torch.ops.aten._weight_int4pack_mm_for_cpu(eye, pack_int4(q), 32, ones)
    assert torch.equal(product.T.int(), unpack_int4(pack_int4(q)).int() - 8)
