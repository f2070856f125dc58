"""Properties of every task family."""

import random

import pytest

from qwen3lab import tiny
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.problems import char_labels, pieces_of, split_of, text_of

FAMILY = list(FAMILIES)


@pytest.mark.parametrize("name", FAMILY)
def test_the_same_seed_draws_the_same_problems(name):
    family = FAMILIES[name]
    draws = [tiny.problems(name, n=30, steps=family.most, seed=seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("name", FAMILY)
def test_training_and_held_out_problems_share_no_key(name):
    for steps in (FAMILIES[name].least, FAMILIES[name].most):
        train, held = (
            {p.key for p in tiny.problems(name, n=200, steps=steps, split=split)}
            for split in ("train", "held-out")
        )
        assert not train & held
        assert {split_of(key) for key in held} == {"held-out"}


@pytest.mark.parametrize("name", FAMILY)
def test_a_known_piece_is_determined_by_the_text_before_it(name):
    """In all problems with the same beginning, the next known piece is the same."""
    rng, family = random.Random(0), FAMILIES[name]
    follows: dict[tuple[str, str], str] = {}
    for _ in range(3000):
        problem = family.draw(rng, family.least, "train")
        for part in ("passage", "question"):
            before = problem.language
            for piece in pieces_of(problem, part):
                if piece.known:
                    assert follows.setdefault((part, before), piece.text) == piece.text
                before += piece.text


@pytest.mark.parametrize("name", FAMILY)
def test_every_character_of_a_part_is_labelled(name):
    family = FAMILIES[name]
    problem = tiny.problems(name, n=1, steps=family.most)[0]
    for part in ("passage", "question", "thinking", "answer"):
        labels = char_labels(problem, part)
        assert len(labels) == len(text_of(problem, part))
        assert {label.part for label in labels} <= {part}
    assert all(label.known for label in char_labels(problem, "answer"))


@pytest.mark.parametrize("name", FAMILY)
def test_labels_line_up_with_the_tokens_of_a_chat(name, tiny_tokenizer):
    family = FAMILIES[name]
    problem = tiny.problems(name, n=1, steps=min(4, family.most), seed=3)[0]
    thought = f"<think>\n{problem.thinking}\n</think>\n\n" if family.thinks else ""
    text = f"<|im_start|>user\n{problem.question}<|im_end|>\n{thought}{problem.answer}<|im_end|>"
    labels = tiny.label_tokens(problem, text, tiny_tokenizer)
    ids = tiny_tokenizer.encode(text, add_special_tokens=False)
    assert len(labels) == len(ids)
    for part, expected in (
        ("question", problem.question),
        ("thinking", problem.thinking),
        ("answer", problem.answer),
    ):
        own = [i for i, label in zip(ids, labels, strict=True) if label.part == part]
        assert tiny_tokenizer.decode(own).strip() == expected.strip()


@pytest.mark.parametrize("name", FAMILY)
def test_a_number_of_steps_that_a_family_does_not_have_is_an_error(name):
    for steps in (FAMILIES[name].least - 1, FAMILIES[name].most + 1):
        with pytest.raises(ValueError, match="expected"):
            tiny.problems(name, n=1, steps=steps)
