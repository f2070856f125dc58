import re
from typing import ClassVar

import pytest

from qwen3lab import tiny


class OtherTokenizer:
    """Stands for the tokenizer of another model: it only has a vocabulary size."""

    def __len__(self):
        return 151_669


def test_an_embedded_model_gets_the_problems_in_the_familys_notation(tiny_tokenizer):
    asked = tiny.chains(tiny_tokenizer, n=3, steps=4, seed=5)
    assert asked == tiny.problems("arithmetic", n=3, steps=4, seed=5)
    assert tiny.is_embedded(tiny_tokenizer) and not tiny.is_embedded(OtherTokenizer())


def test_any_other_model_gets_the_same_problems_in_english(tiny_tokenizer):
    own = tiny.chains(tiny_tokenizer, n=20, steps=(1, 5), seed=2)
    plain = tiny.chains(OtherTokenizer(), n=20, steps=(1, 5), seed=2)
    assert len(own) == len(plain) == 40
    for problem, other in zip(own, plain, strict=True):
        assert other.answer == problem.answer
        assert other.level == problem.level
        assert other.grade(f"So the result is {other.answer}.")
        assert not other.grade(f"So the result is {int(other.answer) + 1}.")


def test_the_english_question_states_the_start_and_the_operations():
    (problem,) = tiny.chains(OtherTokenizer(), n=1, steps=2, seed=0)
    (own,) = tiny.problems("arithmetic", n=1, steps=2, seed=0)
    start, *operations = re.findall(r"[+*-]?\d+", own.key)
    words = {"+": "add", "-": "subtract", "*": "multiply by"}
    first, second = (f"{words[text[0]]} {text[1:]}" for text in operations)
    expected = f"Start with {start}. {first.capitalize()}, {second}. What is the result?"
    assert problem.question == expected


class FirstEdition:
    """Stands for the tokenizer of an embedded model of the first edition, which names none."""

    init_kwargs: ClassVar[dict[str, object]] = {}

    def __len__(self):
        return 1536


def test_a_model_of_the_first_edition_is_refused():
    with pytest.raises(ValueError, match=r"edition 1 of the embedded world, .* are of edition 2"):
        tiny.chains(FirstEdition(), n=1, steps=2)
