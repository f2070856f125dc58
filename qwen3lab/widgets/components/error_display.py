"""Errors of callbacks, brought to the person's eyes: Jupyter would put them into a log."""

import functools
from collections.abc import Callable
from typing import Any


def sentence(error: BaseException) -> str:
    """What to show of an error: its message, with its kind where that is no plain bad input."""
    message = str(error) or "no further message"
    if isinstance(error, ValueError):
        return message
    return f"{type(error).__name__}: {message}"


def _into(trait: str, method: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(method)
    def guarded(self: Any) -> None:
        try:
            method(self)
        except Exception as error:
            setattr(self.state, trait, sentence(error))

    return guarded


def shows_errors(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """Make a method write its error into `self.state.error` in place of raising it."""
    return _into("error", method)


def says_undrawn(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """Make a method that draws write its error into `self.state.undrawn`, likewise.

    The next pick clears that one, and leaves alone what is said of the run.
    """
    return _into("undrawn", method)
