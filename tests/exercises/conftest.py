"""The shipped models, and the working folder of a student."""

import pytest

import qwen3lab
from qwen3lab.exercises import progress
from qwen3lab.lab import Lab


@pytest.fixture(scope="session")
def moe() -> Lab:
    """The shipped mixture of experts, on the CPU."""
    return qwen3lab.load("tiny-moe", device="cpu")


@pytest.fixture(scope="session")
def dense() -> Lab:
    """The shipped dense model, on the CPU."""
    return qwen3lab.load("tiny-dense", device="cpu")


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """A student's working folder, which keeps progress."""
    monkeypatch.chdir(tmp_path)
    progress.start(tmp_path)
    return tmp_path
