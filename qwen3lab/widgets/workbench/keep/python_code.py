"""The Python code that makes a view of the workbench again."""

from collections.abc import Iterator
from typing import Any

from qwen3lab.widgets.workbench.keep.notes import Note
from qwen3lab.widgets.workbench.keep.restoring import SHOWN, KeptBench, settings_of
from qwen3lab.widgets.workbench.state import PICKS, WorkbenchState


def python_code(bench: KeptBench) -> str:
    """Code that loads the model, asks the question again, and sets picks, notes and tab.

    A recording that was not asked for is recorded again, from its token ids.
    """
    lines = ["import qwen3lab", "from qwen3lab.widgets import Workbench"]
    fitting = [note for note in bench.state.notes if note.fits(bench.state.recording)]
    if fitting:
        lines.append("from qwen3lab.widgets.workbench.keep.notes import Note")
    lines += ["", f"lab = qwen3lab.load({bench.name!r})"]
    lines += _asked(bench) if bench.asks else _recorded(bench)
    lines += _picks(bench.state)
    if fitting:
        lines += ["bench.state.notes = (", *(f"    {_note(note)}," for note in fitting), ")"]
    return "\n".join([*lines, "bench", ""])


def _asked(bench: KeptBench) -> Iterator[str]:
    """A workbench that asks the same question with the same settings."""
    found = settings_of(bench)
    yield "bench = Workbench("
    yield "    lab,"
    for name in ("question", "thinking", "budget", "max_new_tokens"):
        yield f"    {name}={found[name]!r},"
    yield ")"
    is_greedy = found["temperature"] == 0.0
    yield f"bench.state.greedy = {is_greedy}"
    if not is_greedy:
        if found["temperature"] is not None:
            yield f"bench.state.temperature = {found['temperature']!r}"
        yield f"bench.state.seed = {found['seed']!r}"
    changes = bench.state.asked_changes
    if changes:
        kinds = sorted({type(change).__name__ for change in changes})
        yield f"from qwen3lab.widgets.workbench.changes import {', '.join(kinds)}"
        yield f"bench.state.changes = {changes!r}"
    if bench.state.current is not None:
        yield "bench.run()"


def _recorded(bench: KeptBench) -> Iterator[str]:
    """A workbench that shows the same tokens, recorded again."""
    recording = bench.state.recording
    if recording is None:
        yield "bench = Workbench(lab)"
        return
    yield f"recording = lab.record({recording.token_ids.tolist()!r})"
    yield "bench = Workbench(recording, lab=lab)"


def _picks(state: WorkbenchState) -> Iterator[str]:
    """What differs from the state of a workbench that was just made; the picks always."""
    traits = state.traits()
    for name in SHOWN:
        value = getattr(state, name)
        if name in PICKS or value != traits[name].default():
            yield f"bench.state.{name} = {value!r}"


def _note(note: Note) -> str:
    values: list[Any] = [note.kind, note.place, note.text, note.about]
    return f"Note({', '.join(map(repr, values[: 4 if note.about else 3]))})"
