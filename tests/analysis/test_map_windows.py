from concurrent.futures import CancelledError

import pytest
import torch

from qwen3lab.analysis.map_windows import looked_at_by, looks_at, thumbnails, window
from qwen3lab.errors import RecordingError
from qwen3lab.recording.recording import Recording
from tests.reference import small_config


def recorded(n=40):
    config, chance = small_config(n_layers=2, moe_layers=()), torch.Generator().manual_seed(n)
    kept = {}
    for layer in range(2):
        name = f"blocks.{layer}.attn.hook_rot_"
        kept[f"{name}q"] = 2 * torch.randn(n, 4, 16, generator=chance)
        kept[f"{name}k"] = torch.randn(n, 2, 16, generator=chance)
    return Recording(torch.arange(n), ["t"] * n, config, "random", kept)


@pytest.fixture(scope="module")
def recording():
    return recorded()


def full_map(recording, layer, head):
    pattern = recording.attention[layer, head]
    return pattern.masked_fill(torch.ones_like(pattern).triu(1).bool(), torch.nan)


def test_a_small_window_equals_that_part_of_the_map(recording):
    found = window(recording, 1, 3, rows=(10, 30), columns=(5, 20))
    assert found.is_exact
    torch.testing.assert_close(found.values, full_map(recording, 1, 3)[10:30, 5:20], equal_nan=True)


@pytest.mark.parametrize("how", ["max", "mean"])
def test_a_pooled_window_has_the_maximum_or_mean_of_each_block(recording, how):
    found = window(recording, 0, 1, rows=(1, 40), columns=(0, 40), how=how, max_side=10)
    assert found.values.shape == (10, 10) and (found.row_step, found.column_step) == (4, 4)
    pattern = full_map(recording, 0, 1)
    for row, column in ((0, 0), (4, 2), (9, 9), (9, 0)):
        block = pattern[1 + 4 * row : 5 + 4 * row, 4 * column : 4 * column + 4]
        real = block[~block.isnan()]
        expected = real.max() if how == "max" else real.mean()
        torch.testing.assert_close(found.values[row, column], expected)
    assert bool(found.values[0, 9].isnan())


def test_the_block_size_does_not_change_a_window(recording, monkeypatch):
    before = window(recording, 0, 2, max_side=7).values
    monkeypatch.setattr("qwen3lab.analysis.map_windows.BLOCK", 5)
    torch.testing.assert_close(window(recording, 0, 2, max_side=7).values, before, equal_nan=True)
    column = full_map(recording, 0, 2)[:, 7].nan_to_num(0.0)
    torch.testing.assert_close(looked_at_by(recording, 0, 2, 7), column)


def test_a_sampled_window_uses_the_first_query_of_every_block(recording):
    found = window(recording, 0, 1, max_side=10, sampled=True)
    assert found.sampled and found.values.shape == (10, 10) and found.row_step == 4
    pattern = full_map(recording, 0, 1)
    for row, column in ((0, 0), (4, 2), (9, 9), (9, 0)):
        keys = pattern[4 * row, 4 * column : 4 * column + 4]
        torch.testing.assert_close(found.values[row, column], keys[~keys.isnan()].max())
    assert bool(found.values[0, 1].isnan())
    assert not window(recording, 0, 1, sampled=True).sampled, "there is room for every query"


def test_a_last_block_of_one_query_is_included(recording):
    found = window(recording, 1, 2, rows=(0, 37), columns=(0, 37), max_side=10, sampled=True)
    assert found.values.shape == (10, 10)
    torch.testing.assert_close(found.values[9, 3], full_map(recording, 1, 2)[36, 12:16].max())


def test_a_window_reports_progress_and_can_be_cancelled(recording, monkeypatch):
    monkeypatch.setattr("qwen3lab.analysis.map_windows.BLOCK", 16)
    reported = []
    window(recording, 0, 0, on_block=lambda done, n: reported.append((done, n)))
    assert reported == [(1, 3), (2, 3), (3, 3)]

    def end(done, n):
        reported.append(done)
        raise CancelledError

    with pytest.raises(CancelledError):
        window(recording, 0, 0, on_block=end)
    assert reported[3:] == [1]


def test_looks_at_and_looked_at_by_equal_a_row_and_a_column_of_the_map(recording):
    pattern = recording.attention[1, 2]
    torch.testing.assert_close(looks_at(recording, 1, 2, 11), pattern[11])
    torch.testing.assert_close(looked_at_by(recording, 1, -2, 11), pattern[:, 11])
    part = looked_at_by(recording, 1, 2, 11, rows=(5, 20))
    torch.testing.assert_close(part[5:20], pattern[5:20, 11])
    assert part[20:].abs().sum() == 0


def test_thumbnails_show_sampled_queries_and_the_maximum_of_each_key_block(recording):
    small = thumbnails(recording, 1, side=8)
    assert small.shape == (4, 8, 8)
    queries = [round(q) for q in torch.linspace(0, 39, 8).tolist()]
    pattern = recording.attention[1, 3]
    torch.testing.assert_close(small[3, 7, 2], pattern[queries[7], 10:15].max())
    assert bool(small[3, 0, 1].isnan())
    torch.testing.assert_close(
        thumbnails(recorded(6), 0)[1], full_map(recorded(6), 0, 1), equal_nan=True
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: window(r, 0, 0, rows=(3, 3)), "rows 3 to 3 are outside the text"),
        (lambda r: window(r, 0, 0, columns=(0, 41)), "columns 0 to 41 are outside the text"),
        (lambda r: window(r, 0, 0, how="sum"), "how is 'sum': choose from max, mean"),
        (lambda r: window(r, 0, 9), "head 9 does not exist"),
        (lambda r: window(r, 7, 0), "layer 7 does not exist"),
        (lambda r: looks_at(r, 0, 0, 40), "token 40 does not exist: the text has tokens 0 to 39"),
        (lambda r: looked_at_by(r, 0, 0, -1), "token -1 does not exist"),
        (lambda r: looked_at_by(r, 0, 0, 1, rows=(0, 50)), "rows 0 to 50 are outside the text"),
    ],
)
def test_invalid_windows_heads_and_tokens_are_refused(recording, call, message):
    with pytest.raises((ValueError, RecordingError), match=message):
        call(recording)
