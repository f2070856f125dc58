"""What numbers and slices can mean as an index of a recording; everything else is refused."""

import operator
from typing import Any

from qwen3lab.arguments import is_whole
from qwen3lab.errors import RecordingError
from qwen3lab.translation import tr


def whole_number(value: Any, what: str) -> int:
    """An integer; those of NumPy and torch are accepted, bools and floats are not.

    Args:
        value: the number.
        what: what it counts, for the message.

    Raises:
        RecordingError: it is not an integer.
    """
    if is_whole(value):
        return operator.index(value)
    raise RecordingError(
        tr(
            "{what} is of type {kind}: expected an integer, such as 0 or -1",
            what=what,
            kind=type(value).__name__,
        )
    )


def index_of(value: Any, n: int, what: str, owner: str) -> int:
    """An index from 0 on; a negative one counts from the end.

    Args:
        value: the index.
        n: number of items.
        what: one item, such as "layer".
        owner: what has the items, such as "the model".

    Raises:
        RecordingError: it is not an integer, or there is no such item.
    """
    number = whole_number(value, tr("the {what}", what=tr(what)))
    if not -n <= number < n:
        raise RecordingError(
            tr(
                "{what} {number} does not exist: {owner} has {what}s 0 to {last}",
                what=tr(what),
                number=number,
                owner=owner,
                last=n - 1,
            )
        )
    return number % n


def whole_slice(value: Any, what: str) -> slice:
    """A slice of integers with a positive step.

    Args:
        value: the slice.
        what: what it selects, such as "queries".

    Raises:
        RecordingError: it is something else.
    """
    if not isinstance(value, slice):
        raise RecordingError(
            tr(
                "{what} is of type {kind}: expected a slice, such as slice(0, 2)",
                what=what,
                kind=type(value).__name__,
            )
        )
    ends = (value.start, value.stop, value.step)
    start, stop, step = (None if end is None else whole_number(end, what) for end in ends)
    if step is not None and step < 1:
        raise RecordingError(
            tr("the step of {what} is {step}: expected 1 or more", what=what, step=step)
        )
    return slice(start, stop, step)
