import threading

import pytest

from qwen3lab import Sampling, tiny
from qwen3lab.thinking import Convergence, answers_at, convergence, pieces

GREEDY = Sampling.greedy()


@pytest.fixture(scope="module")
def problem():
    return tiny.problems("arithmetic", n=1, steps=7, seed=4)[0]


@pytest.fixture(scope="module")
def chat(tiny_lab, problem):
    return tiny_lab.chat(problem.question, sampling=GREEDY)


def test_each_forced_answer_equals_a_reply_with_that_thinking_budget(tiny_lab, chat, problem):
    found = convergence(tiny_lab, chat, every=2, problem=problem, progress=False)
    assert found.points[0] == 0 and found.points[-1] == found.thinking_tokens
    for point, (answer,) in zip(found.points, found.answers, strict=True):
        alone = tiny_lab.chat(problem.question, budget=point, sampling=GREEDY)
        assert answer == alone.answer
    assert found.chats_answer == chat.answer
    assert found.right is not None
    expected = tuple((problem.grade(answer),) for (answer,) in found.answers)
    assert found.right == expected


def test_shares_are_counted_over_the_samples_of_each_point(tiny_lab, chat, problem):
    hot = Sampling(temperature=1.5)
    found = convergence(tiny_lab, chat, every=9, samples=5, sampling=hot, seed=20, progress=False)
    replayed = len(chat.prompt_ids)
    assert all(len(drawn) == 5 for drawn in found.answers)
    shares = found.shares()
    for drawn, share in zip(found.answers, shares, strict=True):
        assert sum(share.values()) == pytest.approx(1)
        assert share[drawn[0]] == drawn.count(drawn[0]) / 5
    assert replayed == chat.spans["prompt"][1]


def test_a_single_point_gives_the_same_answer_as_a_series(tiny_lab, chat):
    found = convergence(tiny_lab, chat, every=4, progress=False)
    for point, (answer,) in zip(found.points, found.answers, strict=True):
        assert answers_at(tiny_lab, chat, [point])[point].text == answer


def test_a_cut_thinking_is_measured_up_to_the_cut(tiny_lab, problem):
    cut = tiny_lab.chat(problem.question, budget=9, sampling=GREEDY)
    found = convergence(tiny_lab, cut, every=3, progress=False)
    assert found.points == (0, 3, 6, 9)
    assert found.answers[-1] == (cut.answer,)


def test_a_thinking_in_lines_is_measured_after_each_sentence(tiny_lab):
    (problem,) = tiny.problems("swaps", n=1, steps=4, seed=2)
    chat = tiny_lab.chat(problem.question, sampling=GREEDY)
    found = convergence(tiny_lab, chat, progress=False)
    assert len(found.points) == 5
    assert [p.text.strip() for p in found.thoughts if p] == chat.thinking.split("\n")


def made(favourites, right=None):
    """A convergence of one answer at each of the points 0, 10, 20 and so on."""
    points = tuple(range(0, 10 * len(favourites), 10))
    return Convergence(
        points=points,
        thoughts=(None,) * len(points),
        answers=tuple((answer,) for answer in favourites),
        right=None if right is None else tuple((answer == right,) for answer in favourites),
        chats_answer=favourites[-1],
        thinking_tokens=points[-1],
    )


@pytest.mark.parametrize(
    ("favourites", "settled", "after"),
    [("aabb", 20, 10), ("bbbb", 0, 30), ("babab", 40, 0), ("abbb", 10, 20)],
)
def test_an_answer_settles_at_its_last_change(favourites, settled, after):
    found = made(favourites)
    assert (found.settled, found.after) == (settled, after)


@pytest.mark.parametrize(("favourites", "first"), [("xaxa", 10), ("xxxx", None), ("axxx", 0)])
def test_the_first_right_point_has_at_least_half_correct_answers(favourites, first):
    assert made(favourites, right="a").first_right == first


def test_without_a_problem_accuracy_is_none():
    assert made("ab").first_right is None and made("ab").accuracy is None


def test_the_favourite_is_the_most_frequent_answer():
    found = Convergence((0,), (None,), (("b", "a", "b"),), ((True, False, True),), "b", 0)
    assert found.favourites == ("b",)
    assert found.shares() == [{"b": 2 / 3, "a": 1 / 3}]
    assert found.accuracy == (2 / 3,)
    table = found.to_pandas()
    assert list(table.answer) == ["b", "a"] and list(table.right) == [True, False]


def test_bad_requests_are_refused(tiny_lab, chat):
    with pytest.raises(ValueError, match="samples is 0"):
        convergence(tiny_lab, chat, samples=0, progress=False)
    last = pieces(chat)[-1].kept
    with pytest.raises(ValueError, match=f"the thinking has {last} tokens: {last + 1} of them"):
        answers_at(tiny_lab, chat, [0, last + 1])
    quick = tiny_lab.chat("2+3=?", thinking=False, sampling=GREEDY)
    with pytest.raises(ValueError, match="the reply has no thinking"):
        convergence(tiny_lab, quick, progress=False)


def test_forced_answers_can_be_cancelled(tiny_lab, chat):
    cancel = threading.Event()
    cancel.set()
    assert answers_at(tiny_lab, chat, [0, 2], cancel=cancel) == {}
    cancel.clear()
    assert answers_at(tiny_lab, chat, [0, 2], cancel=cancel) == answers_at(tiny_lab, chat, [0, 2])
