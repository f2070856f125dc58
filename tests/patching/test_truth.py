"""Patching finds what is known of the embedded world: the digit, step or object to look at."""

from functools import cache

import pytest
import torch

from qwen3lab import Sampling, patching, thinking, tiny
from tests.known import (
    FIRST_TENS,
    FIRST_UNITS,
    MODELS,
    SECOND_TENS,
    SECOND_UNITS,
    additions,
    asked,
    carries,
    embedded,
    next_token,
    next_tokens,
    positions,
    put,
    streams_at,
    thought,
    two_digit_chains,
    values,
    with_units,
)

N_SUMS = 8
DIGITS = (FIRST_TENS, FIRST_UNITS, SECOND_TENS, SECOND_UNITS)
CARRIED = {"tiny-dense": 1, "tiny-moe": 1}
"""The layer after which the carry is at the units of the second number."""

READ = {"tiny-dense": 3, "tiny-moe": 4}
"""The layer after which the last token has the carry."""

N_CHAINS, STEPS = 6, 4
N_SWAPS = 8


@pytest.fixture(scope="module", params=MODELS)
def lab(request):
    return embedded(request.param)


def tens_with_units_of_others(lab, first, second, place):
    """The tens digit that is written with the stream at a place from ten runs.

    The second number has other units in each of them.
    """
    hook = f"blocks.{CARRIED[lab.name]}.hook_resid_post"
    others = [asked(lab, f"{first}+{with_units(second, digit)}=?") for digit in range(10)]
    streams = streams_at(lab, others, hook, place)
    prompts = [asked(lab, f"{first}+{second}=?")] * 10
    return next_tokens(lab, prompts, edits={hook: put(streams, place)})


def test_the_stream_of_one_digit_decides_the_carry_and_nothing_else_of_the_tens(lab):
    """With the stream of other units, the tens digit changes exactly when the carry does."""
    right = changed = 0
    for first, second in answered(lab):
        tens = [(first + with_units(second, digit)) // 10 for digit in range(10)]
        written = tens_with_units_of_others(lab, first, second, SECOND_UNITS)
        right += sum(map(str.__eq__, written, map(str, tens)))
        elsewhere = tens_with_units_of_others(lab, first, second, FIRST_UNITS)
        changed += sum(each != str((first + second) // 10) for each in elsewhere)
    assert right >= 0.85 * 10 * N_SUMS and changed <= 0.15 * 10 * N_SUMS


def test_patching_names_the_digit_that_carries_and_then_the_last_token(lab):
    found = torch.zeros(2, len(DIGITS) + 1)
    for first, second in with_a_carry(N_SUMS):
        other = with_units(second, 0)
        patched = patching.patch(
            lab,
            clean=asked(lab, f"{first}+{second}=?"),
            corrupt=asked(lab, f"{first}+{other}=?"),
            metric=patching.logit_difference(
                str((first + second) // 10), str((first + other) // 10)
            ),
            layers=[CARRIED[lab.name], READ[lab.name]],
            align=[(place, place) for place in (*DIGITS, -1)],
            progress=False,
        )
        found += patched.values / N_SUMS
    at, later = found
    assert at[DIGITS.index(SECOND_UNITS)] > 0.7 and at[:-2].abs().max() < 0.1
    assert later[-1] > 0.7 and later[:-1].abs().max() < 0.3


def answered(lab):
    """Sums whose tens digit the model writes right."""
    drawn = additions(n=3 * N_SUMS, seed=2)
    written = next_tokens(lab, [asked(lab, f"{first}+{second}=?") for first, second in drawn])
    tens = [str((first + second) // 10) for first, second in drawn]
    right = [n for n, each in enumerate(tens) if each == written[n]]
    assert len(right) >= N_SUMS
    return [drawn[n] for n in right[:N_SUMS]]


def with_a_carry(n):
    """Sums that carry."""
    return [each for each in additions(n=8 * n, seed=3) if carries(*each)][:n]


TOKENS_OF_STEP = 10
"""Of a step such as `47+38=85, `; the last one has no comma and no space."""


@cache
def chains():
    """Chains with another one of the same shape, whose values end with other numbers."""
    drawn = two_digit_chains(n=4 * N_CHAINS, steps=STEPS, seed=7)
    pairs = zip(drawn[::2], drawn[1::2], strict=True)
    return [(one, other) for one, other in pairs if one.answer[0] != other.answer[0]][:N_CHAINS]


@cache
def effects_of_tokens(name, number):
    """For each token of a thinking, its largest effect in any layer; the question is the same."""
    lab, (problem, other) = embedded(name), chains()[number]
    clean, corrupt = (thought(lab, problem.question, each.thinking) for each in (problem, other))
    first = clean.index(lab.marks.think) + 2
    last = first + TOKENS_OF_STEP * STEPS - 2
    assert lab.tokenizer.decode(clean[first:last]) == problem.thinking
    found = patching.patch(
        lab,
        clean=clean,
        corrupt=corrupt,
        metric=patching.logit_difference(problem.answer[0], other.answer[0]),
        align=[(place, place) for place in range(first, last)],
        progress=False,
    )
    return found.values.abs().amax(dim=0)


def test_an_answer_depends_on_the_last_written_result_alone(lab):
    """Neither on an earlier step nor on what the last step is computed from."""
    for number in range(N_CHAINS):
        effects = effects_of_tokens(lab.name, number)
        assert int(effects.argmax()) == len(effects) - 2  # The first of its two digits.
        assert effects[-2] > 0.6 and effects[:-2].max() < 0.4


def test_the_importance_of_the_steps_agrees_with_patching(lab):
    """Leaving a step out is another run of the model, and puts no activation in place."""
    agreed = thoughts = 0
    for number, (problem, _) in enumerate(chains()):
        chat = lab.chat(problem.question, thinking=True, sampling=Sampling.greedy())
        if chat.thinking != problem.thinking:
            continue
        thoughts += 1
        found = thinking.importance(
            lab,
            chat,
            every=TOKENS_OF_STEP,
            samples=1,
            sampling=Sampling.greedy(),
            progress=False,
        )
        effects = [float(step.max()) for step in effects_of_tokens(lab.name, number).split(10)]
        assert len(found.parts) == len(effects) == STEPS
        strongest = effects.index(max(effects))
        # Without the last step, the answer is the value before it.
        (answer,) = found.without[strongest]
        changed = [n for n, far in enumerate(found.distance) if far > 0.5]
        agreed += changed == [strongest] and answer == str(values(problem)[-2])
    assert thoughts >= 0.5 * N_CHAINS and agreed >= 0.8 * thoughts


def test_the_answer_is_a_copy_of_the_written_result_and_a_step_is_worked_out_from_its_line(lab):
    copied = worked_out = 0
    for problem, other in chains():
        *earlier, step = problem.thinking.split(", ")
        left, equals, result = step.partition("=")
        wrong = other.answer[0] + result[1:]
        text = ", ".join([*earlier, f"{left}={wrong}"])
        copied += next_token(lab, thought(lab, problem.question, text)) == wrong[0]
        # Another step in place of the last one, which neither question nor values have.
        instead = other.thinking.split(", ")[-1].partition("=")[0]
        text = ", ".join([*earlier, instead + equals])
        ids = thought(lab, problem.question, text)
        worked_out += (
            next_token(lab, ids[: -len(lab.token_ids("\n</think>\n\n"))]) == other.answer[0]
        )
    assert copied >= 0.8 * N_CHAINS and worked_out >= 0.8 * N_CHAINS


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


@pytest.mark.parametrize(("name", "layer"), [("tiny-dense", 2), ("tiny-moe", 3)])
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
