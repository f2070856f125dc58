"""Shows errors of widget callbacks in the explorer: Jupyter writes them only to a log."""

import functools
from collections.abc import Callable
from typing import Any

from qwen3lab.translation import tr


def sentence(error: BaseException) -> str:
    """The error message; with the error's type unless it is a `ValueError` (bad input)."""
    message = str(error) or tr("no further message")
    if isinstance(error, ValueError):
        return message
    return f"{type(error).__name__}: {message}"


def _catching(trait: str, method: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(method)
    def guarded(self: Any) -> None:
        try:
            method(self)
        except Exception as error:
            setattr(self.state, trait, sentence(error))

    return guarded


def shows_errors(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """Decorate a method: write its error to `self.state.error` instead of raising it."""
    return _catching("error", method)


def shows_problems(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """Decorate a method: write its error to `self.state.problem`, shown beside what caused it."""
    return _catching("problem", method)


def shows_drawing_errors(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """Decorate a drawing method: write its error to `self.state.drawing_error`.

    The next pick clears `drawing_error` and leaves `error`, which is about the run.
    """
    return _catching("drawing_error", method)
