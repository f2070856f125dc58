"""What stays in the page of JupyterLab after a cell has run again."""

from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.notebooks.books import write_book
from tests.notebooks.browser import opened
from tests.notebooks.jupyter_server import Server
from tests.notebooks.measuring import kernel_code as code
from tests.notebooks.measuring.cases import rerun
from tests.notebooks.measuring.page import TimedPage, timed

pytestmark = [pytest.mark.browser, pytest.mark.slow]
RERUNS = 5
MOST_NODES = 1_000
"""A workbench has about 1,100: fewer say that none of the old ones is kept."""
MOST_MIB = 3.0
"""A kept workbench has 1.2 MiB; what the browser compiles meanwhile varies by about 1 MiB."""


def run_again(page: TimedPage, times: int) -> dict[str, float]:
    """Run the second cell again and again; the memory of the page after that."""
    for _ in range(times):
        rerun(page)
        expect(page.page.locator(".q3-note")).to_contain_text("Finished")
    page.settle(1000)
    return page.heap()


def test_a_cell_that_runs_again_leaves_no_old_workbench_in_the_page(
    tabs: BrowserContext, server: Server, folder: Path
) -> None:
    timed(tabs)
    write_book(folder / "again.ipynb", code.TINY, code.SHOW)
    with opened(tabs, server, "again.ipynb") as book:
        page = TimedPage(book)
        page.command("notebook:run-all-cells", quiet=1000)
        before = run_again(page, 2)
        after = run_again(page, RERUNS)
        assert book.page_errors == []
    more = {name: after[name] - before[name] for name in before}
    assert more["nodes of the page"] < MOST_NODES
    assert more["page_mib"] < MOST_MIB
