"""How many of torch's CPU threads a forward pass uses.

torch's threads wait for each other, spinning, after every parallel product. A thread whose core is
busy with other work holds the others up for a time slice of milliseconds, many times in a pass.
Where a layer takes less than that, a second thread gains little on an idle machine and loses a lot
on a busy one; so such a pass runs on one thread.
"""

import os
from functools import cache

MIN_PRODUCTS_PER_THREAD = 50_000_000
"""Multiply-adds in a layer for each thread that takes part: about a millisecond of one core."""

MIN_TOKENS = 8
"""A pass over fewer tokens takes as long as one over this many: it waits for the weights' bytes."""


def paying_threads(available: int, n_tokens: int, products_per_token: float) -> int:
    """How many of the available threads a pass uses.

    The number depends on the sizes alone, not on the machine's load, so that results repeat to
    the last bit. A number set by `torch.set_num_threads` or the environment is left as it is.

    Args:
        available: torch's number of threads.
        n_tokens: tokens in the pass, all rows together.
        products_per_token: multiply-adds of one token with the weights of an average layer.
    """
    if available == 1 or _is_chosen(available):
        return available
    products = max(n_tokens, MIN_TOKENS) * products_per_token
    return min(max(int(products / MIN_PRODUCTS_PER_THREAD), 1), available)


def _is_chosen(n_threads: int) -> bool:
    """True if a person set the number; torch's own is that of the cores or their hardware threads.

    `torch.set_num_threads` leaves no trace, so the number of cores counts as torch's own.
    """
    if "OMP_NUM_THREADS" in os.environ or "MKL_NUM_THREADS" in os.environ:
        return True
    return n_threads not in _core_counts()


@cache
def _core_counts() -> frozenset[int]:
    logical = {os.cpu_count() or 1}
    if hasattr(os, "sched_getaffinity"):
        logical.add(len(os.sched_getaffinity(0)))
    return frozenset(logical | {n // 2 for n in logical})
