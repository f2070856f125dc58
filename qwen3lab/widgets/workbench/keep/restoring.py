"""Turns a workbench into a view that can be kept, and a kept view into a workbench's picks."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
import traitlets

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError, RecordingError
from qwen3lab.generation.reply import Chat
from qwen3lab.recording.recording import Recording
from qwen3lab.recording.weights_fingerprint import fingerprint
from qwen3lab.translation import tr
from qwen3lab.widgets.workbench.changes import as_json, check_exists, from_json
from qwen3lab.widgets.workbench.keep.notes import check_note
from qwen3lab.widgets.workbench.keep.saved_reply import chat_of, saved_reply
from qwen3lab.widgets.workbench.keep.view_file import (
    SavedView,
    damaged,
    read_recording_of,
    recording_name,
    tokens_digest,
)
from qwen3lab.widgets.workbench.state import PICKS, WorkbenchState

SHOWN = (*PICKS, "quantity", "colours", "curve", "pane", "hook", "score", "pooling", "lens", "tab")
"""Traits of the state that say what the views show; the tab is last, as it starts work."""

SETTINGS = ("question", "thinking", "budget", "temperature", "seed", "max_new_tokens")


@runtime_checkable
class KeptBench(Protocol):
    """The part of a `Workbench` that a view is made of."""

    state: WorkbenchState
    lab: Any
    asks: bool
    asked_options: dict[str, Any]
    max_new_tokens: int
    model_fingerprint: str
    opened_run: int

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def config(self) -> Qwen3Config:
        """The model's sizes."""
        ...


def shown_recording(bench: KeptBench) -> Recording:
    """The recording that the views show.

    Raises:
        RecordingError: nothing has been run, or a run goes on.
    """
    recording = bench.state.shown
    if recording is None:
        raise RecordingError(tr("there is no finished run to keep: run a question first"))
    return recording


def view_of(bench: KeptBench, path: Path) -> SavedView:
    """The view of a workbench, for a file at a path.

    Raises:
        RecordingError: nothing has been run, or a run goes on.
    """
    state, recording = bench.state, shown_recording(bench)
    return SavedView(
        recording=recording_name(path),
        tokens=tokens_digest(recording),
        model=bench.name,
        fingerprint=_opened_fingerprint(bench) or _fingerprint(bench.lab),
        settings=settings_of(bench),
        shown={name: getattr(state, name) for name in SHOWN},
        changes=[as_json(change) for change in state.asked_changes],
        notes=[note for note in state.notes if note.fits(recording)],
        reply=None if state.current is None else saved_reply(state.current),
    )


def settings_of(bench: KeptBench) -> dict[str, Any]:
    """Question and settings of the run; those in the boxes if nothing was asked."""
    options = bench.asked_options
    question = bench.state.asked or bench.state.question
    return {"question": question} | {name: options[name] for name in SETTINGS[1:]}


def reply_of(view: SavedView, recording: Recording, path: Path) -> Chat | None:
    """The reply of a view; None if it has none.

    Raises:
        RecordingError: it does not fit the recording.
    """
    try:
        return None if view.reply is None else chat_of(view.reply, recording)
    except ValueError as error:
        raise damaged(path, error) from error


def other_dtype(view: SavedView, lab: Any, path: Path) -> torch.dtype | None:
    """The dtype of a view's model, if the lab has its weights in another one; None for the same.

    Raises:
        RecordingError: the lab's weights are not those of the view, as far as they are known.
    """
    found = _fingerprint(lab) if view.fingerprint else ""
    if not found or found == view.fingerprint:
        return None
    recording = read_recording_of(view, path, None)
    if recording.config == lab.config:
        made = _dtype_of(recording, lab)
        if made != lab.model.dtype and fingerprint(lab.model, made) == view.fingerprint:
            return made
        _check_dtype(view, lab, made, path)
    raise _other_model(view, lab, path)


