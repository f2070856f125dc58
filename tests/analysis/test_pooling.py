"""Max pooling of maps that are too large to draw."""

import torch

from qwen3lab.analysis.pooling import max_pool


def test_a_small_map_is_returned_unchanged() -> None:
    values = torch.rand(5, 7)
    pooled = max_pool(values, max_side=7)
    assert pooled.is_exact
    torch.testing.assert_close(pooled.values, values)


def test_incomplete_edge_blocks_have_their_maximum() -> None:
    values = torch.tensor(
        [
            [1.0, 2.0, 3.0, 4.0, 5.0],
            [6.0, 7.0, 8.0, 9.0, 0.0],
            [-1.0, -2.0, -3.0, -4.0, -5.0],
        ]
    )
    pooled = max_pool(values, max_side=3)
    assert (pooled.row_step, pooled.column_step) == (1, 2)
    expected = torch.tensor([[2.0, 4.0, 5.0], [7.0, 9.0, 0.0], [-1.0, -3.0, -5.0]])
    torch.testing.assert_close(pooled.values, expected)


def test_a_block_is_nan_only_if_all_its_cells_are() -> None:
    nan = torch.nan
    pooled = max_pool(torch.tensor([[nan, 0.5, nan, nan]]), max_side=2)
    torch.testing.assert_close(pooled.values, torch.tensor([[0.5, nan]]), equal_nan=True)
