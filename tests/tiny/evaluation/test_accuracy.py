"""Replies are matched with their problems, whatever the batches."""

import random

import pytest
from tqdm.auto import tqdm

from qwen3lab import Sampling, tiny
from qwen3lab.generation.thinking_control import Extension
from qwen3lab.tiny.evaluation.accuracy import PROBLEMS_PER_BATCH, accuracy, replies
from tests.tiny.evaluation.known_lab import KnownLab, solver


@pytest.fixture(scope="module")
def problems():
    drawn = [p for k in (1, 7, 3) for p in tiny.problems("arithmetic", n=40, steps=k, seed=k)]
    return random.Random(0).sample(drawn, len(drawn))


def test_every_reply_stands_at_the_place_of_its_problem(tiny_tokenizer, problems):
    assert len(problems) > PROBLEMS_PER_BATCH
    lab = KnownLab(tiny_tokenizer, lambda question, options: ("", question))
    found = replies(lab, problems, tqdm(disable=True), thinking=True)
    assert [reply.answer for reply in found] == [problem.question for problem in problems]


def test_the_accuracy_counts_right_answers(tiny_tokenizer, problems):
    right = solver(problems)
    lab = KnownLab(tiny_tokenizer, lambda q, o: right(q, o) if "7" in q else ("", "I do not know."))
    share, _ = accuracy(lab, problems, tqdm(disable=True), thinking=False)
    assert (share.hits, share.total) == (sum("7" in p.question for p in problems), 120)


def test_every_sampled_reply_has_a_seed_of_its_own(tiny_tokenizer, problems):
    lab, sampling = KnownLab(tiny_tokenizer), Sampling(temperature=1.0)
    options = {"thinking": True, "sampling": sampling, "seed": 5, "extend": Extension()}
    replies(lab, problems, tqdm(disable=True), **options)
    assert sorted(asked["seed"] for _, asked in lab.asked) == list(range(5, 125))
    assert all(asked["sampling"] == sampling for _, asked in lab.asked)
    assert all(asked["extend"] == Extension() for _, asked in lab.asked)
