"""Direct attribution names the heads that are known, by their attention, to copy from the text."""

import random
from functools import cache

import pytest

from qwen3lab import attribution, tiny
from qwen3lab.tiny.evaluation.internals import diagnostic_head_scores
from qwen3lab.tiny.world import lists
from qwen3lab.tiny.world.problems import split_of
from tests.known import MODELS, embedded

N_TEXTS = 24


@cache
def copying_heads(name):
    """Heads whose attention goes to the token to copy, in repeated sequences or in lists.

    Measured on other texts than those below, and from attention alone.
    """
    scores = diagnostic_head_scores(embedded(name), seed=1)
    score = scores["induction"].maximum(scores["look-up"])
    return {tuple(place) for place in (score > 0.7).nonzero().tolist()}


def held_out(kind, rng):
    """The passage of a held-out list or sequence."""
    make = {"repeat": lists.repeat, "look-up": lists.look_up}[kind]
    while True:
        problem = make(rng, rng.randint(6, 12), rng.choice(("en", "zh")))
        if split_of(problem.key) == "held-out":
            return problem, "".join(piece.text for piece in problem.passage)


def strongest_heads(name, kind):
    """For each text, the head that adds most to the logit of one copied word or value."""
    lab, rng, found = embedded(name), random.Random(5), []
    role = {"repeat": "word", "look-up": "value"}[kind]
    for _ in range(N_TEXTS):
        problem, text = held_out(kind, rng)
        labels = tiny.label_tokens(problem, text, lab.tokenizer)
        place = rng.choice([n for n, each in enumerate(labels) if each.known and each.role == role])
        rec = lab.record(text, capture=attribution.needed(lab))
        parts = attribution.direct(lab, rec, int(rec.token_ids[place]), position=place - 1)
        heads = [part for part in parts.parts if part.kind == "head"]
        assert len(heads) == lab.config.n_layers * lab.config.n_heads
        best = max(heads, key=lambda part: part.value)
        found.append((best.layer, best.index))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_few_heads_copy_by_their_attention(name):
    """So that the tests below cannot pass by chance: of 24 heads, it is two."""
    config = embedded(name).config
    assert 1 <= len(copying_heads(name)) <= config.n_layers * config.n_heads // 8


@pytest.mark.parametrize("name", MODELS)
def test_the_head_that_adds_most_to_a_repeated_word_is_an_induction_head(name):
    found = strongest_heads(name, "repeat")
    assert sum(head in copying_heads(name) for head in found) >= 0.8 * N_TEXTS


# In tiny-dense, later heads and MLPs carry on what the look-up head moved; direct attribution
# counts that as theirs.
@pytest.mark.parametrize(("name", "least"), [("tiny-dense", 0.35), ("tiny-moe", 0.8)])
def test_the_head_that_adds_most_to_a_looked_up_value_is_often_a_look_up_head(name, least):
    found = strongest_heads(name, "look-up")
    assert sum(head in copying_heads(name) for head in found) >= least * N_TEXTS
