"""Runs functions with or without gradients, and restores the mode after an interrupt as well.

`torch.no_grad` restores the mode in a Python function, as do torch's optimisers. An interrupt at
its first instruction leaves gradients off in the whole process, for training that follows.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def without_grad(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run without recording operations for gradients."""
    return _in_mode(function, gradients=False)


def with_grad(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run with gradients, whatever the mode is."""
    return _in_mode(function, gradients=True)


def _in_mode(function: Callable[P, R], *, gradients: bool) -> Callable[P, R]:
    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        # Both calls are in C: Python looks for an interrupt after them, not before.
        before = torch.is_grad_enabled()
        try:
            torch._C._set_grad_enabled(gradients)
            return function(*args, **kwargs)
        finally:
            torch._C._set_grad_enabled(before)

    return run
