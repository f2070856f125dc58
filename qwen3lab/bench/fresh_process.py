"""Runs a measurement in new processes, whose memory contains nothing else."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Barrier
from typing import TypeVar

from qwen3lab.device.waiting import PASSIVE_WAITING
from qwen3lab.errors import BenchError

Result = TypeVar("Result")

_BARRIERS: list[Barrier] = []
"""The one of this process, if it measures beside others."""


def in_fresh_process(job: Callable[..., Result], *arguments: object) -> Result:
    """The return value of a function that runs in a new process.

    Args:
        job: a function at the top level of a module.
        arguments: its arguments; they are pickled.

    Raises:
        BenchError: the process died.
    """
    return in_fresh_processes(1, job, *arguments)[0]


def in_fresh_processes(n: int, job: Callable[..., Result], *arguments: object) -> list[Result]:
    """The return values of a function that runs in `n` new processes at once.

    Within the function, `wait_for_others` waits until all of them have called it.

    Args:
        n: number of processes.
        job: a function at the top level of a module.
        arguments: its arguments, the same in all; they are pickled.

    Raises:
        BenchError: a process died.
    """
    context = multiprocessing.get_context("spawn")
    for name, value in PASSIVE_WAITING.items():
        os.environ.setdefault(name, value)  # This process has read it already; the new ones will.
    barrier = context.Barrier(n)
    executor = ProcessPoolExecutor(n, context, initializer=_join, initargs=(barrier,))
    try:
        with executor:
            futures = [executor.submit(job, *arguments) for _ in range(n)]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            if failed := [each for each in done if each.exception()]:
                barrier.abort()  # The others would wait for ever.
                failed[0].result()
            return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise BenchError(
            "a measuring process died, probably because memory ran out: choose a smaller model, "
            "fewer layers or tokens, or a smaller dtype"
        ) from error


def wait_for_others() -> None:
    """Wait for the other processes of `in_fresh_processes`; return at the same moment."""
    for barrier in _BARRIERS:
        barrier.wait()


def _join(barrier: Barrier) -> None:
    _BARRIERS.append(barrier)
