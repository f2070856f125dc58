"""Runs a measurement in a new process, whose memory contains nothing else."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from qwen3lab.device.waiting import PASSIVE_WAITING
from qwen3lab.errors import BenchError

Result = TypeVar("Result")


def in_fresh_process(job: Callable[..., Result], *arguments: object) -> Result:
    """The return value of a function that runs in a new process.

    Args:
        job: a function at the top level of a module.
        arguments: its arguments; they are pickled.

    Raises:
        BenchError: the process died.
    """
    executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    for name, value in PASSIVE_WAITING.items():
        os.environ.setdefault(name, value)  # This process has read it already; the new one will.
    try:
        with executor:
            return executor.submit(job, *arguments).result()
    except BrokenProcessPool as error:
        raise BenchError(
            "a measuring process died, probably because memory ran out: choose a smaller model, "
            "fewer layers or tokens, or a smaller dtype"
        ) from error
