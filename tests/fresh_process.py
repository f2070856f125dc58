"""A process of its own, without what the tests have switched on or taken up."""

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
    """What a function of a module gives there."""
    fresh = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with fresh as pool:
        return pool.submit(job, *arguments).result()
