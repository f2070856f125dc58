"""Exercises on attention: what they teach is true of the shipped models."""

import pytest
import torch

from qwen3lab import exercises
from qwen3lab.analysis import attention, circuits
from qwen3lab.interventions import scaling
from qwen3lab.interventions.sinks import MadeUpSink

WORDS = " tree king moon sun city road night star door table house water"
LOOKUP = "lamp 2, book 7, cat 1. book?"


@pytest.fixture(scope="module")
def of_moe(moe):
    return attention.head_profile(moe.record(WORDS * 2))


@pytest.fixture(scope="module")
def of_dense(dense):
    return attention.head_profile(dense.record(WORDS * 2))


def by_hand(pattern: torch.Tensor, back: int) -> float:
    """Mean attention of all queries to the token so many places before."""
    rows = range(back, len(pattern))
    return sum(float(pattern[row, row - back]) for row in rows) / len(pattern)


def test_the_mixture_has_duplicate_token_heads_and_no_induction_head(moe, of_moe):
    recording = moe.record(WORDS * 2)
    duplicate = by_hand(recording.attention.pattern(1)[3], 12)
    assert duplicate > 0.4
    assert exercises.best_head(of_moe, "duplicate", (1, 3)).solved is True
    induction = [by_hand(head, 11) for n in range(6) for head in recording.attention.pattern(n)]
    assert max(induction) == pytest.approx(0.09, abs=0.01)  # as the notebook says
    none = exercises.best_head(of_moe, "induction", (2, 2))
    assert none.solved is None and "take another model" in none.reason


def test_the_dense_model_has_induction_heads_that_copy(dense, of_dense):
    assert by_hand(dense.record(WORDS * 2).attention.pattern(1)[2], 11) > 0.4
    assert exercises.best_head(of_dense, "induction", (1, 2)).solved is True
    scores = circuits.copying_scores(dense)[1].tolist()
    assert min(scores[2:]) > 0.9 and max(scores[:2]) < -0.8


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((1, 1), "so it is a duplicate-token head"),
        ((0, 3), "so it is a previous-token head"),
        ((2, 1), "you have swapped layer and head"),
        ((5, 0), "look for 0.25 or more"),
        ((2, 9), "does not exist: layers 0 to 5 have heads 0 to 3"),
        ((2, 5), "The layer comes first"),
        (3, "give layer and head"),
    ],
)
def test_a_wrong_head_is_told_what_it_does(of_dense, answer, said):
    verdict = exercises.best_head(of_dense, "induction", answer)
    assert verdict.solved is False and said in verdict.reason


def test_only_the_last_hint_on_a_head_names_it(of_dense):
    hints = [exercises.best_head(of_dense, "induction", None, hint=n).reason for n in (1, 2, 3)]
    assert ["Layer 1, head" in hint for hint in hints] == [False, False, True]
    assert "head_map" in hints[1]


def test_the_made_up_sink_has_heads_above_the_threshold_and_the_model_none(moe):
    question = "Ann has the key. Ben has the ball. Eva has the cup. Ann and Ben swap. "
    question += "Ben and Eva swap. What does Eva have?"
    plain = moe.chat(question, sampling=moe.suggested.sampling, seed=0, record=True).recording
    sink = MadeUpSink(nats=4.0, layers=range(3, 6))
    made_up = moe.record(plain.token_ids.tolist(), edits=sink)
    mass, without = attention.key_mass(made_up), attention.key_mass(plain)
    first = torch.stack([made_up.attention.pattern(n)[:, :, 0].mean(dim=-1) for n in range(6)])
    heads = int((first > 0.3).sum())
    assert heads > 1 and int((without[:, :, 0] > 0.3).sum()) == 0
    said = {n: exercises.sink_heads(mass, n, without=without) for n in (0, 2, heads, 9, 24)}
    assert [n for n, verdict in said.items() if verdict.solved] == [heads]
    assert "without the sink" in said[0].reason and "Count the heads" in said[2].reason
    assert "fewer" in said[9].reason and "all heads" in said[24].reason
    # The last token is no sink: only few queries see it, and they give it much.
    assert float(without.mean(dim=(0, 1))[-1]) > 0.15


@pytest.fixture(scope="module")
def found(moe):
    return moe.chat(LOOKUP, thinking=False, record=True, max_new_tokens=16)


def test_one_head_reads_the_number_that_is_looked_up(found):
    query, key = len(found.prompt_ids) - 1, found.recording.tokens.index("7")
    assert float(found.recording.attention.pattern(2)[2, query, key]) > 0.8
    assert exercises.reads_token(found.recording, query, key, (2, 2)).solved is True
    wrong = exercises.reads_token(found.recording, query, key, (4, 2))
    assert wrong.solved is False and "most goes to token 7, ' book'" in wrong.reason


@pytest.mark.parametrize(("head", "needed"), [((1, 3), True), ((2, 2), False)])
def test_the_head_that_reads_the_number_is_not_needed_but_one_before_it_is(moe, head, needed):
    options = {"thinking": False, "sampling": moe.suggested.sampling, "max_new_tokens": 16}
    without = moe.chat(LOOKUP, edits=scaling.head(*head), **options).answer.strip()
    assert (without != "7") is needed
    verdict = exercises.needed_head(moe, LOOKUP, head)
    assert verdict.solved is needed and repr(without) in verdict.reason
