"""What is known of problems of the embedded world, for tests of methods that have to find it."""

import random
from functools import cache

import torch

import qwen3lab
from qwen3lab import tiny
from qwen3lab.tiny.world import arithmetic

MODELS = ("tiny-dense", "tiny-moe")
FIRST_TENS, FIRST_UNITS, SECOND_TENS, SECOND_UNITS = 3, 4, 6, 7
"""Positions of the digits in a question such as `47+38=?`, after `<|im_start|>user` and its
line break."""


@cache
def embedded(name):
    """An embedded model on the CPU, loaded once for all tests of a worker."""
    return qwen3lab.load(name, device="cpu", dtype="float32")


def different(family, *, n, steps, seed):
    """Held-out problems without repetitions."""
    drawn = tiny.problems(family, n=4 * n, steps=steps, seed=seed)
    return list({problem.key: problem for problem in drawn}.values())[:n]


def values(problem):
    """The start and the running values of a chain."""
    start, operations = arithmetic.chain_of(problem.key)
    return [start, *arithmetic.running_values(start, operations)]


def additions(*, n, seed):
    """Held-out sums of two numbers of two digits, whose result has two digits with any units.

    So the first token of the answer is the tens digit, which holds the carry.
    """
    found = [
        (first, second)
        for first in range(10, 90)
        for second in range(10, 90)
        if first // 10 + second // 10 < 9
        and tiny.split_of(arithmetic.key_of(first, [("+", second)])) == "held-out"
    ]
    return random.Random(seed).sample(found, n)


def two_digit_chains(*, n, steps, seed):
    """Held-out chains of sums and differences in which every number has two digits.

    So each step of a thinking has the same number of tokens. The last two values begin with
    different digits.
    """
    rng, found = random.Random(seed), []
    while len(found) < n:
        running, operations = [rng.randint(10, 99)], []
        while len(operations) < steps:
            operation = rng.choice("+-"), rng.randint(10, 89)
            value = arithmetic.apply(running[-1], operation)
            if 10 <= value <= 99:
                running, operations = [*running, value], [*operations, operation]
        key = arithmetic.key_of(running[0], operations)
        if tiny.split_of(key) == "held-out" and running[-1] // 10 != running[-2] // 10:
            found.append(arithmetic.build(running[0], operations, rng))
    return found


def carries(first, second):
    """Whether the units of two numbers carry."""
    return first % 10 + second % 10 > 9


def with_units(number, digit):
    """The number with other units."""
    return number - number % 10 + digit


def asked(lab, question):
    """Token ids of a question, up to an answer without thinking."""
    return lab.token_ids([{"role": "user", "content": question}], thinking=False)


def thought(lab, question, thinking):
    """Token ids of a question and a thinking, up to the answer."""
    ids = lab.token_ids([{"role": "user", "content": question}], thinking=True)
    return [*ids, *lab.token_ids(f"<think>\n{thinking}\n</think>\n\n")]


def positions(lab, problem, ids, role, part=None):
    """Positions of the tokens with a role."""
    labels = tiny.label_tokens(problem, lab.tokenizer.decode(ids), lab.tokenizer)
    assert len(labels) == len(ids)
    wanted = [n for n, each in enumerate(labels) if each.role == role]
    return [n for n in wanted if part in (None, labels[n].part)]


def next_token(lab, prompt, **options):
    """Text of the token that the model writes next."""
    return next_tokens(lab, [prompt], **options)[0]


def next_tokens(lab, prompts, **options):
    """Text of the token that the model writes next after each prompt."""
    recordings = lab.record_batch(prompts, attention=False, **options)
    return [lab.tokenizer.decode([int(rec.logits[-1].argmax())]) for rec in recordings]


def put(streams, place):
    """An edit that puts one stream for each prompt of a batch at a position.

    The prompts have the same length.
    """

    def edit(value, _):
        value = value.clone()
        value[:, place, :] = streams
        return value

    return edit


def streams_at(lab, prompts, hook, place):
    """The activation of each prompt at a position."""
    recordings = lab.record_batch(prompts, capture=hook, attention=False)
    return torch.stack([rec[hook][place] for rec in recordings])
