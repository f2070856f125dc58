"""Reads the file of a recording, and checks it against its checksums and the hook table."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display.plain import one_line
from qwen3lab.errors import RecordingError
from qwen3lab.recording.file_checks import (
    Layout,
    check_digests,
    check_experts,
    check_layouts,
    check_token_ids,
    checked_spans,
    checked_texts,
)
from qwen3lab.storage.checked_tensors import CheckedTensors, open_tensors
from qwen3lab.translation import tr

FORMAT = 2
"""Since format 2, checksums are metadata of the file, and cover the other metadata, too."""
TOKEN_IDS = "token_ids"
MAX_REASON_CHARACTERS = 200

PARSING_ERRORS = (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
)
"""Exceptions that damaged metadata can raise while it is read."""


def read_recording(path: Path) -> tuple[dict[str, Any], str | None]:
    """The fields of a recording, from a file that `Recording.save` wrote.

    Returns:
        The fields, and the fingerprint of the output head that the logits are computed with; None
        if the file does not name one.

    Raises:
        RecordingError: the file does not exist, is no recording, is damaged, or has a newer format.
    """
    if path.exists() and not path.is_file():
        raise RecordingError(
            tr("{path} is not a regular file: give a file that save() wrote", path=path)
        )
    try:
        with open_tensors(path) as file:
            return _fields(file, path)
    except FileNotFoundError as error:
        raise RecordingError(
            tr("{path} does not exist: give a file that save() wrote", path=path)
        ) from error
    except RecordingError:
        raise
    except (ValueError, OSError) as error:
        raise RecordingError(
            tr(
                "{path} is not a complete safetensors file ({reason}): save the recording again",
                path=path,
                reason=_reason(error),
            )
        ) from error


def _fields(file: CheckedTensors, path: Path) -> tuple[dict[str, Any], str | None]:
    metadata = _metadata(file, path)
    try:
        if metadata["format"] > 1 and not file.has_checksums:
            raise ValueError(tr("its checksums are missing"))
        head = metadata.get("output_head")
        if not isinstance(head, str | None):
            raise TypeError(tr("its output head is not text"))
        return _checked(metadata, file, path), head
    except PARSING_ERRORS as error:
        raise RecordingError(
            tr(
                "{path} is a damaged recording ({reason}): save the recording again",
                path=path,
                reason=_reason(error),
            )
        ) from error


def _metadata(file: CheckedTensors, path: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(file.metadata["qwen3lab"])
        number = metadata["format"]
        if type(number) is not int:
            raise TypeError(tr("the format is not a whole number"))
    except PARSING_ERRORS as error:
        raise RecordingError(
            tr(
                "{path} is a safetensors file but not a recording: give a file that "
                "Recording.save wrote",
                path=path,
            )
        ) from error
    if number < 1:
        raise RecordingError(
            tr("{path} is a damaged recording (its format is {number})", path=path, number=number)
        )
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
    return metadata


def _checked(metadata: dict[str, Any], file: CheckedTensors, path: Path) -> dict[str, Any]:
    """The fields; layouts are checked first, so that no tensor is larger than its model allows."""
    config = Qwen3Config.from_dict(metadata["config"], source=f"the config in {path}")
    tokens = checked_texts(metadata["tokens"])
    layouts = {name: Layout(stored.dtype, stored.shape) for name, stored in file.stored.items()}
    if missing := {*metadata["capture"], TOKEN_IDS} ^ set(layouts):
        raise ValueError(
            tr("its tensors are not those of its capture: {missing}", missing=min(missing))
        )
    dtype, shape = layouts.pop(TOKEN_IDS)
    if shape != (len(tokens),):
        about = tr(
            "{token_ids} has shape {shape}, dtype {dtype}",
            token_ids=TOKEN_IDS,
            shape=shape,
            dtype=dtype,
        )
        raise ValueError(
            tr("{about}, and there are {n_tokens} tokens", about=about, n_tokens=len(tokens))
        )
    check_layouts(layouts, config, len(tokens))
    model_name, spans = metadata["model_name"], checked_spans(metadata["spans"], len(tokens))
    if not isinstance(model_name, str):
        raise ValueError(tr("model_name is not text"))
    adapter = metadata.get("adapter", "")
    if not isinstance(adapter, str):
        raise ValueError(tr("adapter is not text"))
    tensors = _tensors(metadata, file, config)
    return {
        "token_ids": tensors.pop(TOKEN_IDS),
        "tokens": tokens,
        "config": config,
        "model_name": model_name,
        "activations": tensors,
        "spans": spans,
        "adapter": adapter,
    }


def _tensors(
    metadata: dict[str, Any], file: CheckedTensors, config: Qwen3Config
) -> dict[str, Tensor]:
    tensors = {name: file.read(name) for name in file.stored}
    if not file.has_checksums:
        check_digests(tensors, metadata.get("sha256"))
    check_token_ids(tensors[TOKEN_IDS], config)
    for name, value in tensors.items():
        check_experts(name, value, config)
    return tensors


def _reason(error: Exception) -> str:
    return one_line(str(error), width=MAX_REASON_CHARACTERS)
