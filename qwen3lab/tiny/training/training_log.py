"""The log of a training: a line of JSON for each report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwen3lab.storage.atomic_files import write_text
from qwen3lab.storage.line_files import append_lines, read_lines

LOG = "training-log.jsonl"


def append_log(folder: Path, report: dict[str, Any]) -> None:
    """Write a report below those that are in the folder's log."""
    append_lines(folder / LOG, [json.dumps(report)])


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All reports of the folder's log, the first one first; none where there is no log."""
    log = folder / LOG
    if not log.exists():
        return []
    return [json.loads(line) for line in read_lines(log)]


def write_log(folder: Path, reports: Sequence[dict[str, Any]]) -> None:
    """Write these reports in place of the folder's log."""
    write_text(folder / LOG, "".join(f"{json.dumps(report)}\n" for report in reports))
