"""The cases: a small model, quiet and beside busy processes, one of real size, a long text, and the
same cell run ten times."""

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import BrowserContext

import qwen3lab
from qwen3lab.bench.neighbours import busy_neighbours, cores
from qwen3lab.config.qwen3_config import Qwen3Config
from tests.notebooks.books import write_book
from tests.notebooks.browser import opened
from tests.notebooks.jupyter_server import Server
from tests.notebooks.measuring import kernel_code as code
from tests.notebooks.measuring.page import Cost, TimedPage
from tests.notebooks.measuring.steps import Click, clicks_of, repeat
from tests.standins import qwen_tokenizer
from tests.standins.made_once import made
from tests.standins.makers import standin

PROMPT, REPLY = 640, 60
"""Tokens of the conversation with the model of real size."""
LONG = 16_000
RERUNS = 10
IN_LONG_TEXTS = ("text: token", "attention: layer, thumbnails")
"""The clicks that are measured in a long text."""

RUN_NEXT = "notebook:run-cell-and-select-next"


@dataclass(frozen=True)
class Rooms:
    """Where to measure: a server of a folder of notebooks, and a browser."""

    server: Server
    tabs: BrowserContext
    books: Path
    standins: Path
    repeats: int


@dataclass(frozen=True)
class Row:
    """One measured value.

    Attributes:
        case: what was open.
        step: what was done.
        value: the median.
        unit: its unit.
        goal: the largest value to accept; None without one.
        least: the smallest value of the repeats.
        most: the largest value.
        messages: comm messages of one step, both directions.
        kib: their size.
        processors: processor time of each process and part, in ms, the median of the repeats.
    """

    case: str
    step: str
    value: float
    unit: str
    goal: float | None = None
    least: float | None = None
    most: float | None = None
    messages: float | None = None
    kib: float | None = None
    processors: dict[str, float] = field(default_factory=dict)


@contextmanager
def _book(rooms: Rooms, name: str, *cells: str) -> Iterator[TimedPage]:
    """A notebook with these cells, open in the browser."""
    write_book(rooms.books / name, *cells)
    with opened(rooms.tabs, rooms.server, name) as book:
        book.command("application:toggle-left-area")
        yield TimedPage(book)


def _row(case: str, step: str, costs: list[Cost], goal: float | None) -> Row:
    times = [cost.ms for cost in costs]
    messages, kib = (
        statistics.median(getattr(cost, name) for cost in costs) for name in ("messages", "kib")
    )
    processors = {
        name: statistics.median(cost.processors[name] for cost in costs)
        for name in costs[0].processors
    }
    middle = statistics.median(times)
    return Row(case, step, middle, "ms", goal, min(times), max(times), messages, kib, processors)


def _clicks(
    rooms: Rooms, page: TimedPage, case: str, clicks: list[Click], goals: dict[str, float]
) -> Iterator[Row]:
    for click in clicks:
        yield _row(case, click.name, repeat(page, click, rooms.repeats), _goal(click, goals))


def _goal(click: Click, goals: dict[str, float]) -> float | None:
    what = "token" if click.what.startswith("token") else "pick"
    return goals.get(what) if click.has_goal else None


def tiny(rooms: Rooms) -> Iterator[Row]:
    """The embedded model: the first view, and every kind of click."""
    case = "tiny-moe"
    with _book(rooms, "tiny.ipynb", code.TINY, code.SHOW) as page:
        cost, clock = page.command("notebook:run-all-cells", quiet=1000)
        shown = clock["shown"] - clock["begin"]
        extra = {"processors": cost.processors}
        yield Row(case, "Run All to the workbench", shown / 1000, "s", 5.0)
        yield Row(case, "Run All to the first run drawn", cost.ms / 1000, "s", 5.0, **extra)
        clicks = clicks_of(qwen3lab.load("tiny-moe").config)
        yield from _clicks(rooms, page, case, clicks, {"pick": 50.0, "token": 100.0})


