"""Checks that recordings, and the lab they are analysed with, are of one model."""

from collections.abc import Sequence

from qwen3lab.lab import Lab
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr


def check_one_model(recordings: Sequence[Recording]) -> None:
    """Raises `ValueError` for no recordings, or recordings of models of different sizes."""
    if not recordings:
        raise ValueError(tr("there is no recording: expected at least one"))
    first = recordings[0]
    for other in recordings[1:]:
        if other.config != first.config:
            raise ValueError(
                tr(
                    "the recordings are of models of different sizes ({one} and "
                    "{other}): give recordings of one model",
                    one=first.model_name,
                    other=other.model_name,
                )
            )


def check_recorded_by(lab: Lab, recording: Recording) -> None:
    """Raises `ValueError` if a recording cannot be of this lab's model."""
    if recording.config != lab.config:
        raise ValueError(
            tr(
                "the recording is of {model_name}, whose sizes differ from those of "
                "{name}: give the lab that recorded it",
                model_name=recording.model_name,
                name=lab.name,
            )
        )
