"""A file is complete or absent, with ordinary permissions."""

import os
import signal
import stat

import pytest
import torch
from safetensors.torch import save_file

from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.errors import CheckpointError, CorpusError, Qwen3LabError, StorageError
from qwen3lab.storage.atomic_files import whole_file, write_text


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), whole_file(path) as part:
        part.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_written_with_its_line_ends(tmp_path):
    write_text(tmp_path / "notes.txt", "eins\r\nzwei ⑦\n")
    assert (tmp_path / "notes.txt").read_bytes() == "eins\r\nzwei ⑦\n".encode()


def test_an_error_of_the_system_becomes_one_of_the_package(tmp_path):
    path = tmp_path / "missing" / "notes.txt"
    with pytest.raises(StorageError, match=r"notes.txt cannot be written") as caught:
        write_text(path, "text")
    assert isinstance(caught.value, OSError) and isinstance(caught.value, Qwen3LabError)
    with pytest.raises(CheckpointError, match=r"notes.txt cannot be written"):
        write_text(path, "text", error=CheckpointError)


@pytest.mark.usefixtures("umask")
def test_a_new_file_has_the_permissions_of_the_umask(tmp_path):
    path = tmp_path / "tensors.safetensors"
    with whole_file(path) as part:
        save_file({"a": torch.ones(1)}, part)
    assert mode(path) == 0o644
    os.umask(0o027)
    write_text(tmp_path / "notes.txt", "text")
    assert mode(tmp_path / "notes.txt") == 0o640


@pytest.mark.usefixtures("umask")
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("before")
    path.chmod(0o600)
    write_text(path, "after")
    assert (mode(path), path.read_text()) == (0o600, "after")


@pytest.mark.usefixtures("umask")
def test_others_may_read_a_checkpoint_and_a_recording(tiny_lab, tmp_path):
    save_checkpoint(tiny_lab.model, tmp_path)
    tiny_lab.record("3+4=?").save(tmp_path / "run.safetensors")
    assert {path.name: mode(path) for path in tmp_path.iterdir()} == dict.fromkeys(
        ("config.json", "model.safetensors", "run.safetensors"), 0o644
    )


def test_counts_that_cannot_be_written_say_so(tiny_lab, tmp_path):
    corpus = RoutingCorpus(tiny_lab.config)
    with pytest.raises(CorpusError, match="cannot be written"):
        corpus.save(tmp_path / "missing" / "counts.safetensors")


def test_an_interrupt_after_opening_leaves_no_file_open(tmp_path, monkeypatch):
    opened, original = [], os.open

    def interrupted(*arguments, **options):
        opened.append(original(*arguments, **options))
        signal.raise_signal(signal.SIGINT)
        return opened[-1]

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr("qwen3lab.storage.atomic_files.os.open", interrupted)
    try:
        (tmp_path / "x").write_bytes(b"old")
        with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "x") as part:
            part.write_bytes(b"new")
    finally:
        signal.signal(signal.SIGINT, handler)
        monkeypatch.undo()
    assert opened
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
    assert not list(tmp_path.glob("*.part"))
