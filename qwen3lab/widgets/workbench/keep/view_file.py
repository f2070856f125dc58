"""The file of a view: a small JSON, with the recording beside it."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from qwen3lab.errors import RecordingError, StorageError
from qwen3lab.recording.recording import Recording
from qwen3lab.recording.rendered_logits import HasModel, OutputHead
from qwen3lab.storage.atomic_files import write_text
from qwen3lab.storage.json_dataclasses import structure, unstructure
from qwen3lab.storage.json_lines import parse_json_line
from qwen3lab.translation import tr
from qwen3lab.widgets.workbench.keep.notes import Note
from qwen3lab.widgets.workbench.keep.saved_reply import SavedReply

NAME = "qwen3lab view"
FORMAT = 1
MAX_BYTES = 2**26
"""Largest file that is read; a reply of 100,000 tokens has a tenth of it."""


@dataclass(frozen=True)
class SavedView:
    """What a view is made of, besides its recording.

    Attributes:
        recording: name of the recording's file, in the same folder.
        tokens: digest of the recording's token ids.
        model: name of the model.
        fingerprint: of the model's weights; empty if there was no model.
        settings: question and settings of the run.
        shown: what each view shows, by the name of the state's trait; the picks among it.
        changes: of the model in the run, as `changes.as_json` gives them.
        notes: on tokens, heads and experts.
        reply: what the run replied; None for a recording without a reply.
    """

    recording: str
    tokens: str
    model: str
    fingerprint: str
    settings: dict[str, Any]
    shown: dict[str, Any]
    changes: list[dict[str, Any]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    reply: SavedReply | None = None


def write_view(path: Path, view: SavedView, recording: Recording) -> None:
    """Write a view, and its recording beside it.

    Raises:
        RecordingError: the recording cannot be written.
        StorageError: the view cannot be written.
    """
    recording.save(path.parent / view.recording)
    about = {"name": NAME, "format": FORMAT, "version": version("qwen3lab")}
    text = json.dumps(about | unstructure(view), ensure_ascii=False, allow_nan=False, indent=1)
    write_text(path, text + "\n", error=StorageError)


def read_view(path: Path) -> SavedView:
    """The view of a file.

    Raises:
        RecordingError: the file is missing, is no view, is damaged or of a newer version.
    """
    return _parsed(path, _text(path))


def read_recording_of(
    view: SavedView, path: Path, lab: HasModel | None, dtype: torch.dtype | None = None
) -> Recording:
    """The recording of a view, which is beside its file.

    Args:
        view: of which run.
        path: of its file.
        lab: whose output head computes logits.
        dtype: that the model ran in, if the lab runs in another one.

    Raises:
        RecordingError: it is missing, damaged, of another run, or outside of the folder; or the
            lab has another output head.
    """
    beside = _beside(path, view.recording)
    recording = Recording.load(beside, lab=lab if dtype is None else None)
    if lab is not None and dtype is not None and lab.model.config.has_unembedding:
        recording = replace(recording, head=OutputHead.of(lab.model, dtype))
    if tokens_digest(recording) != view.tokens:
        raise RecordingError(
            tr(
                "{path} is a view of another run than {recording} has: save the view again",
                path=path,
                recording=view.recording,
            )
        )
    return recording


def recording_name(path: Path) -> str:
    """Name of the file with the recording of a view."""
    return f"{path.stem}.recording.safetensors"


def tokens_digest(recording: Recording) -> str:
    """Digest of a recording's token ids."""
    return hashlib.sha256(json.dumps(recording.token_ids.tolist()).encode()).hexdigest()


def damaged(path: Path, cause: object) -> RecordingError:
    """The error of a damaged view."""
    return RecordingError(
        tr(
            "{path} is a damaged view ({cause}): save the view again",
            path=path,
            cause=str(cause)[:200],
        )
    )


def _text(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise RecordingError(
            tr("{path} is not a regular file: give a file that save() wrote", path=path)
        )
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecordingError(
                tr("{path} is too large for a view: give a file that save() wrote", path=path)
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise RecordingError(
            tr("{path} does not exist: give a file that save() wrote", path=path)
        ) from error
    except OSError as error:
        raise RecordingError(
            tr("{path} cannot be read ({error})", path=path, error=error)
        ) from error


def _parsed(path: Path, text: bytes) -> SavedView:
    try:
        fields = parse_json_line(text)
    except ValueError as error:
        raise damaged(path, f"it {error}") from error
    if not isinstance(fields, dict) or fields.pop("name", None) != NAME:
        raise RecordingError(
            tr("{path} is no view of a workbench: give a file that save() wrote", path=path)
        )
    number = fields.pop("format", None)
    if type(number) is not int or number < 1:
        raise damaged(path, tr("its format is {number!r}", number=number))
    if number > FORMAT:
        raise RecordingError(
            tr(
                "{path} has format {number}, and this qwen3lab reads up to {format}: "
                "upgrade qwen3lab to read it",
                path=path,
                number=number,
                format=FORMAT,
            )
        )
    fields.pop("version", None)
    try:
        return structure(SavedView, fields)
    except ValueError as error:
        raise damaged(path, error) from error


def _beside(path: Path, name: str) -> Path:
    """The path of the recording, which has to be in the folder of the view."""
    found = path.parent / name
    is_name = name == Path(name).name and "\\" not in name and name not in ("", ".", "..")
    if not is_name or found.resolve().parent != path.parent.resolve():
        raise RecordingError(
            tr(
                "{path} names a recording outside of its folder ({name!r}): keep both "
                "files in one folder",
                path=path,
                name=name[:80],
            )
        )
    return found
