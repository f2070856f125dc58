"""Processor time of the processes that take part: kernel, server, and the thread of the page."""

from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import CDPSession, Page

PARTS = {"script_ms": "ScriptDuration", "style_ms": "RecalcStyleDuration"} | {
    "layout_ms": "LayoutDuration",
    "page_ms": "TaskDuration",
}
"""What the browser counts of the page's main thread; the last one is all of it."""


class Processors:
    """Processor time so far, in milliseconds.

    Args:
        page: its main thread is counted.
        kernel: number of the kernel's process; its parent is the server.
    """

    def __init__(self, page: Page, kernel: int) -> None:
        self.kernel = psutil.Process(kernel)
        self.server = self.kernel.parent()
        self.session: CDPSession = page.context.new_cdp_session(page)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def now(self) -> dict[str, float]:
        """By name: `kernel_ms`, `server_ms`, and those of the page."""
        found: Any = self.session.send("Performance.getMetrics")["metrics"]
        metrics = {each["name"]: each["value"] for each in found}
        times = {name: 1000 * metrics[named] for name, named in PARTS.items()}
        server = 0.0 if self.server is None else _ms(self.server)
        return times | {"kernel_ms": _ms(self.kernel), "server_ms": server}


def _ms(process: psutil.Process) -> float:
    """Time of all threads; where the system counts nanoseconds of a thread, in these."""
    spent = 0
    try:
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            spent += int((thread / "schedstat").read_text().split()[0])
    except OSError:
        times = process.cpu_times()
        return 1000 * (times.user + times.system)
    return spent / 1e6
