"""A headless Chromium that shows JupyterLab."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect, sync_playwright

from tests.notebooks.jupyter_server import Server

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
CONNECTED = """() => {
  const panel = window.jupyterapp?.shell?.currentWidget;
  const kernel = panel?.sessionContext?.session?.kernel;
  return kernel?.connectionStatus === "connected" && kernel.status === "idle";
}"""


def chromium() -> str:
    """Path of the system's browser; skips the test if there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    return found


def screenshot_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for screenshots: QWEN3LAB_SCREENSHOTS if set, or a temporary folder."""
    named = os.environ.get("QWEN3LAB_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


TAB_CLICKS = 15
"""Clicks on a tab until it opens, two seconds apart."""


@dataclass
class Book:
    """A notebook open in the browser.

    Attributes:
        page: the browser's page.
        external_requests: addresses of requests to other servers.
        page_errors: uncaught JavaScript errors.
    """

    page: Page
    external_requests: list[str] = field(default_factory=list)
    page_errors: list[str] = field(default_factory=list)

    def command(self, name: str) -> None:
        """Run a JupyterLab command and wait for its end."""
        self.page.evaluate("name => window.jupyterapp.commands.execute(name)", name)

    def card(self, title: str) -> Locator:
        """The explorer's card with this heading."""
        heading = self.page.locator(".q3-heading", has_text=title)
        return self.page.locator(".q3-explorer .q3-card", has=heading)

    def open_tab(self, name: str) -> None:
        """Open a tab of the workbench."""
        tab = self.page.get_by_role("tab", name=name, exact=True)
        for _ in range(TAB_CLICKS):  # A page that loads may miss one.
            tab.click()
            with contextlib.suppress(AssertionError):
                expect(tab).to_have_attribute("aria-selected", "true", timeout=2_000)
                return
        expect(tab).to_have_attribute("aria-selected", "true")

    def handle(self, number: int) -> Locator:
        """One of the sliders of numbers that are seen, such as that of the layer."""
        return self.page.locator(".q3-number-slider:visible").nth(number)

    def drawn(self, title: str) -> str:
        """Title of the map on a card's canvas."""
        return self.card(title).locator(".q3-map").get_attribute("data-title") or ""

    def picture(self, title: str) -> str:
        """Image of a card's canvas, for comparison."""
        canvas = self.card(title).locator("canvas").first
        return canvas.evaluate("canvas => canvas.toDataURL()")

    def wait_for_title(self, card: str, title: str) -> None:
        """Wait until a card's canvas shows a map with this title."""
        self.card(card).locator(f'.q3-map[data-title="{title}"]').wait_for()


@contextlib.contextmanager
def browser(profile: Path, *, width: int = 1600, height: int = 1800) -> Iterator[BrowserContext]:
    """The system's Chromium, headless, with a new profile."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile),
            executable_path=chromium(),
            args=list(SWITCHES),
            headless=True,
            viewport={"width": width, "height": height},
        )
        context.set_default_timeout(60_000)
        try:
            yield context
        finally:
            context.close()


@contextlib.contextmanager
def opened(context: BrowserContext, server: Server, notebook: str) -> Iterator[Book]:
    """A notebook of the server in a new tab, with a connected kernel."""
    book = Book(context.new_page())
    inside = (server.url, "data:", "blob:")
    book.page.on(
        "request", lambda r: r.url.startswith(inside) or book.external_requests.append(r.url)
    )
    book.page.on("pageerror", lambda error: book.page_errors.append(str(error)))
    book.page.goto(server.page(notebook))
    book.page.wait_for_function(CONNECTED)
    yield book
    book.page.close()
