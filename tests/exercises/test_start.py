"""Exercises of the first notebook: what they teach is true of the shipped model."""

import pytest
import torch

from qwen3lab import exercises, tiny
from qwen3lab.analysis.uncertainty import uncertainty

SUM = "12+30-7*2+8-15=?"


@pytest.fixture(scope="module")
def chat(moe):
    return moe.chat(SUM, sampling=moe.suggested.sampling, seed=0, record=True)


def reply(lab, question, **options):
    return lab.chat(question, sampling=lab.suggested.sampling, seed=0, **options)


def test_the_key_of_a_row_is_told_from_that_of_a_column_and_from_a_neighbour():
    pattern = torch.tensor([[1.0, 0, 0, 0], [0.7, 0.3, 0, 0], [0.1, 0.8, 0.1, 0], [0, 0, 0.9, 0.1]])
    assert exercises.most_attended(pattern, 2, 1).solved is True
    said = {key: exercises.most_attended(pattern, 2, key).reason for key in (0, 2, 3, 9)}
    assert "right beside it" in said[0] and "the query itself" in said[2]
    assert "you read the column" in said[3] and "tokens 0 to 3" in said[9]
    assert "comes later" in exercises.most_attended(pattern, 1, 3).reason


def test_the_exercise_on_a_map_cannot_be_read_off_the_diagonal(chat):
    pattern = chat.recording.attention[1, 3]
    (key,) = [n for n in range(12) if exercises.most_attended(pattern, 12, n).solved]
    # An operator attends to an earlier operator, and further back than its neighbour.
    assert chat.recording.tokens[12] in "+-*" and chat.recording.tokens[key] in "+-*" and key < 11


def test_the_heaviest_expert_is_not_the_one_chosen_most_often(moe, chat):
    last = moe.config.n_layers - 1
    weights = torch.zeros(moe.config.n_experts)
    routing = chat.recording.routing.layer(last)
    weights[routing.experts[8]] = torch.as_tensor(routing.weights[8])
    best, busiest = int(weights.argmax()), int(routing.experts.flatten().mode().values)
    assert best != busiest
    assert exercises.heaviest_expert(chat.recording, last, 8, best).solved is True
    hint = exercises.heaviest_expert(chat.recording, last, 8, None, hint=2).reason
    assert f"rec.routing.layer({last}).experts[8]" in hint
    wrong = [exercises.heaviest_expert(chat.recording, last, 8, n) for n in range(16) if n != best]
    assert not any(verdict.solved for verdict in wrong)
    assert "another gets a larger weight" in wrong[busiest - (busiest > best)].reason
    assert any("is not routed to expert" in verdict.reason for verdict in wrong)


def test_a_dense_model_is_told_to_go_on(dense):
    verdict = exercises.heaviest_expert(dense.record("1+1=?"), 0, 1, 3)
    assert verdict.solved is None and "has no experts" in verdict.reason


def test_the_model_hesitates_before_it_writes_wait(moe):
    doubt = reply(moe, "7*6*7-0*3-31-9=?", record=True)
    assert "Wait" in doubt.thinking
    place = len(doubt.prompt_ids) + doubt.tokens.index("Wait")
    found = uncertainty(doubt)
    assert exercises.most_uncertain(found, place).solved is True
    assert "right beside it" in exercises.most_uncertain(found, place - 1).reason
    assert "did not generate token 3" in exercises.most_uncertain(found, 3).reason


def test_the_first_example_has_peaks_of_entropy_after_the_results_of_steps(chat):
    found = uncertainty(chat)
    peaks = found.entropy.argsort(descending=True)[:5].tolist()
    assert all(float(found.entropy[n]) > 0.1 for n in peaks)
    assert {found.tokens[n] for n in peaks} <= {",", "</think>", "\n"}
    assert float(found.entropy.median()) < 0.05


def test_the_budget_loop_of_the_first_example_goes_from_wrong_to_right(moe):
    budgets = moe.suggested.budgets[:4]
    marks = [tiny.mark(SUM, reply(moe, SUM, budget=each).answer) for each in budgets]
    assert marks == sorted(marks, reverse=True) and {"wrong", "right"} == set(marks)


def test_a_budget_is_just_enough_if_one_token_less_is_wrong(moe):
    question = "9*6-27+15*2+38=?"
    answers = [reply(moe, question, budget=budget).answer.strip() for budget in (40, 41, 42, 43)]
    assert [answer == "122" for answer in answers] == [False, False, True, True]
    assert exercises.enough_thinking(moe, question, 42).solved is True
    assert "one token less is enough" in exercises.enough_thinking(moe, question, 43).reason
    too_few = exercises.enough_thinking(moe, question, 8)
    assert too_few.solved is False and "122 is right: it needs more" in too_few.reason
    assert "by itself" in exercises.enough_thinking(moe, question, 200).reason
    assert "42 tokens are" in exercises.enough_thinking(moe, question, None, hint=3).reason


@pytest.mark.parametrize(
    ("answer", "solved", "said"),
    [
        ("12+30-7*2=?", True, "The truth is 70"),
        ("7*8=?", False, "too easy"),
        ("hello", False, "is no sum of this world"),
        ("38+47*2-95+126-48=?", False, "too hard"),
        (7, False, "give one in quotes"),
        (None, None, "No answer yet"),
    ],
)
def test_a_sum_that_needs_thinking_is_judged_by_asking_the_model(moe, answer, solved, said):
    verdict = exercises.needs_thinking(moe, answer)
    assert verdict.solved is solved and said in verdict.reason
