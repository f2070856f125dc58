"""A process of its own for a measurement, so that nothing else is in its memory."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from qwen3lab.errors import BenchError

Result = TypeVar("Result")


def in_fresh_process(job: Callable[..., Result], *arguments: object) -> Result:
    """What a function of a module returns in a new process, which ends with it.

    Raises:
        BenchError: the process died.
    """
    fresh = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    try:
        with fresh as pool:
            return pool.submit(job, *arguments).result()
    except BrokenProcessPool as error:
        raise BenchError(
            "a process that measured died, most likely because memory ran out: choose a smaller "
            "model, fewer layers or tokens, or a dtype of fewer bytes"
        ) from error
