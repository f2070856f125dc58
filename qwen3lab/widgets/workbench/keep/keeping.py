"""Notes, and what is kept of a workbench in files: the part of `Workbench` that does it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import StorageError
from qwen3lab.storage.atomic_files import write_text
from qwen3lab.widgets.workbench.keep.html_page import page_html
from qwen3lab.widgets.workbench.keep.notes import Kind, Note, check_note, with_note
from qwen3lab.widgets.workbench.keep.python_code import python_code
from qwen3lab.widgets.workbench.keep.restoring import (
    check_settings,
    check_sizes,
    other_dtype,
    reply_of,
    restore,
    view_of,
)
from qwen3lab.widgets.workbench.keep.table import view_csv
from qwen3lab.widgets.workbench.keep.view_file import (
    read_recording_of,
    read_view,
    write_view,
)
from qwen3lab.widgets.workbench.parts.capture import CapturePart
from qwen3lab.widgets.workbench.parts.interventions import InterventionsPart
from qwen3lab.widgets.workbench.recorded import ChatModel
from qwen3lab.widgets.workbench.state import WorkbenchState

K = TypeVar("K", bound="Keeping")


class Keeping:
    """Keeps a workbench: notes, views in files.

    Attributes:
        model_fingerprint: of the weights of the run that was opened from a file.
        opened_run: number of this run.
    """

    state: WorkbenchState
    lab: Any
    asks: bool
    asked_options: dict[str, Any]
    max_new_tokens: int
    model_fingerprint: str = ""
    opened_run: int = -1

    @property
    def name(self) -> str:
        """The model's name."""
        raise NotImplementedError

    @property
    def config(self) -> Qwen3Config:
        """The model's sizes."""
        raise NotImplementedError

    @property
    def raw(self) -> CapturePart:
        """What the raw view does."""
        raise NotImplementedError

    @property
    def interventions(self) -> InterventionsPart:
        """The changes in force."""
        raise NotImplementedError

    def close(self) -> None:
        """End the work, and remove the workbench from the page."""
        raise NotImplementedError

    @property
    def notes(self) -> tuple[Note, ...]:
        """Notes on tokens, heads and experts; `note` writes one."""
        return self.state.notes

    def note(self, text: str, on: Kind = "token") -> None:
        """Write a note on the picked token, head or expert, in place of an earlier one.

        Args:
            text: of the note; empty to remove it.
            on: "token", "head" or "expert".

        Raises:
            ValueError: nothing of this kind is picked, or the text is too long.
        """
        notes = with_note(self.state.notes, on, text, self.state)
        self.state.notes = tuple(check_note(note, self.config) for note in notes)

    @property
    def code(self) -> str:
        """Python code that makes this view again: it loads the model, asks and picks."""
        return python_code(self)

    def save(self, path: str | Path) -> None:
        """Save the view: question, settings, reply, picks, tab and notes, as a small JSON.

        The recording is saved beside it, as `NAME.recording.safetensors`; `open_view` needs both.

        Args:
            path: of the JSON file.

        Raises:
            RecordingError: nothing has been run, a run goes on, or the recording cannot be written.
            StorageError: the view cannot be written.
        """
        path = Path(path)
        view = view_of(self, path)
        assert self.state.recording is not None
        write_view(path, view, self.state.recording)

    def export_html(self, path: str | Path, *, layers: Sequence[int] | None = None) -> None:
        """Write the run as one HTML page, which works without Python and without a network.

        It shows the question and the reply, the tokens shaded by surprisal and entropy, the
        attention of every layer and head in 8 bits, the routing, and the notes.

        Args:
            path: of the page.
            layers: whose attention the page shows; all that were recorded if None. A large model
                or a long text needs a choice.

        Raises:
            RecordingError: nothing has been run, a run goes on, or the maps are too large.
            StorageError: the page cannot be written.
        """
        write_text(Path(path), page_html(self, layers), error=StorageError)

    def export_csv(self, path: str | Path) -> None:
        """Write the numbers of the tab that is shown as CSV.

        The first line says what they are, the second names the columns. Texts of tokens are in
        JSON's quotes.

        Args:
            path: of the file.

        Raises:
            RecordingError: there is no finished run, or the view has no numbers yet.
            StorageError: the file cannot be written.
        """
        write_text(Path(path), view_csv(self), error=StorageError)

    @classmethod
    def open_view(cls: type[K], path: str | Path, *, lab: ChatModel | None = None) -> K:
        """Open a view that `save` wrote.

        Args:
            path: of the JSON file; the recording is beside it.
            lab: the model that made the view, to ask further questions; in another dtype, the
                workbench says so. Without it, the workbench shows the recording and cannot ask.

        Raises:
            RecordingError: a file is missing, damaged or of a newer version, a pick is impossible,
                or the lab has another model.
        """
        path, model = Path(path), lab if hasattr(lab, "model") else None
        view = read_view(path)
        dtype = other_dtype(view, lab, path)
        recording = read_recording_of(view, path, model, dtype)  # type: ignore[arg-type]
        check_sizes(view, recording, lab, path)
        settings = check_settings(view, path)
        chat = reply_of(view, recording, path)
        source: Any = recording if chat is None else chat
        bench = cls(source, lab=lab, **_options(settings))  # type: ignore[call-arg]
        try:
            _take_settings(bench, settings)
            restore(bench, view, path)
            bench.opened_run = bench.state.run
            if dtype is not None:
                bench.interventions.note_dtype(dtype, bench.lab.model.dtype)
        except Exception:
            bench.close()
            raise
        return bench


def _options(settings: dict[str, Any]) -> dict[str, Any]:
    """Options of the workbench that shows a view."""
    names = ("question", "thinking", "budget", "max_new_tokens")
    return {name: settings[name] for name in names}


def _take_settings(bench: Keeping, settings: dict[str, Any]) -> None:
    state = bench.state
    state.greedy, state.seed = settings["temperature"] == 0.0, settings["seed"]
    if settings["temperature"]:
        state.temperature = settings["temperature"]
    bench.asked_options = {name: settings[name] for name in settings if name != "question"}
