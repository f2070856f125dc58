"""The workbench in Notebook 7, another front end for the same kernels."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.notebooks.books import write_book
from tests.notebooks.jupyter_server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LOAD = "import qwen3lab\nfrom qwen3lab.widgets import Workbench\nlab = qwen3lab.load('tiny-moe')"

OF_NOTEBOOK = ("'schema'", "not registered")
"""Errors of Notebook's own plugins, without a workbench, too."""


def test_the_workbench_runs_in_notebook_7(
    tabs: BrowserContext, server: Server, folder: Path, screenshots: Path
) -> None:
    write_book(folder / "seven.ipynb", LOAD, "Workbench(lab, question='3+4=?', thinking=False)")
    page, errors = tabs.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_viewport_size({"width": 1366, "height": 768})
    page.goto(f"{server.url}/notebooks/seven.ipynb?token={server.token}")
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
    page.get_by_role("menuitem", name="Run").click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    expect(page.locator(".q3-note").first).to_contain_text("Finished", timeout=60_000)
    page.locator(".q3-bench-body").scroll_into_view_if_needed()
    page.get_by_role("tab", name="Attention", exact=True).click()
    wall = page.locator(".q3-overlay:visible").first
    wall.click(position={"x": 60, "y": 20})
    page.locator('.q3-map[data-title="Attention of layer 0, head 0"]').wait_for()
    page.locator(".q3-answer .q3-chip:not(.q3-mark)").first.click()
    expect(page.locator(".q3-token")).to_contain_text(re.compile(r"Token \d+ “7”: probability"))
    page.screenshot(path=screenshots / "notebook7.png")
    page.close()
    assert [each for each in errors if not any(its in each for its in OF_NOTEBOOK)] == []
