"""The table of promises in the guide; run as a program, it writes the table into the page."""

import re
from pathlib import Path

from tests.interrupts.jobs import JOBS

PAGE = Path(__file__).parents[2] / "notebooks" / "guide" / "howto" / "interrupts.md"
_ROWS = re.compile(
    r"(<!-- rows of tests/interrupts -->\n).*?(<!-- end of rows -->)", flags=re.DOTALL
)


def filled(text: str) -> str:
    """The page with the table as the jobs give it now."""
    rows = ["| Job | After an interrupt | After a kill |", "| --- | --- | --- |"]
    rows += [f"| {job.name} | {job.interrupted} | {job.killed} |" for job in JOBS]
    return _ROWS.sub(lambda found: found[1] + "\n".join(rows) + "\n" + found[2], text)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
