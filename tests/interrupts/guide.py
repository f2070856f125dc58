"""The table of promises in the guide; run as a program, it writes the table into both pages."""

import json
import re
from pathlib import Path

from tests.interrupts.jobs import JOBS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "notebooks" / "guide" / "howto" / "interrupts.md"
CHINESE_PAGE = ROOT / "notebooks" / "guide" / "zh" / "howto" / "interrupts.md"
CHINESE_WORDS = ROOT / ".ci" / "docs" / "chinese_tables.json"
_ROWS = re.compile(
    r"(<!-- rows of tests/interrupts -->\n).*?(<!-- end of rows -->)", flags=re.DOTALL
)


def table() -> list[list[str]]:
    """The cells of the table as the jobs give them now."""
    head = ["Job", "After an interrupt", "After a kill"]
    return [head, *([job.name, job.interrupted, job.killed] for job in JOBS)]


def filled(text: str, cells: list[list[str]] | None = None) -> str:
    """The page with the table, that of the jobs unless another is given."""
    head, *rows = (f"| {' | '.join(row)} |" for row in cells or table())
    lines = "\n".join([head, "| --- | --- | --- |", *rows])
    return _ROWS.sub(lambda found: f"{found[1]}{lines}\n{found[2]}", text)


def chinese_table() -> list[list[str]]:
    """The table in Chinese.

    Raises:
        KeyError: `.ci/docs/chinese_tables.json` has no Chinese for a sentence of the table.
    """
    words = json.loads(CHINESE_WORDS.read_text("utf-8"))["interrupts"]
    return [[words[cell] for cell in row] for row in table()]


if __name__ == "__main__":
    for page, cells in ((PAGE, table()), (CHINESE_PAGE, chinese_table())):
        page.write_text(filled(page.read_text("utf-8"), cells), "utf-8")
