"""Errors of callbacks, brought to the person's eyes: Jupyter would put them into a log."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from qwen3lab.widgets.state import ExplorerState


class HasState(Protocol):
    """Something that works on an explorer's state."""

    state: ExplorerState


Owner = TypeVar("Owner", bound=HasState)
Given = ParamSpec("Given")


def sentence(error: BaseException) -> str:
    """What to show of an error: its message, with its kind where that is no plain bad input."""
    message = str(error) or "no further message"
    if isinstance(error, ValueError):
        return message
    return f"{type(error).__name__}: {message}"


def shows_errors(
    method: Callable[Concatenate[Owner, Given], None],
) -> Callable[Concatenate[Owner, Given], None]:
    """Make a method write its error into `state.error` in place of raising it."""

    @functools.wraps(method)
    def guarded(self: Owner, *args: Given.args, **kwargs: Given.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.state.error = sentence(error)

    return guarded
