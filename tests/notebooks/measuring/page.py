"""A notebook whose page is timed: clicks, messages, processor time of kernel and page."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Locator

from tests.notebooks.browser import Book
from tests.notebooks.measuring.processes import Processors

SCRIPT = Path(__file__).with_name("page_clock.js")


@dataclass(frozen=True)
class Cost:
    """What one click took.

    Attributes:
        ms: from the event to the last painting that belongs to it.
        messages: comm messages in both directions.
        kib: their size.
        processors: processor time by name: of the kernel with all of its threads, of the server,
            and of the page's main thread, the rest of which are its parts.
    """

    ms: float
    messages: int
    kib: float
    processors: dict[str, float]


class TimedPage:
    """A notebook that is open in the browser, with the clock of `page_clock.js` in its page."""

    def __init__(self, book: Book) -> None:
        self.book, self.page = book, book.page
        kernel = int(self.execute("import os; print(os.getpid())"))
        self.processors = Processors(book.page, kernel)

    def execute(self, code: str) -> str:
        """What code prints that runs in the kernel."""
        return self.page.evaluate("code => q3clock.execute(code)", code).strip()

    def values(self, code: str) -> Any:
        """What code in the kernel prints as JSON."""
        return json.loads(self.execute(code))

    def settle(self, quiet: int = 150) -> dict[str, Any]:
        """Wait until nothing changes; the clock."""
        return self.page.evaluate("quiet => q3clock.settled(quiet)", quiet)

    def click(self, target: Locator) -> Cost:
        """Click in the middle of an element, with the pointer there already."""
        target.hover()
        self.settle()
        self.page.evaluate("q3clock.start()")
        return self._cost(self._press)[0]

    def command(self, name: str, *, quiet: int = 600) -> tuple[Cost, dict[str, Any]]:
        """Run a command of JupyterLab; what it took, and the clock."""
        return self._cost(
            lambda: self.page.evaluate("name => q3clock.command(name)", name), quiet=quiet
        )

    def heap(self) -> dict[str, float]:
        """Memory of the page's scripts and its nodes, after a collection of garbage."""
        session = self.processors.session
        session.send("HeapProfiler.enable")
        for _ in range(2):
            session.send("HeapProfiler.collectGarbage")
        used = session.send("Runtime.getHeapUsage")["usedSize"]
        counts = session.send("Memory.getDOMCounters")
        session.send("HeapProfiler.disable")
        return {"page_mib": used / 2**20, "nodes of the page": counts["nodes"]}

    def _press(self) -> None:
        self.page.mouse.down()
        self.page.mouse.up()

    def _cost(self, act: Callable[[], Any], *, quiet: int = 150) -> tuple[Cost, dict[str, Any]]:
        before = self.processors.now()
        act()
        clock = self.settle(quiet)
        assert clock["begin"] is not None, "the click did not reach the page"
        after = self.processors.now()
        spent = {name: after[name] - before[name] for name in after}
        ms = max(0.0, clock["painted"] - clock["begin"])
        return Cost(ms, clock["comms"], clock["bytes"] / 1024, spent), clock


def timed(context: BrowserContext) -> None:
    """Let every page of the browser have the clock."""
    context.add_init_script(path=SCRIPT)
