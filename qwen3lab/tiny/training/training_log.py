"""The training log: a file with one JSON report per line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwen3lab.errors import ResultsError
from qwen3lab.storage.atomic_files import write_text
from qwen3lab.storage.json_lines import parse_json_line
from qwen3lab.storage.line_files import append_lines, read_lines

LOG = "training-log.jsonl"


def append_log(folder: Path, report: dict[str, Any]) -> None:
    """Append a report to the folder's log."""
    append_lines(folder / LOG, [json.dumps(report)])


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All reports of the folder's log in order; an empty list if there is no log.

    Raises:
        ResultsError: a line is damaged; the message gives its number.
    """
    log = folder / LOG
    if not log.exists():
        return []
    return [_report(log, number, line) for number, line in enumerate(read_lines(log), start=1)]


def _report(log: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return dict(parse_json_line(line))
    except (ValueError, TypeError) as error:
        raise ResultsError(
            f"line {number} of {log.name} {error}: remove the line, whose figures are then missing"
        ) from error


def write_log(folder: Path, reports: Sequence[dict[str, Any]]) -> None:
    """Replace the folder's log by these reports."""
    write_text(folder / LOG, "".join(f"{json.dumps(report)}\n" for report in reports))
