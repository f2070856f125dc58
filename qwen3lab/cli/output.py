"""Prints replies and reports, as text or JSON."""

import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwen3lab.translation import later, tr

TITLES = {
    "notebook": later("notebook"),
    "exercise": later("exercise"),
    "difficulty": later("difficulty"),
    "tries": later("tries"),
    "hints": later("hints"),
    "solved": later("solved"),
}
"""Headings of the table of exercises."""

DIFFICULTIES = (later("easy"), later("medium"), later("hard"))


def show_reports(reports: Iterable[Any], figure: Path | None, as_json: bool) -> None:
    """Print each report once it is done, so that a later failure does not lose it."""
    done = []
    try:
        for report in reports:
            done.append(report)
            if not as_json:
                print(report if len(done) == 1 else f"\n{report}", flush=True)
            if figure is not None and len(done) == 1:
                from qwen3lab import figures

                figures.save(report.figure(), figure)
    finally:
        if as_json and done:
            print(json.dumps([report.to_dict() for report in done], indent=2))


def read_question(*, quiet: bool) -> str:
    """One line from stdin; "" at the end of the input. `quiet` omits the prompt `> `."""
    try:
        return input("" if quiet else "> ").strip()
    except EOFError:
        return ""


def stream_reply(
    lab: Any,
    messages: list[dict[str, str]],
    options: dict[str, Any],
    temperature: float | None,
    as_json: bool,
) -> Any:
    """Print a reply while it is generated; a terminal shows the thinking dimmed.

    A temperature replaces that of the sampling published for the reply's mode.
    """
    if temperature is not None:
        published = lab.chat_sampling(messages, thinking=options["thinking"])
        options = options | {"sampling": replace(published, temperature=temperature)}
    can_dim = sys.stdout.isatty() and not as_json
    state = {"dim": False}

    def show(step: Any) -> None:
        if can_dim and (step.part == "thinking") != state["dim"]:
            state["dim"] = step.part == "thinking"
            print("\x1b[2m" if state["dim"] else "\x1b[0m", end="")
        print(plain_text(step.text), end="", flush=True)

    reply = lab.chat(messages, on_step=None if as_json else show, **options)
    if as_json:
        names = ("thinking", "answer", "stop", "thinking_tokens", "answer_tokens")
        print(json.dumps({name: getattr(reply, name) for name in names}, ensure_ascii=False))
        return reply
    print("\x1b[0m" if can_dim else "")
    facts = tr(
        "[{thinking} thinking and {answer} answer tokens; stop: {stop}]",
        thinking=reply.thinking_tokens,
        answer=reply.answer_tokens,
        stop=reply.stop,
    )
    print(facts, file=sys.stderr)
    return reply


def status_table(rows: Iterable[dict[str, Any]]) -> str:
    """A student's standing as text, one line for each exercise."""
    from rich.console import Console
    from rich.table import Table

    rows = list(rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in rows[0]:
        side = "right" if title in ("tries", "hints") else "left"
        table.add_column(tr(TITLES[title]), justify=side)
    for row in rows:
        shown = row | {
            "difficulty": tr(row["difficulty"]),
            "solved": tr("yes") if row["solved"] else "–",
        }
        table.add_row(*map(str, shown.values()))
    console = Console(width=100, color_system=None, force_jupyter=False)
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    done = sum(1 for row in rows if row["solved"])
    return "\n".join([*lines, tr("{done} of {all} solved", done=done, all=len(rows))])


def plain_text(text: str) -> str:
    """Text without control characters, which could send commands to the terminal."""
    return "".join(char for char in text if char in "\n\t" or char.isprintable())
