"""Progress is kept in the working folder, and only if that has a file for it."""

import json

import pytest
import torch

from qwen3lab import exercises
from qwen3lab.errors import ResultsError
from qwen3lab.exercises import progress

PATTERN = torch.tensor([[1.0, 0.0], [0.8, 0.2]])


def test_tries_and_hints_count_until_the_exercise_is_solved(working_folder):
    exercises.most_attended(PATTERN, 1, None, hint=2)
    exercises.most_attended(PATTERN, 1, "x")  # no answer at all: no try
    exercises.most_attended(PATTERN, 1, 1)
    exercises.most_attended(PATTERN, 1, 0)
    exercises.most_attended(PATTERN, 1, 1)
    exercises.most_attended(PATTERN, 1, None, hint=3)
    stored = json.loads((working_folder / progress.FILE).read_text())
    assert stored["exercises"] == {"most_attended": {"tries": 2, "hints": 2, "solved": True}}


def test_without_a_file_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exercises.most_attended(PATTERN, 1, 0).solved
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ResultsError, match="qwen3lab lab"):
        progress.read(tmp_path)


@pytest.mark.parametrize("text", ["{", '{"exercises": {"a": 3}}', '{"format": 9}'])
def test_a_damaged_file_warns_and_the_verdict_is_shown(working_folder, text):
    (working_folder / progress.FILE).write_text(text)
    with pytest.warns(UserWarning, match="your progress was not saved"):
        assert exercises.most_attended(PATTERN, 1, 0).solved
    assert (working_folder / progress.FILE).read_text() == text


def test_forgotten_exercises_begin_again(working_folder):
    progress.note("a", solved=True)
    progress.note("b", solved=False)
    progress.forget(working_folder, ["a", "c"])
    assert dict(progress.read(working_folder).exercises) == {"b": progress.Entry(1, 0, False)}
    progress.start(working_folder)  # an existing file stays
    assert "b" in progress.read(working_folder).exercises


@pytest.mark.parametrize("hint", [-1, 4])
def test_a_hint_that_does_not_exist_is_named(hint):
    verdict = exercises.most_attended(PATTERN, 1, None, hint=hint)
    assert verdict.solved is None and "give hint=1, 2 or 3" in verdict.reason
