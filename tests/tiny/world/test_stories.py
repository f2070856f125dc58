import re

import pytest

from qwen3lab import tiny
from qwen3lab.tiny.world.settings import WORLDS

FOODS = {
    word: food
    for world in WORLDS.values()
    for word, food in zip(world.animals, world.foods, strict=True)
}
PATTERNS = {
    "en": {
        "has": r"(\w+) has a (\w+) (\w+)\.",
        "goes": r"Then (\w+) takes the (\w+) (\w+) to the (\w+)\.",
        "eats": r"Every morning the \w+ (\w+) eats (\w+)\.",
        "sleeps": r"At night the (\w+) \w+ sleeps in the (\w+)\.",
        "who": r"Who has the (\w+) \w+\?",
        "food": r"What does the \w+ (\w+) eat\?",
        "where": r"Where is the (\w+) \w+\?",
    },
    "zh": {
        "has": r"(\w+?)有一只(\w)(\w+?)。",
        "goes": r"然后(\w+?)带(\w)(\w+?)去(\w+?)。",
        "eats": r"每天早上\w(\w+?)吃(\w+?)。",
        "sleeps": r"晚上(\w)\w+?睡在(\w+?)。",
        "who": r"谁有(\w)\w+？",
        "food": r"。\w(\w+?)吃什么？",
        "where": r"。(\w)\w+?在哪？",
    },
}


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_every_answer_follows_from_the_storys_text_and_the_facts(steps):
    for problem in tiny.problems("stories", n=200, steps=steps, seed=steps):
        text, patterns = problem.question, PATTERNS[problem.language]
        owners = {colour: owner for owner, colour, _ in re.findall(patterns["has"], text)}
        places = {colour: place for _, colour, _, place in re.findall(patterns["goes"], text)}
        if asked := re.search(patterns["who"], text):
            assert problem.answer == owners[asked[1]]
        elif asked := re.search(patterns["food"], text):
            assert problem.answer == FOODS[asked[1]]
        else:
            assert problem.answer == places[re.search(patterns["where"], text)[1]]


def test_facts_and_beds_are_the_same_throughout_a_story():
    for problem in tiny.problems("stories", n=200, steps=8, seed=5):
        text, patterns = problem.question, PATTERNS[problem.language]
        for animal, food in re.findall(patterns["eats"], text):
            assert FOODS[animal] == food
        beds: dict[str, set[str]] = {}
        for colour, place in re.findall(patterns["sleeps"], text):
            beds.setdefault(colour, set()).add(place)
        assert all(len(places) == 1 for places in beds.values())


def test_the_lists_of_both_languages_have_the_same_length():
    english, chinese = WORLDS["en"], WORLDS["zh"]
    for field in ("names", "objects", "animals", "foods", "places", "colours"):
        assert len(getattr(english, field)) == len(getattr(chinese, field))
    assert len(english.words) == len(chinese.words)


def test_the_passage_is_the_story_without_its_question():
    problem = tiny.problems("stories", n=1, steps=3)[0]
    story = "".join(piece.text for piece in problem.passage)
    assert problem.question.startswith(story)
    assert problem.question.endswith(("?", "？"))
