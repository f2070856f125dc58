"""The training log: a file with one JSON report per line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwen3lab.storage.atomic_files import write_text
from qwen3lab.storage.line_files import append_lines, read_lines

LOG = "training-log.jsonl"


def append_log(folder: Path, report: dict[str, Any]) -> None:
    """Append a report to the folder's log."""
    append_lines(folder / LOG, [json.dumps(report)])


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All reports of the folder's log in order; an empty list if there is no log."""
    log = folder / LOG
    if not log.exists():
        return []
    return [json.loads(line) for line in read_lines(log)]


def write_log(folder: Path, reports: Sequence[dict[str, Any]]) -> None:
    """Replace the folder's log by these reports."""
    write_text(folder / LOG, "".join(f"{json.dumps(report)}\n" for report in reports))
