"""Moments of a job: where Python can raise KeyboardInterrupt, counted without a clock.

CPython looks for a pending signal when a function begins and after a call into C. Both are events
of `sys.setprofile`, in the package's own frames and in those of torch, tqdm or the standard
library, so an interrupt between a C call and the next line is tried as well.
"""

import logging
import os
import random
import signal
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from inspect import CO_GENERATOR
from types import CodeType, FrameType
from typing import Any

EVENTS = ("call", "return", "c_return")
LOCKING = (logging.__file__, threading.__file__)
"""Modules of the standard library whose locks stay locked if an interrupt comes between taking one
and the next line; then the whole process waits, whatever package calls them."""
Place = tuple[int, int, str]
"""The code object's id, the instruction in it, and the event."""


@dataclass(frozen=True)
class Moment:
    """The n-th time that a run passes a place."""

    place: Place
    number: int
    label: str

    def __str__(self) -> str:
        return f"{self.label}, time {self.number}"


class Moments:
    """All moments of one run of a job; `draw` gives some of them.

    Args:
        run: the job; it is run once here, without an interrupt.
    """

    def __init__(self, run: Callable[[], Any]) -> None:
        self._codes: dict[int, CodeType] = {}  # Keeps them alive, so that no id is used twice.
        passed: list[Place] = []

        def note(frame: FrameType, event: str, argument: object) -> None:
            if (place := _place(frame, event)) is not None:
                self._codes.setdefault(place[0], frame.f_code)
                passed.append(place)

        self.value = _profiled(note, run)
        seen: Counter[Place] = Counter()
        self._in_time: list[tuple[Place, int]] = []
        self._by_place: defaultdict[Place, list[int]] = defaultdict(list)
        for place in passed:
            seen[place] += 1
            self._in_time.append((place, seen[place]))
            self._by_place[place].append(seen[place])
        self._places = list(self._by_place)

    def __len__(self) -> int:
        return len(self._in_time)

    def draw(self, chance: random.Random) -> Moment:
        """A moment: half of them even in time, half even over the places in the code.

        Most of a run's time is spent in few places; what happens once, such as renaming a file, is
        met through its place.
        """
        if chance.random() < 0.5:
            place, number = chance.choice(self._in_time)
        else:
            place = chance.choice(self._places)
            number = chance.choice(self._by_place[place])
        return Moment(place, number, self._label(place))

    def _label(self, place: Place) -> str:
        code = self._codes[place[0]]
        line = (
            next((at for start, end, at in code.co_lines() if start <= place[1] < end), None)
            or code.co_firstlineno
        )
        return f"{place[2]} in {code.co_name} ({code.co_filename}:{line})"


def interrupt(run: Callable[[], Any], moment: Moment, sent: signal.Signals = signal.SIGINT) -> Any:
    """Run a job, and send this process a signal at a moment."""
    left = moment.number

    def watch(frame: FrameType, event: str, argument: object) -> None:
        nonlocal left
        if _place(frame, event) == moment.place:
            left -= 1
            if not left:
                sys.setprofile(None)
                os.kill(os.getpid(), sent)

    return _profiled(watch, run)


def _profiled(watch: Callable[[FrameType, str, object], None], run: Callable[[], Any]) -> Any:
    sys.setprofile(watch)
    try:
        return run()
    finally:
        sys.setprofile(None)


def _place(frame: FrameType, event: str) -> Place | None:
    code = frame.f_code
    # A generator "returns" where it yields, and there Python looks for no signal.
    if event not in EVENTS or (event == "return" and code.co_flags & CO_GENERATOR):
        return None
    # Checks of types wrap a function: they end after it has let interrupts come again.
    is_check = code.co_filename.startswith("<@beartype")
    left_out = is_check or code.co_filename in (__file__, *LOCKING)
    return None if left_out else (id(code), frame.f_lasti, event)
