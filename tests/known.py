"""What is known of problems of the embedded world, for tests of methods that have to find it."""

import random
from functools import cache

import qwen3lab
from qwen3lab import tiny
from qwen3lab.tiny.world import arithmetic

MODELS = ("tiny-dense", "tiny-moe")


@cache
def embedded(name):
    """An embedded model on the CPU, loaded once for all tests of a worker."""
    return qwen3lab.load(name, device="cpu", dtype="float32")


def different(family, *, n, steps, seed):
    """Held-out problems without repetitions."""
    drawn = tiny.problems(family, n=4 * n, steps=steps, seed=seed)
    return list({problem.key: problem for problem in drawn}.values())[:n]


def operations(problem):
    """The start and the operations of a chain."""
    chain = problem.key.partition(":")[2]
    return int(chain[0]), [(sign, int(n)) for sign, n in zip(chain[1::2], chain[2::2], strict=True)]


def values(problem):
    """The start and the running values."""
    start, steps = operations(problem)
    found = [start]
    for step in steps:
        found.append(arithmetic.apply(found[-1], step))
    return found


def after(value, problem, step):
    """The answer to a chain that has another value after a step."""
    for operation in operations(problem)[1][step:]:
        value = arithmetic.apply(value, operation)
    return arithmetic.CIRCLED[value]


def with_start(problem, start):
    """The chain with another first digit, in the same wording."""
    steps = operations(problem)[1]
    key = f"arithmetic:{start}" + "".join(f"{sign}{n}" for sign, n in steps)
    draws = (arithmetic.build(start, steps, key, random.Random(n)) for n in range(99))
    return next(each for each in draws if each.language == problem.language)


def asked(lab, problem):
    """Token ids of the question, up to an answer without thinking."""
    return lab.token_ids([{"role": "user", "content": problem.question}], thinking=False)


def thought(lab, problem):
    """Token ids of the question and the right thinking, up to the answer."""
    question = lab.token_ids([{"role": "user", "content": problem.question}], thinking=True)
    return [*question, *lab.token_ids(f"<think>\n{problem.thinking}\n</think>\n\n")]


def positions(lab, problem, ids, role, part=None):
    """Positions of the tokens with a role."""
    labels = tiny.label_tokens(problem, lab.tokenizer.decode(ids), lab.tokenizer)
    assert len(labels) == len(ids)
    wanted = [n for n, each in enumerate(labels) if each.role == role]
    return [n for n in wanted if part in (None, labels[n].part)]


def next_token(lab, prompt, **options):
    """Text of the token that the model writes next."""
    return lab.tokenizer.decode([int(lab.record(prompt, **options).logits[-1].argmax())])
