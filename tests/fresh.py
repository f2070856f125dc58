"""A process of its own, without what the tests have switched on or taken up."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def in_a_fresh_process(job: Callable[..., Result], *arguments: object) -> Result:
    """What a function of a module gives there."""
    fresh = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with fresh as pool:
        return pool.submit(job, *arguments).result()
