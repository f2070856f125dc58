"""Patching finds what is known of the embedded world: the step and the object an answer needs."""

from functools import cache

import pytest
import torch

from qwen3lab import Sampling, patching, thinking, tiny
from qwen3lab.tiny.world import arithmetic
from tests.known import (
    MODELS,
    asked,
    different,
    embedded,
    next_token,
    operations,
    positions,
    thought,
    values,
    with_start,
)

N_CHAINS, STEPS = 4, 5
N_QUESTIONS, DIRECT_STEPS = 5, 3
N_SWAPS = 8
OTHER_OPERAND = {"+": (1, 2, 3), "-": (1, 2, 3), "*": (3, 7)}
TOKENS_OF_STEP = 3
"""A value, the operator and the operand: what one step of a thinking reads."""


@pytest.fixture(scope="module", params=MODELS)
def lab(request):
    return embedded(request.param)


@cache
def chains():
    """Chains whose last step changes the value, so that it matters; 5*3 and 0*7 do not."""
    drawn = different("arithmetic", n=2 * N_CHAINS, steps=STEPS, seed=7)
    return [each for each in drawn if values(each)[-1] != values(each)[-2]][:N_CHAINS]


@cache
def effects_of_steps(name, number):
    """For each step of a thinking, the largest effect of its tokens in any layer.

    The other thinking begins with another digit, so that every value in it is another one.
    """
    lab, problem = embedded(name), chains()[number]
    other = with_start(problem, (values(problem)[0] + 4) % 10)
    first, last = thinking_span(lab, problem)
    found = patching.patch(
        lab,
        clean=thought(lab, problem),
        corrupt=thought(lab, other),
        metric=patching.logit_difference(problem.answer, other.answer),
        align=[(place, place) for place in range(first, last)],
        progress=False,
    )
    assert found.positions == tuple(range(first, last))
    by_token = found.values.abs().amax(dim=0)
    return [float(step.max()) for step in by_token.split(TOKENS_OF_STEP)]


def thinking_span(lab, problem):
    """First and past-the-end position of the thinking, from the labels of its tokens."""
    ids = thought(lab, problem)
    places = [
        place
        for role in ("operand", "operator", "running value")
        for place in positions(lab, problem, ids, role, "thinking")
    ]
    assert max(places) - min(places) + 1 == len(places) == TOKENS_OF_STEP * STEPS + 1
    return min(places), max(places) + 1


def test_an_answer_depends_on_the_last_step_of_the_thinking_alone(lab):
    """Not on an earlier step, and not on the result that is written after the last one."""
    for number in range(N_CHAINS):
        *earlier, last, result = effects_of_steps(lab.name, number)
        assert len(earlier) == STEPS - 1
        assert last > 0.6 and max(*earlier, result) < 0.4


def test_the_importance_of_the_steps_agrees_with_patching(lab):
    """Leaving a step out is another run of the model, and puts no activation in place."""
    agreed = alone = 0
    for number, problem in enumerate(chains()):
        chat = lab.chat(problem.question, thinking=True)
        assert (chat.thinking, chat.answer) == (problem.thinking, problem.answer)
        found = thinking.importance(
            lab,
            chat,
            every=TOKENS_OF_STEP,
            samples=1,
            sampling=Sampling.greedy(),
            progress=False,
        )
        effects = effects_of_steps(lab.name, number)
        assert len(found.parts) == len(effects) == STEPS + 1
        strongest = effects.index(max(effects))
        # Without the last step, the answer is the value before it, as arithmetic has it.
        (answer,) = found.without[strongest]
        agreed += answer == arithmetic.CIRCLED[values(problem)[-2]]
        alone += sum(far > 0.5 for far in found.distance) == 1
        assert not any(found.distance[: STEPS - 2])
    assert agreed >= 0.8 * N_CHAINS and alone >= 0.5 * N_CHAINS


def test_the_answer_follows_the_last_operation_and_not_the_written_result(lab):
    """The step is worked out where its operand is read; the digit written after it is ignored."""
    ignored = followed = 0
    for problem in chains():
        ids, running = thought(lab, problem), values(problem)
        assert next_token(lab, ids) == problem.answer
        _, last = thinking_span(lab, problem)
        written, operand = last - 1, last - 2
        wrong = arithmetic.CIRCLED[(running[-1] + 3) % 10]
        ids[written] = lab.token_ids(wrong)[0]
        ignored += next_token(lab, ids) == problem.answer
        ids = thought(lab, problem)
        sign, given = operations(problem)[1][-1]
        changed = next(n for n in OTHER_OPERAND[sign] if n != given)
        ids[operand] = lab.token_ids(str(changed))[0]
        expected = arithmetic.CIRCLED[arithmetic.apply(running[-2], (sign, changed))]
        followed += next_token(lab, ids) == expected
    assert ignored >= 0.8 * N_CHAINS and followed >= 0.8 * N_CHAINS


