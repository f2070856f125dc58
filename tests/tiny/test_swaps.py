import re

import pytest

from qwen3lab import tiny
from qwen3lab.tiny.world import WORLDS

NAMES = {name for world in WORLDS.values() for name in world.names}
THINGS = {thing for world in WORLDS.values() for thing in world.objects}
ENGLISH = {
    "has": r"(\w+) has the (\w+)\. ",
    "swap": r"(\w+) and (\w+) swap\.",
    "person": r"What does (\w+) have\?",
    "thing": r"Who has the (\w+)\?",
}
CHINESE = {
    "has": r"(\w+?)拿着(\w+?)。",
    "swap": r"(\w+?)和(\w+?)交换。",
    "person": r"。(\w+?)拿着什么？",
    "thing": r"谁拿着(\w+?)？",
}


def solved(question, patterns):
    """Who holds what after each swap, and the answer, from the question's text alone."""
    held = dict(re.findall(patterns["has"], question))
    states = []
    for a, b in re.findall(patterns["swap"], question):
        held[a], held[b] = held[b], held[a]
        states.append(dict(held))
    if asked := re.search(patterns["person"], question):
        return states, held[asked[1]]
    thing = re.search(patterns["thing"], question)[1]
    return states, next(name for name, held_thing in held.items() if held_thing == thing)


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_every_answer_and_every_state_follows_from_the_questions_text(steps):
    problems = tiny.problems("swaps", n=150, steps=steps, seed=steps)
    assert {problem.language for problem in problems} == {"en", "zh"}
    for problem in problems:
        states, answer = solved(problem.question, ENGLISH if problem.language == "en" else CHINESE)
        assert problem.answer == answer, problem.question
        lines = problem.thinking.split("\n")
        assert len(lines) == len(states) == steps
        for line, state in zip(lines, states, strict=True):
            after = re.split("[:：]", line)[1]
            words = " ".join(re.split(r"[,， ]", after)) if problem.language == "en" else after
            for name, thing in state.items():
                assert f"{name} {thing}" in words or f"{name}{thing}" in words


def test_the_thinking_names_who_swaps():
    for problem in tiny.problems("swaps", n=50, steps=4, seed=9):
        swaps = re.findall(r"(\w+) and (\w+) swap|(\w+?)和(\w+?)交换", problem.question)
        pairs = [tuple(name for name in pair if name) for pair in swaps]
        for pair, line in zip(pairs, problem.thinking.split("\n"), strict=True):
            head = re.split("[:：]", line)[0]
            assert tuple(re.split(" |和", head)) == pair


def test_names_and_things_carry_their_roles(tiny_tokenizer):
    problem = tiny.problems("swaps", n=1, steps=3)[0]
    labels = tiny.label_tokens(problem, problem.question, tiny_tokenizer)
    ids = tiny_tokenizer.encode(problem.question, add_special_tokens=False)
    texts = [tiny_tokenizer.decode([token]).strip() for token in ids]
    for text, label in zip(texts, labels, strict=True):
        if text in NAMES:
            assert label.role == "name"
        if text in THINGS:
            assert label.role == "object"


def test_answers_are_spread_over_people_and_things():
    problems = tiny.problems("swaps", n=600, steps=6, seed=0)
    by_person = sum(problem.answer in THINGS for problem in problems) / 600
    # Four standard errors of a share of a half are 4 * sqrt(0.25 / 600) = 0.082.
    assert abs(by_person - 0.5) < 0.082
