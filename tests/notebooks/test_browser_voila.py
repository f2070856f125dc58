"""The workbench as a page of Voila's, which has no cells, offline."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from qwen3lab.jupyter.page import page_environment
from tests.notebooks.jupyter_server import free_port, own_folders, wait_for_answer

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MAIN = "from qwen3lab.cli import main; main()"
EXPLORERS = {
    "text": ".q3-word",
    "attention": '.q3-map[data-title^="Attention of layer"]',
    "routing": '.q3-map[data-title="Expert routing in layer 3"]',
    "thinking": ".q3-thoughts",
    "why": ".q3-card",
}
"""Every explorer, by its tab, and what it draws of the first run."""


@contextlib.contextmanager
def served(home: Path, *options: str) -> Iterator[str]:
    """The address of the page that `qwen3lab page` serves with these options."""
    port = free_port()
    line = [sys.executable, "-c", MAIN, "page", *options, "--no-browser", f"--port={port}"]
    with (home / "page.log").open("w") as log:
        process = subprocess.Popen(
            line,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=page_environment() | own_folders(home) | {"HF_HUB_OFFLINE": "1"},
        )
        try:
            wait_for_answer(f"http://127.0.0.1:{port}/voila/static/", process, home / "page.log")
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            process.wait(timeout=60)


@pytest.fixture
def page(tabs: BrowserContext) -> Iterator[Page]:
    """A window of 1366 x 768 in which another server never answers, as behind a strict wall."""
    page = tabs.new_page()
    page.set_viewport_size({"width": 1366, "height": 768})
    page.route(lambda url: "127.0.0.1" not in url, lambda route: None)
    yield page
    page.close()


@pytest.mark.parametrize("tab", EXPLORERS)
def test_every_explorer_is_a_page_of_its_own(
    tab: str, page: Page, tmp_path: Path, screenshots: Path
) -> None:
    outside, errors = list[str](), list[str]()
    inside = ("http://127.0.0.1", "data:", "blob:")
    page.on("request", lambda r: r.url.startswith(inside) or outside.append(r.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    with served(tmp_path, "tiny-moe", f"--tab={tab}") as address:
        page.goto(address)
        expect(page.locator(".q3-note").first).to_contain_text("Finished", timeout=90_000)
        opened = page.get_by_role("tab", name=tab.capitalize(), exact=True)
        expect(opened).to_have_attribute("aria-selected", "true")
        expect(page.locator(f".q3-view:visible {EXPLORERS[tab]}").first).to_be_visible()
        page.screenshot(path=screenshots / f"voila-{tab}.png")
        # A click reaches the kernel, and what it changes comes back.
        page.locator(".q3-answer .q3-chip:not(.q3-mark)").first.click()
        expect(page.locator(".q3-token")).to_contain_text(re.compile(r"Token \d+ “.+”: prob"))
        body = page.locator(".q3-bench-body").bounding_box()
        assert body is not None and body["y"] >= 0 and body["y"] + body["height"] <= 768
        assert page.evaluate("document.body.scrollWidth") <= 1366
    assert outside == [] and errors == []


def test_the_dark_page_has_the_dark_theme_and_asks_another_question(
    page: Page, tmp_path: Path, screenshots: Path
) -> None:
    with served(tmp_path, "tiny-dense", "--dark") as address:
        page.goto(address)
        expect(page.locator(".q3-note").first).to_contain_text("Finished", timeout=90_000)
        expect(page.locator('body[data-jp-theme-light="false"]')).to_be_visible()
        box = page.get_by_role("textbox", name="Question", exact=True)
        box.fill("3+4=?")
        box.press("Enter")
        expect(page.locator(".q3-question")).to_have_text("3+4=?")
        expect(page.locator(".q3-answer")).to_contain_text("7")
        page.get_by_role("tab", name="Attention", exact=True).click()
        page.locator(".q3-overlay:visible").first.click(position={"x": 60, "y": 20})
        page.locator('.q3-map[data-title="Attention of layer 0, head 0"]').wait_for()
        page.screenshot(path=screenshots / "voila-dark.png")
