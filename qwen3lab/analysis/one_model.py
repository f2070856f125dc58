"""Checks that recordings, and the lab they are analysed with, are of one model."""

from collections.abc import Sequence

from qwen3lab.lab import Lab
from qwen3lab.recording.recording import Recording


def check_one_model(recordings: Sequence[Recording]) -> None:
    """Raises `ValueError` for no recordings, or recordings of models of different sizes."""
    if not recordings:
        raise ValueError("there is no recording: expected at least one")
    first = recordings[0]
    for other in recordings[1:]:
        if other.config != first.config:
            raise ValueError(
                f"the recordings are of models of different sizes ({first.model_name} and "
                f"{other.model_name}): give recordings of one model"
            )


def check_recorded_by(lab: Lab, recording: Recording) -> None:
    """Raises `ValueError` if a recording cannot be of this lab's model."""
    if recording.config != lab.config:
        raise ValueError(
            f"the recording is of {recording.model_name}, whose sizes differ from those of "
            f"{lab.name}: give the lab that recorded it"
        )
