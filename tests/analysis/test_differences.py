"""Differences of aligned runs, computed again from the recordings, and by hand."""

import math
from dataclasses import replace

import pytest
import torch

from qwen3lab.analysis.alignment import alignment
from qwen3lab.analysis.differences import (
    DIVERGENCE,
    SURPRISAL,
    attention_difference,
    prediction_difference,
    routing_difference,
)
from qwen3lab.recording.recording import Recording
from tests.analysis.test_alignment import run
from tests.fake_lab import DENSE, MOE, record


@pytest.fixture(scope="module")
def aligned(tiny_lab):
    """Two questions; the second one has a token more."""
    return alignment(tiny_lab.record("3+4=?"), tiny_lab.record("3+14=?"))


def test_attention_is_compared_between_tokens_that_correspond(aligned) -> None:
    found = attention_difference(aligned, 3, 1)
    one, other = aligned.one.attention[3, 1], aligned.other.attention[3, 1]
    places = dict(aligned.pairs)
    assert len(places) == 4 and found.rows == ()
    for row, (i, j) in enumerate(places.items()):
        for column, (a, b) in enumerate(places.items()):
            if column > row:
                assert found.values[row, column].isnan()
            else:
                expected = one[i, a] - other[j, b]
                torch.testing.assert_close(found.values[row, column], expected)
    assert found.what == "attention of layer 3, head 1"
    assert attention_difference(aligned, -3, -3).what == "attention of layer 3, head 1"


def test_attention_of_many_tokens_is_that_of_the_whole_pattern(tiny_lab) -> None:
    ids = [40, 41, 42, 43, 44] * 40
    found = alignment(tiny_lab.record(ids), tiny_lab.record([50, *ids]))
    assert len(found) == 200
    values = attention_difference(found, 2, 0).values
    expected = found.one.attention[2, 0] - found.other.attention[2, 0][1:, 1:]
    torch.testing.assert_close(values.nan_to_num(), expected.tril(), atol=1e-6, rtol=1e-4)


def test_routing_is_compared_expert_by_expert(aligned) -> None:
    found = routing_difference(aligned, 2)
    one, other = (each.routing.layer(2) for each in (aligned.one, aligned.other))
    assert found.rows == tuple(str(n) for n in range(16))
    for column, (i, j) in enumerate(aligned.pairs):
        gives = dict(zip(one.experts[i].tolist(), one.weights[i].tolist(), strict=True))
        takes = dict(zip(other.experts[j].tolist(), other.weights[j].tolist(), strict=True))
        for expert in range(16):
            value = float(found.values[expert, column])
            if expert in gives or expert in takes:
                expected = gives.get(expert, 0) - takes.get(expert, 0)
                assert value == pytest.approx(expected, abs=1e-6)
            else:
                assert math.isnan(value)


def spoken(logits: list[list[float]], ids: list[int]) -> Recording:
    """A recording with these logits."""
    found = record(MOE, [f"t{token}" for token in ids], {})
    found.token_ids[:] = torch.tensor(ids)
    values = torch.tensor(logits)
    return Recording(found.token_ids, found.tokens, MOE, "fake", {"hook_unembed": values})


def test_predictions_are_compared_at_the_position_before_the_token() -> None:
    """By hand: the second token has probability 3/4 in one run, and 1/2 in the other."""
    one = spoken([[math.log(3), 0.0], [0.0, 0.0]], [1, 0])
    other = spoken([[0.0, 0.0], [0.0, 0.0]], [1, 0])
    found = prediction_difference(alignment(one, other))
    assert found.rows == (SURPRISAL, DIVERGENCE) and found.unit == "difference (nats)"
    assert found.values[:, 0].isnan().all()
    surprisal = -math.log(3 / 4) + math.log(1 / 2)
    divergence = 3 / 4 * math.log((3 / 4) / (1 / 2)) + 1 / 4 * math.log((1 / 4) / (1 / 2))
    torch.testing.assert_close(found.values[:, 1], torch.tensor([surprisal, divergence]))


def test_a_token_that_was_replaced_is_compared_by_the_surprisal_of_each_run() -> None:
    one = spoken([[math.log(3), 0.0], [0.0, 0.0]], [1, 0])
    other = spoken([[math.log(3), 0.0], [0.0, 0.0]], [1, 1])
    found = prediction_difference(alignment(one, other))
    expected = -math.log(3 / 4) + math.log(1 / 4)  # The same prediction of another token.
    torch.testing.assert_close(found.values[:, 1], torch.tensor([expected, 0.0]))


def test_predictions_of_a_run_are_those_of_its_log_probabilities(aligned) -> None:
    values = prediction_difference(aligned).values
    one, other = -aligned.one.logprobs(), -aligned.other.logprobs()
    for column, (i, j) in enumerate(aligned.pairs[1:], start=1):
        torch.testing.assert_close(values[0, column], one[i - 1] - other[j - 1])
        p, q = (
            torch.distributions.Categorical(logits=recording.logits[place - 1])
            for recording, place in ((aligned.one, i), (aligned.other, j))
        )
        expected = torch.distributions.kl_divergence(p, q)
        torch.testing.assert_close(values[1, column], expected, atol=1e-5, rtol=1e-4)


def test_a_token_without_probability_adds_nothing_to_the_divergence() -> None:
    one = spoken([[0.0, -math.inf], [0.0, 0.0]], [1, 0])
    other = spoken([[0.0, 0.0], [0.0, 0.0]], [1, 0])
    found = prediction_difference(alignment(one, other))
    torch.testing.assert_close(found.values[1, 1], torch.tensor(math.log(2)))


def test_a_run_does_not_differ_from_itself(tiny_lab) -> None:
    recording = tiny_lab.record("7+2*3=?")
    same = alignment(recording, recording)
    for found in (
        attention_difference(same, 0, 0),
        routing_difference(same, 0),
        prediction_difference(same),
    ):
        assert found.values.nan_to_num().abs().max() == 0
        assert not found.values.isnan().all()


def test_what_two_models_do_not_share_is_refused_by_name() -> None:
    one, dense = run("ab"), run("ab", config=DENSE)
    with pytest.raises(ValueError, match="routing cannot be compared: second run is dense"):
        routing_difference(alignment(one, dense), 1)
    small = run("ab", config=replace(MOE, n_layers=2, moe_layers=(1,)))
    with pytest.raises(
        ValueError, match="first run has 4 layers of 4 heads and second run has 2 layers of 4 heads"
    ):
        attention_difference(alignment(one, small), 0, 0)
    with pytest.raises(ValueError, match="first run has 6 experts in 2 layers and second run"):
        routing_difference(alignment(one, small), 1)
    with pytest.raises(ValueError, match="have different vocabularies"):
        prediction_difference(alignment(one, one, same_vocabulary=False))


def test_runs_without_a_common_token_have_an_empty_difference() -> None:
    found = alignment(run("ab"), run("xyz"))
    assert len(found) == 0
    assert attention_difference(found, 0, 0).values.shape == (0, 0)
    assert routing_difference(found, 1).values.shape == (6, 0)
    assert "aligned tokens" in repr(routing_difference(found, 1))