def test_without_thinking_a_running_value_moves_on_by_one_operand_in_each_layer(lab):
    """What the first digit changes is, after layer k, at the operand of step k."""
    right = torch.zeros(DIRECT_STEPS)
    for problem in different("arithmetic", n=N_QUESTIONS, steps=DIRECT_STEPS, seed=6):
        other = with_start(problem, (values(problem)[0] + 3) % 10)
        clean, corrupt = asked(lab, problem), asked(lab, other)
        found = patching.patch(
            lab,
            clean=clean,
            corrupt=corrupt,
            metric=patching.logit_difference(problem.answer, other.answer),
            layers=range(1, DIRECT_STEPS + 1),
            progress=False,
        )
        operands = positions(lab, problem, clean, "operand")
        strongest = [found.positions[column] for column in found.values.argmax(dim=1).tolist()]
        right += torch.tensor(strongest).eq(torch.tensor(operands[1:]))
    assert float(right.min()) >= 0.7 * N_QUESTIONS


def swap_questions():
    """Questions after one swap, each with the question where the pair held each other's object.

    Yields:
        The problem, the other question, and the objects that answer the two.
    """
    n = 0
    for problem in tiny.problems("swaps", n=4 * N_SWAPS, steps=1, seed=3):
        names = [piece.text.strip() for piece in problem.asked if piece.role == "name"]
        things = [piece.text.strip() for piece in problem.asked if piece.role == "object"]
        holders, pair, person = names[:3], names[3:5], names[5]
        if person not in pair or n == N_SWAPS:
            continue
        n += 1
        (partner,) = set(pair) - {person}
        own, wanted = (things[holders.index(name)] for name in (person, partner))
        turned = {own: wanted, wanted: own}
        other = "".join(
            piece.text.replace(
                piece.text.strip(), turned.get(piece.text.strip(), piece.text.strip())
            )
            if piece.role == "object"
            else piece.text
            for piece in problem.asked
        )
        assert problem.answer.split()[-1].endswith(wanted)
        yield problem, other, person, (own, wanted)


@pytest.mark.parametrize(("name", "layer"), [("tiny-dense", 2), ("tiny-moe", 4)])
def test_one_position_holds_who_holds_what(name, layer):
    """After the layer, one token of the swap's sentence decides which object the answer names."""
    lab, flipped, in_sentence = embedded(name), 0, 0
    for problem, other, person, (own, wanted) in swap_questions():
        space, named = " " if problem.language == "en" else "", lab.token_ids(person)
        clean, corrupt = (
            [*lab.token_ids([{"role": "user", "content": text}], thinking=False), *named]
            for text in (problem.question, other)
        )
        assert next_token(lab, clean) == space + wanted
        assert next_token(lab, corrupt) == space + own
        found = patching.patch(
            lab,
            clean=clean,
            corrupt=corrupt,
            metric=patching.logit_difference(space + wanted, space + own),
            layers=[layer],
            progress=False,
        )
        place = int(found.values[0, :-1].argmax())  # Not the last token, which writes the answer.
        in_sentence += place in sentence_of_swap(lab, problem, clean)
        flipped += with_stream(lab, clean, corrupt, layer, place) == space + wanted
    assert flipped >= 0.8 * N_SWAPS and in_sentence >= 0.8 * N_SWAPS


def sentence_of_swap(lab, problem, ids):
    """Positions of the sentence `Ann and Ben swap`."""
    names = positions(lab, problem, ids, "name")
    verbs = positions(lab, problem, ids, "verb")
    return range(names[3], verbs[-1] + 1)


def with_stream(lab, clean, corrupt, layer, place):
    """What a run writes with one stream of another run, by hand."""
    hook = f"blocks.{layer}.hook_resid_post"
    stream = lab.record(clean, capture=hook)[hook][place]

    def put(value, _):
        value[..., place, :] = stream
        return value

    return next_token(lab, corrupt, edits={hook: put})
