import itertools
import random
import re

import pytest

from qwen3lab import tiny
from qwen3lab.tiny.world import swaps
from qwen3lab.tiny.world.problems import split_of
from qwen3lab.tiny.world.settings import WORLDS

NAMES = {name for world in WORLDS.values() for name in world.names}
THINGS = {thing for world in WORLDS.values() for thing in world.objects}
ENGLISH = {
    "has": r"(\w+) has the (\w+)\. ",
    "swap": r"(\w+) and (\w+) swap\.",
    "asked": r"What does (\w+) have\?",
}
CHINESE = {
    "has": r"(\w+?)拿着(\w+?)。",
    "swap": r"(\w+?)和(\w+?)交换。",
    "asked": r"。(\w+?)拿着什么？",
}


def solved(question, patterns):
    """The objects of all people after each swap, and the answer, from the question's text."""
    held = dict(re.findall(patterns["has"], question))
    states = []
    for a, b in re.findall(patterns["swap"], question):
        held[a], held[b] = held[b], held[a]
        states.append(dict(held))
    asked = re.search(patterns["asked"], question)[1]
    return states, (asked, held[asked])


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_every_answer_and_every_state_follows_from_the_questions_text(steps):
    problems = tiny.problems("swaps", n=150, steps=steps, seed=steps)
    assert {problem.language for problem in problems} == {"en", "zh"}
    for problem in problems:
        states, answer = solved(problem.question, ENGLISH if problem.language == "en" else CHINESE)
        assert holders(problem.answer) == [answer], problem.question
        lines = problem.thinking.split("\n")
        assert len(lines) == len(states) == steps
        for line, state in zip(lines, states, strict=True):
            assert sorted(holders(re.split("[:：]", line)[1])) == sorted(state.items())


def holders(text):
    """Pairs of name and object in a line such as `Ann key, Ben ball`, in order."""
    names, things = (sorted(words, key=len, reverse=True) for words in (NAMES, THINGS))
    return re.findall(rf"({'|'.join(names)}) ?({'|'.join(things)})", text)


def test_a_thinking_line_begins_with_the_two_people_and_their_objects_before_the_swap():
    for problem in tiny.problems("swaps", n=50, steps=4, seed=9):
        swaps = re.findall(r"(\w+) and (\w+) swap|(\w+?)和(\w+?)交换", problem.question)
        pairs = [tuple(name for name in pair if name) for pair in swaps]
        for pair, line in zip(pairs, problem.thinking.split("\n"), strict=True):
            before, after = (holders(side) for side in re.split("[:：]", line))
            assert tuple(name for name, _ in before) == pair
            # The two people who swapped come first, with their objects exchanged.
            assert [thing for _, thing in after[:2]] == [thing for _, thing in before[::-1]]


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_every_statement_of_a_passage_is_true(split):
    noted = 0
    for problem in tiny.problems("swaps", n=200, steps=5, seed=4, split=split):
        held = {}
        text = "".join(piece.text for piece in problem.passage)
        for sentence in re.split(r"\. |。", text)[:-1]:
            if swap := re.fullmatch(r"(\w+) and (\w+) swap|(\w+?)和(\w+?)交换", sentence):
                a, b = (name for name in swap.groups() if name)
                held[a], held[b] = held[b], held[a]
            elif has := re.fullmatch(r"(\w+?)(?: has the |拿着)(\w+)", sentence):
                held[has[1]] = has[2]
            else:
                for name, thing in holders(sentence):
                    assert held[name] == thing, text
                    noted += 1
    # 200 problems, 5 swaps, 3 people: 3,000 statements, each made with probability 0.6 unless it
    # answers a held-out problem.
    assert 0.48 < noted / 3000 < 0.6


def test_a_passage_never_answers_a_held_out_problem():
    # The problem whose answer is a statement of the passage is never held out.
    rng = random.Random(0)
    setting = swaps.Setting("en", ("Ann", "Ben", "Eva"), ("key", "ball", "cup"))
    kept = 0
    for first, second in swaps.PAIRS * 20:
        held = list(setting.things)
        held[first], held[second] = held[second], held[first]
        notes = swaps._notes(rng, setting, held, [(first, second)])
        for name, _ in holders("".join(piece.text for piece in notes)):
            key = setting.key([(first, second)], setting.names.index(name))
            assert split_of(key) == "train"
            kept += 1
    assert kept > 50


def test_no_pair_of_neighbouring_swaps_occurs_twice():
    for problem in tiny.problems("swaps", n=200, steps=8, seed=2):
        described = re.findall(r"(\w+) and (\w+) swap|(\w+?)和(\w+?)交换", problem.question)
        pairs = list(itertools.pairwise(described))
        assert len(described) == 8
        assert len(set(pairs)) == len(pairs)


def test_names_and_objects_have_their_roles(tiny_tokenizer):
    problem = tiny.problems("swaps", n=1, steps=3)[0]
    labels = tiny.label_tokens(problem, problem.question, tiny_tokenizer)
    ids = tiny_tokenizer.encode(problem.question, add_special_tokens=False)
    texts = [tiny_tokenizer.decode([token]).strip() for token in ids]
    for text, label in zip(texts, labels, strict=True):
        if text in NAMES:
            assert label.role == "name"
        if text in THINGS:
            assert label.role == "object"


def test_the_answer_is_independent_of_the_last_swap():
    problems = tiny.problems("swaps", n=600, steps=6, seed=0)
    last = 0
    for problem in problems:
        swap = re.findall(r"(\w+) and (\w+) swap|(\w+?)和(\w+?)交换", problem.question)[-1]
        last += holders(problem.answer)[0][0] in swap
    # Four standard errors of a share of two thirds are 4 * sqrt(2 / 9 / 600) = 0.077.
    assert abs(last / 600 - 2 / 3) < 0.077
