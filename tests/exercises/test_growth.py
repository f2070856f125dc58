"""Exercises on training: what they teach is true of the weights that ship."""

import pytest

from qwen3lab import exercises
from qwen3lab.analysis.attention import head_profile
from qwen3lab.interventions import scaling
from qwen3lab.tiny.growth import early_life

WORDS = " tree king moon sun city road night star door table house water"


@pytest.fixture(scope="module")
def childhood():
    return early_life("tiny-dense")


def test_a_previous_token_head_forms_before_the_induction_head(childhood):
    best = {
        kind: [round(float(each.heads[kind].max()), 2) for each in childhood]
        for kind in ("previous token", "induction")
    }
    steps = [each.step for each in childhood]
    formed = {kind: steps[[x >= 0.4 for x in values].index(True)] for kind, values in best.items()}
    assert formed == {"previous token": 500, "induction": 750}
    assert exercises.formed(childhood, "previous token", 500).solved is True
    said = {
        n: exercises.formed(childhood, "previous token", n).reason for n in (250, 750, 16500, 7)
    }
    assert "below 0.4" in said[250] and "an earlier snapshot" in said[750]
    assert "the highest of all" in said[16500] and "choose from" in said[7]


def test_lists_are_learned_last(childhood):
    at_2000 = next(each for each in childhood if each.step == 2000)
    assert [name for name, value in at_2000.surplus.items() if value >= 0.5] == ["lists"]
    assert exercises.last_family(childhood, "lists").solved is True
    assert "highest loss at first" in exercises.last_family(childhood, "outside").reason
    assert "another kind takes longer" in exercises.last_family(childhood, "swaps").reason
    assert "choose from arithmetic" in exercises.last_family(childhood, "sums").reason


def test_a_head_of_another_kind_is_told_which_one_it_is(childhood):
    kind = "duplicate token"
    assert exercises.head_of_kind(childhood[-1], kind, (1, 0)).solved is True
    assert "best induction head" in exercises.head_of_kind(childhood[-1], kind, (1, 2)).reason
    assert "the layer comes first" in exercises.head_of_kind(childhood[-1], kind, (0, 1)).reason
    assert "heads 0 to 3" in exercises.head_of_kind(childhood[-1], kind, (1, 4)).reason


@pytest.mark.parametrize(
    ("answer", "solved", "said"),
    [
        (0.375, True, "37.5%"),
        (16 / 6, False, "the inverse"),
        (0.25, False, "two of eight"),
        (0.375**2, False, "the square"),
        (1 / 16, False, "one expert per token"),
        (0.9, False, "how likely"),
        ("a", False, "as in answer=0.25"),
    ],
)
def test_chance_is_the_share_of_chosen_experts(answer, solved, said):
    verdict = exercises.chance_overlap(16, 6, answer)
    assert verdict.solved is solved and said in verdict.reason


@pytest.mark.parametrize(("head", "feeds"), [((0, 2), True), ((0, 3), True), ((0, 0), False)])
def test_the_induction_head_needs_previous_token_heads_of_an_earlier_layer(dense, head, feeds):
    text = WORDS + WORDS
    whole, without = (
        float(head_profile(dense.record(text, edits=edits)).induction.max())
        for edits in (None, scaling.head(*head))
    )
    assert (without <= whole / 2) is feeds
    verdict = exercises.feeds_induction(dense, text, head)
    assert verdict.solved is feeds and f"to {without:.2f}" in verdict.reason


def test_a_later_head_cannot_feed_the_induction_head(dense):
    verdict = exercises.feeds_induction(dense, WORDS + WORDS, (4, 0))
    assert verdict.solved is False and "earlier layers only" in verdict.reason
