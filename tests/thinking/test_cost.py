"""Costs that are computed before a run are upper bounds of what the run does."""

import pytest

from qwen3lab import Sampling, thinking, tiny
from qwen3lab.generation import pace
from qwen3lab.thinking import cost
from qwen3lab.thinking.cost import Cost, duration

GREEDY = Sampling.greedy()
FIXED = pace.Pace(seconds_per_token=0.001, seconds_per_step=0.5)


@pytest.fixture
def measured(monkeypatch):
    """A fixed rate in place of a measured one; the list has the batch of each measurement."""
    batches = []
    monkeypatch.setattr(cost, "measure_pace", lambda _, rows: batches.append(rows) or FIXED)
    return batches


def test_a_sweep_takes_the_steps_of_its_longest_thinking_and_of_all_answers(tiny_lab, measured):
    problems = tiny.chains(tiny_lab.tokenizer, n=2, steps=(2, 6), seed=1)
    found = thinking.sweep_cost(tiny_lab, problems, (0, 10, 20), answer_tokens=5, batch=3)
    steps = 2 * (20 + 4 * 5)  # Two batches; three budgets, and the answer at once.
    assert measured == [3]
    prompts = [
        tiny_lab.token_ids([{"role": "user", "content": problem.question}], thinking=True)
        for problem in problems
    ]
    assert found.read_tokens == 2 * sum(map(len, prompts))
    assert found.seconds == pytest.approx(0.5 * steps + 0.001 * found.read_tokens)
    assert (found.parts, found.continuations) == (4, 16)
    assert str(found).startswith("4 problems, 16 continuations")
    swept = thinking.sweep(
        tiny_lab, problems, (0, 10, 20), answer_tokens=5, sampling=GREEDY, progress=False
    )
    thought = sum(attempt.answers[-1].thinking_tokens for attempt in swept.attempts)
    written = sum(a.answer_tokens for attempt in swept.attempts for a in attempt.answers)
    assert 0 < thought + written < found.most_tokens


def test_points_and_parts_cost_a_continuation_for_each_sample(tiny_lab, measured):
    chat = tiny_lab.chat("7+2*3-1*7+3=?", sampling=GREEDY)
    n = len(thinking.pieces(chat, 3))
    options = {"every": 3, "samples": 4}
    along = thinking.convergence_cost(tiny_lab, chat, **options, answer_tokens=8)
    assert (along.parts, along.continuations, along.most_tokens) == (n + 1, 4 * n + 4, 32 * n + 32)
    assert along.seconds == pytest.approx(0.5 * 8 * (n + 1) + 0.001 * along.read_tokens)
    plain = thinking.importance_cost(chat, **options)
    timed = thinking.importance_cost(chat, **options, lab=tiny_lab)
    assert plain.seconds is None and timed.seconds is not None
    assert (plain.parts, plain.continuations) == (n, 4 * n + 4)
    assert measured == [4, 4]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "about 1 second"),
        (90.0, "about 90 seconds"),
        (240.0, "about 4 minutes"),
        (7300.0, "about 2 hours"),
    ],
)
def test_a_time_is_said_in_rounded_words(seconds, text):
    assert duration(seconds) == text


def test_a_long_run_offers_a_smaller_one_beforehand():
    assert "on this machine" not in str(Cost(1, 1, 10, 10))
    assert str(Cost(1, 1, 10, 10, seconds=20.0)).endswith(
        "at most about 20 seconds on this machine"
    )
    assert "for a shorter run, take the values of lab.suggested.smaller" in str(
        Cost(1, 1, 10, 10, seconds=1000.0)
    )


def test_a_rate_is_measured_with_the_model_itself(tiny_lab):
    found = pace.measure_pace(tiny_lab.decoder, rows=3)
    assert 0 < found.seconds_per_token < found.seconds_per_step < 5