def _dtype_of(recording: Recording, lab: Any) -> torch.dtype:
    """The dtype that the model of a recording ran in; some activations are float32 all the same."""
    floats = [each.dtype for each in recording.activations.values() if each.is_floating_point()]
    return min(floats, key=lambda each: each.itemsize, default=lab.model.dtype)


def check_sizes(view: SavedView, recording: Recording, lab: Any, path: Path) -> None:
    """Refuse a lab whose sizes are not those of the recording.

    Raises:
        RecordingError: its sizes are others.
    """
    if lab is not None and lab.config != recording.config:
        raise _other_model(view, lab, path)


def _check_dtype(view: SavedView, lab: Any, made: torch.dtype, path: Path) -> None:
    """Refuse a lab that runs in another dtype than the model of the view did.

    Raises:
        RecordingError: it does, and its weights are not those of the view, rounded.
    """
    if made != lab.model.dtype:
        name, runs_in = (str(each).removeprefix("torch.") for each in (made, lab.model.dtype))
        raise RecordingError(
            tr(
                "{path} is a view of {model} in {name}, and the lab runs in {runs_in}, in which "
                "numbers differ: give qwen3lab.load(..., dtype={name!r}), or open the view without "
                "a lab to look at it",
                path=path,
                model=view.model,
                name=name,
                runs_in=runs_in,
            )
        )


def _other_model(view: SavedView, lab: Any, path: Path) -> RecordingError:
    return RecordingError(
        tr(
            "{path} is a view of {model}, and the lab has {name} with other sizes or "
            "weights: give the lab that made it, in its dtype, or none",
            path=path,
            model=view.model,
            name=lab.name,
        )
    )


def check_settings(view: SavedView, path: Path) -> dict[str, Any]:
    """The settings of a view, each of its type.

    Raises:
        RecordingError: one is missing, unknown or of another type.
    """
    kinds = {
        "question": (str,),
        "thinking": (bool,),
        "budget": (int, type(None)),
        "temperature": (float, int, type(None)),
        "seed": (int,),
        "max_new_tokens": (int,),
    }
    found = view.settings
    if found.keys() != kinds.keys() or any(type(found[n]) not in kinds[n] for n in kinds):
        raise damaged(path, tr("its settings are not those of a run"))
    numbers = [found[name] for name in ("budget", "temperature", "seed") if found[name]]
    if found["max_new_tokens"] < 1 or any(number < 0 for number in numbers):
        raise damaged(path, tr("its settings are not those of a run"))
    return found


def restore(bench: KeptBench, view: SavedView, path: Path) -> None:
    """Set the picks, the tab and the notes of a view.

    Raises:
        RecordingError: one of them is impossible.
    """
    state = bench.state
    bench.model_fingerprint = view.fingerprint
    try:
        if unknown := view.shown.keys() - set(SHOWN):
            raise ValueError(tr("{unknown!r} is nothing that a view shows", unknown=min(unknown)))
        changes = tuple(from_json(values) for values in view.changes)
        for change in changes:
            check_exists(change, bench.config)
        state.changes = state.asked_changes = changes
        state.notes = tuple(check_note(note, bench.config) for note in view.notes)
        if lost := [note.name for note in state.notes if not note.fits(state.recording)]:
            raise ValueError(
                tr("it has a note on {lost}, which the text does not have", lost=lost[0])
            )
        for name in (name for name in SHOWN if name in view.shown):
            setattr(state, name, view.shown[name])
    except (ValueError, TypeError, HookError, traitlets.TraitError) as error:
        raise damaged(path, error) from error


def _opened_fingerprint(bench: KeptBench) -> str:
    """Of the weights of a run that was opened from a file, while it is shown; else empty."""
    return bench.model_fingerprint if bench.state.run == bench.opened_run else ""


def _fingerprint(lab: Any) -> str:
    """Of the weights; empty for what stands in for a model."""
    model = getattr(lab, "model", None)
    return "" if model is None else fingerprint(model)