def busy(rooms: Rooms) -> Iterator[Row]:
    """The embedded model beside as many busy processes as there are cores: every kind of click."""
    n = cores()
    case = f"tiny-moe beside {n} busy processes"
    with _book(rooms, "busy.ipynb", code.TINY, code.SHOW) as page:
        page.command("notebook:run-all-cells", quiet=1000)
        clicks = clicks_of(qwen3lab.load("tiny-moe").config)
        with busy_neighbours(n):
            yield from _clicks(rooms, page, case, clicks, {"pick": 150.0, "token": 150.0})


def large(rooms: Rooms) -> Iterator[Row]:
    """48 layers of 128 experts, and 700 tokens: every kind of click."""
    tokenizer = qwen_tokenizer.published_folder()
    if tokenizer is None:
        tokenizer = made("tokenizer", qwen_tokenizer.write_built, rooms.standins)
    folder = standin("experts-48x128", tokenizer, rooms.standins)
    load = code.LARGE.format(folder=str(folder), prompt=PROMPT)
    with _book(rooms, "large.ipynb", load, code.SHOW_LARGE.format(reply=REPLY)) as page:
        page.command(RUN_NEXT, quiet=600)
        cost, _ = page.command(RUN_NEXT, quiet=1500)
        case = f"48 x 128 experts, {page.values(TOKENS)} tokens"
        yield _row(case, "cell to the run drawn", [cost], None)
        clicks = clicks_of(Qwen3Config.from_file(folder))
        yield from _clicks(rooms, page, case, clicks, {"pick": 200.0, "token": 200.0})


TOKENS = "print(len(bench.state.recording))"
NODES = "() => document.querySelectorAll('.q3-bench *').length"


def long(rooms: Rooms) -> Iterator[Row]:
    """A reply of 16,000 tokens: opening it, and its tokens."""
    case = f"{LONG:,} tokens"
    cells = (code.LONG.format(tokens=LONG), code.SHOW_LONG)
    with _book(rooms, "long.ipynb", *cells) as page:
        page.command(RUN_NEXT, quiet=600)
        cost, _ = page.command(RUN_NEXT, quiet=1500)
        extra = {"messages": cost.messages, "kib": cost.kib, "processors": cost.processors}
        yield Row(case, "cell to everything drawn", cost.ms / 1000, "s", 5.0, **extra)
        yield Row(case, "elements on the page", page.page.evaluate(NODES), "")
        clicks = clicks_of(qwen3lab.load("tiny-moe").config)
        few = [click for click in clicks if click.name in IN_LONG_TEXTS]
        yield from _clicks(rooms, page, case, few, {})


def reruns(rooms: Rooms) -> Iterator[Row]:
    """The same cell run ten times: what stays in the kernel and in the page."""
    case = f"{RERUNS} reruns of a cell"
    with _book(rooms, "reruns.ipynb", code.TINY, code.SHOW) as page:
        page.command("notebook:run-all-cells", quiet=1000)
        for _ in range(2):  # Caches of the libraries fill.
            rerun(page)
        page.execute("import tracemalloc; tracemalloc.start()")
        rerun(page)
        before = page.values(code.MEMORY) | page.heap()
        for _ in range(RERUNS):
            rerun(page)
        after = page.values(code.MEMORY) | page.heap()
        goals = {"python_mib": 1.0, "tensors_mib": 1.0, "page_mib": 2.0, "workbenches": 0.0}
        for name in before:
            unit = "MiB" if name.endswith("_mib") else ""
            label = name.removesuffix("_mib").replace("_", " ")
            yield Row(case, f"more {label}", after[name] - before[name], unit, goals.get(name))
        page.execute("bench.close(); del bench; _ = __ = ___ = None")
        page.settle(600)
        closed = page.values(code.MEMORY)
        for name in ("workbenches", "recordings", "widgets"):
            yield Row("closed", name, closed[name], "", 0.0)


def rerun(page: TimedPage) -> None:
    """Run the second cell again."""
    page.page.evaluate(SELECT_SECOND)
    page.command("notebook:run-cell", quiet=1000)


SELECT_SECOND = "() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1 }"

CASES: dict[str, Callable[[Rooms], Iterator[Row]]] = {
    "tiny": tiny,
    "large": large,
    "long": long,
    "reruns": reruns,
    "busy": busy,
}
