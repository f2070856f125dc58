"""Rows of GGUF files, decoded as the `gguf` package decodes them, to the bit."""

import numpy as np
import pytest
import torch

from qwen3lab.checkpoints.gguf_rows import BLOCK_BYTES, IN_FOUR_BITS, decoded_rows, grouped_rows

gguf = pytest.importorskip("gguf")


def rows_and_expected(kind):
    """Bytes of blocks whose every bit is random, but for NaN and infinity among the scales."""
    rows = np.random.default_rng(3).integers(0, 256, (64, 4 * BLOCK_BYTES[kind]), dtype="u1")
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[kind])
    finite = np.isfinite(expected).all(axis=1)
    assert finite.sum() > 16
    return torch.from_numpy(rows[finite]), torch.from_numpy(expected[finite])


@pytest.mark.parametrize("kind", BLOCK_BYTES)
def test_rows_are_decoded_as_the_package_decodes_them(kind):
    rows, expected = rows_and_expected(kind)
    assert torch.equal(decoded_rows(rows, kind), expected)
    assert BLOCK_BYTES[kind] == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][1]


@pytest.mark.parametrize("kind", BLOCK_BYTES)
def test_values_scales_and_offsets_give_the_same_weights(kind):
    rows, expected = rows_and_expected(kind)
    found = grouped_rows(rows, kind)
    assert (found is not None) == (kind in IN_FOUR_BITS)
    if found is not None:
        assert found.size == 32 and 0 <= int(found.q.min()) <= int(found.q.max()) <= 15
        assert torch.allclose(found.decoded(), expected, rtol=1e-6, atol=1e-6)
