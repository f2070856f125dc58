"""Prefixes that prompts of a batch share, and that are therefore read once."""

from collections.abc import Sequence
from itertools import groupby

MIN_SAVED_TOKENS = 64
"""Tokens that sharing must save: a pass over a prefix alone costs as much as some tokens more in
another pass."""

MAX_LEVELS = 64
"""Branchings of prompts that are looked at, one within the other."""

Groups = list[tuple[int, list[int]]]
"""Number of shared tokens, and the prompts that share them."""


def shared_prefixes(prompts: Sequence[Sequence[int]]) -> Groups:
    """Groups of prompts with the prefix that each shares; together they save the most tokens.

    At least one token of every prompt is left, whose logits give the reply's first token.

    Args:
        prompts: token ids, none of them empty.

    Returns:
        Every prompt is in one group; those that share nothing are together in one of 0 tokens, and
        in their order.
    """
    order = sorted(range(len(prompts)), key=lambda index: list(prompts[index]))
    groups = _best(prompts, order, 0)[1] if order else []
    sharing = [(n, sorted(members)) for n, members in groups if n]
    alone = sorted(index for n, members in groups if not n for index in members)
    return sorted(sharing, key=lambda group: group[1]) + ([(0, alone)] if alone else [])


def _best(prompts: Sequence[Sequence[int]], order: list[int], level: int) -> tuple[int, Groups]:
    """The tokens that sharing saves among sorted prompts, and the groups that save them."""
    if len(order) == 1:
        return 0, [(0, order)]
    common = _common(prompts[order[0]], prompts[order[-1]])
    n = min(common, min(len(prompts[index]) for index in order) - 1)
    saved = n * (len(order) - 1)
    here = (saved, [(n, order)]) if saved >= MIN_SAVED_TOKENS else (0, [(0, order)])

    def branch(index: int) -> int:
        return prompts[index][common] if len(prompts[index]) > common else -1

    branches = [list(members) for _, members in groupby(order, key=branch)]
    if len(branches) == 1 or level == MAX_LEVELS:
        return here
    parts = [_best(prompts, members, level + 1) for members in branches]
    apart = sum(saved for saved, _ in parts)
    if apart <= here[0]:
        return here
    return apart, [group for _, groups in parts for group in groups]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of first tokens that are equal."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
