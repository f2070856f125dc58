"""Probes read running values of the embedded world; steering says where they are used."""

import random
from functools import cache

import pytest
import torch

from qwen3lab import probes, steering, tiny
from tests.known import MODELS, after, asked, different, embedded, next_token, positions, values

pytest.importorskip("sklearn")

STREAMS = "blocks.*.hook_resid_post"
STEPS = 3
N_FITTED, N_STEERED = 110, 12
N_FOLDS = 3


@cache
def questions():
    """Questions to fit probes on, and others to steer."""
    drawn = different("arithmetic", n=N_FITTED + N_STEERED, steps=STEPS, seed=5)
    assert len(drawn) == N_FITTED + N_STEERED
    return drawn[:N_FITTED], drawn[N_FITTED:]


@cache
def probes_of(name, step):
    """Probes of the value after a step, at the step's operand, around the layer of its number."""
    lab, labels = embedded(name), []
    for problem, rec in zip(questions()[0], recorded(name), strict=True):
        marks = [None] * len(rec)
        marks[operand(lab, problem, step)] = values(problem)[step]
        labels.append(marks)
    hooks = [f"blocks.{layer}.hook_resid_post" for layer in range(step - 1, step + 2)]
    return probes.fit(lab, recorded(name), labels, hook=hooks, n_folds=N_FOLDS, progress=False)


@cache
def recorded(name):
    """Recordings of the questions that probes are fitted on."""
    lab = embedded(name)
    asks = [asked(lab, problem) for problem in questions()[0]]
    return lab.record_batch(asks, capture=STREAMS, attention=False)


def operand(lab, problem, step):
    """Position of a step's operand; that of step 0 is the first digit."""
    return positions(lab, problem, asked(lab, problem), "operand")[step]


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_a_value_that_is_never_written_is_readable_from_the_layer_of_its_step(name, step):
    found = probes_of(name, step)
    before, at, later = (each.value for each in found.accuracy)
    assert before < 0.6 and at > 0.85 and later > 0.85
    assert max(each.value for each in found.control) < 0.3 and found.chance.value < 0.25


@pytest.mark.parametrize("name", MODELS)
def test_a_value_is_readable_before_a_thinking_writes_it(name):
    lab = embedded(name)
    texts = tiny.texts(lab.tokenizer, n=30, seed=4, families=["arithmetic"])
    hooks = ["blocks.0.hook_resid_post", "blocks.2.hook_resid_post"]
    recordings = lab.record_batch([text.token_ids for text in texts], capture=hooks)
    labels = []
    for text, rec in zip(texts, recordings, strict=True):
        marks = [None] * len(rec)
        for place, label in enumerate(text.labels):
            if (label.part, label.role) == ("thinking", "running value"):
                marks[place - 1] = rec.tokens[place].strip()
        labels.append(marks)
    found = probes.fit(lab, recordings, labels, hook=hooks, n_folds=N_FOLDS, progress=False)
    assert found.accuracy[1].value > 0.95 > found.accuracy[0].value
    assert max(each.value for each in found.control) < 0.25


def answers_with(name, step, layer, make):
    """How many questions get the answer of another value after a step, and how many their own."""
    lab, rng, moved, kept = embedded(name), random.Random(0), 0, 0
    for problem in questions()[1]:
        value = values(problem)[step]
        other = rng.choice([each for each in range(10) if each != value])
        vector = steering.from_direction(lab, make(value, other), layer=layer)
        vector = vector.at(positions=[operand(lab, problem, step)])
        answer = next_token(lab, asked(lab, problem), edits=vector)
        moved += answer == after(other, problem, step)
        kept += answer == problem.answer
    return moved / N_STEERED, kept / N_STEERED


def along_probe(name, step, layer):
    """The direction from one value to another, as the probe at the layer reads them."""
    found, hook = probes_of(name, step), f"blocks.{layer}.hook_resid_post"

    def make(value, other):
        return found.direction(other, hook=hook) - found.direction(value, hook=hook)

    return make


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_along_the_probe_of_its_layer_the_answer_becomes_that_of_another_value(name, step):
    make = along_probe(name, step, step)
    moved, _ = answers_with(name, step, step, make)
    assert moved > 0.6
    generator = torch.Generator().manual_seed(0)

    def random_direction(value, other):
        drawn = torch.randn(len(make(value, other)), generator=generator)
        return drawn / drawn.norm() * make(value, other).norm()

    moved, kept = answers_with(name, step, step, random_direction)
    assert moved < 0.2 and kept > 0.7


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_a_layer_later_the_probe_reads_as_well_and_the_answer_stays(name, step):
    """Heads of the next layer have read the value already: it is there, and is not used again."""
    _, at, later = (each.value for each in probes_of(name, step).accuracy)
    assert later >= at - 0.02
    moved, kept = answers_with(name, step, step + 1, along_probe(name, step, step + 1))
    assert moved < 0.25 and kept > 0.7
