"""Lines are appended whole, or not at all."""

import os

import pytest

from qwen3lab.errors import StorageError
from qwen3lab.storage.line_files import append_lines, locked, read_lines


def test_a_failed_append_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    append_lines(path, ["one"])

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"a\.jsonl cannot be appended to .*No space left"):
        append_lines(path, ["two", "three"])
    assert path.read_bytes() == b"one\n"


def test_only_whole_lines_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"one\n\xff\ntw")
    assert read_lines(tmp_path / "a") == [b"one", b"\xff"]


@pytest.mark.parametrize("there", [True, False])
def test_a_locked_file_is_refused_to_others(tmp_path, there):
    path = tmp_path / "folder" / "a"
    if there:
        path.parent.mkdir()
        path.write_bytes(b"one\n")
    with locked(path):
        append_lines(path, ["two"])
        with pytest.raises(StorageError, match="written by another run"), locked(path):
            pass
    with locked(path):
        assert read_lines(path)[-1] == b"two"
