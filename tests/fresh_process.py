"""A new process, without jaxtyping's checks and without memory that earlier tests allocated."""

import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import pytest

from qwen3lab.acceleration.compiled_decoder import COMPILERS

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason="there is no C++ compiler"
)
Result = TypeVar("Result")


def in_a_fresh_process(job: Callable[..., Result], *arguments: object) -> Result:
    """Runs a module-level function in a new process and returns its result."""
    fresh = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with fresh as pool:
        return pool.submit(job, *arguments).result()
