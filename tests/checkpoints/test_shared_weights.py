"""Weights in a file that the processes of a machine map."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import qwen3lab
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.checkpoints.shared_weights import ALIGNMENT, VARIABLE
from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import CheckpointError
from qwen3lab.loading import load_model
from qwen3lab.model.transformer import Qwen3
from qwen3lab.recording.weights_fingerprint import fingerprint

MODELS = ("tiny-dense", "tiny-moe")


def only_file(folder):
    (path,) = folder.glob("*.safetensors")
    return path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_with_shared_weights_gives_the_same_bits(tmp_path, name, dtype):
    plain = qwen3lab.load(name, device="cpu", dtype=dtype)
    for _ in ("written", "mapped"):
        lab = qwen3lab.load(name, device="cpu", dtype=dtype, shared=tmp_path)
        assert torch.equal(lab.record("12+30-7=?").logits, plain.record("12+30-7=?").logits)
        assert fingerprint(lab.model) == fingerprint(plain.model)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_weights_start_where_torch_starts_a_tensor(tmp_path):
    model = load_model(find_folder("tiny-moe"), shared=tmp_path)
    assert all(p.data_ptr() % ALIGNMENT == 0 for p in model.parameters())


def test_a_folder_of_the_environment_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    load_model(find_folder("tiny-dense"))
    assert only_file(tmp_path).stat().st_size > 10**6


def test_what_cannot_be_shared_passes_over_the_folder_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    load_model(find_folder("tiny-dense"), memory="1GB")
    assert list(tmp_path.iterdir()) == []


def test_training_changes_neither_the_file_nor_another_process(tmp_path):
    folder = find_folder("tiny-dense")
    model = load_model(folder, shared=tmp_path)
    before = only_file(tmp_path).read_bytes()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert only_file(tmp_path).read_bytes() == before
    fresh, plain = load_model(folder, shared=tmp_path), load_model(folder)
    assert all(
        torch.equal(one, two)
        for one, two in zip(fresh.parameters(), plain.parameters(), strict=True)
    )


def test_other_weights_in_the_same_folder_get_a_file_of_their_own(tmp_path):
    config = Qwen3Config.from_file(find_folder("tiny-dense"))
    checkpoint, common = tmp_path / "model", tmp_path / "common"
    common.mkdir()
    for seed in (1, 2):
        torch.manual_seed(seed)
        made = Qwen3(config)
        save_checkpoint(made, checkpoint)
        read = load_model(checkpoint, shared=common)
        assert torch.equal(read.embed.weight, made.embed.weight)
    assert len(list(common.iterdir())) == 2


READ = """
import sys, torch
from qwen3lab.loading import load_model
model = load_model(sys.argv[1], shared=sys.argv[2] or None)
total = sum(float(p.sum()) for p in model.parameters())  # Every page is read.
input_waits = print("ready", flush=True), sys.stdin.readline()
rows = dict(line.split()[:2] for line in open("/proc/self/smaps_rollup") if "kB" in line)
print(int(rows["Private_Clean:"]) + int(rows["Private_Dirty:"]), flush=True)
sys.stdin.readline()
"""


def private_bytes(folder, shared):
    """Private memory of two processes that both hold the model."""
    command = [sys.executable, "-c", READ, str(folder), str(shared or "")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    try:
        assert all(each.stdout.readline() == "ready\n" for each in processes)
        for each in processes:
            each.stdin.write("\n")
            each.stdin.flush()
        return [int(each.stdout.readline()) * 1024 for each in processes]
    finally:
        for each in processes:
            each.communicate("\n")


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_two_processes_hold_shared_weights_once(tmp_path):
    config = Qwen3Config(
        d_vocab=8192, d_model=1024, n_layers=2, n_heads=8, n_kv_heads=4, d_head=128, d_mlp=4096
    )
    checkpoint, common = tmp_path / "model", tmp_path / "common"
    common.mkdir()
    model = Qwen3(config)
    save_checkpoint(model, checkpoint)
    n_bytes = sum(p.nbytes for p in model.parameters())
    load_model(checkpoint, shared=common)  # Writes the file.
    apart, together = private_bytes(checkpoint, None), private_bytes(checkpoint, common)
    assert n_bytes > 100 * 2**20
    assert min(apart) - max(together) > 0.8 * n_bytes


@pytest.mark.parametrize("options", [{"memory": "1GB"}, {"quantise": "int8"}])
def test_sharing_what_is_not_loaded_whole_is_refused(tmp_path, options):
    with pytest.raises(CheckpointError, match="loaded whole on a CPU"):
        load_model(find_folder("tiny-dense"), shared=tmp_path, **options)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is no folder"):
        qwen3lab.load("tiny-dense", device="cpu", shared=tmp_path / "missing")


@pytest.mark.parametrize("which", ["file", "folder"])
def test_weights_that_others_could_change_are_refused(tmp_path, which):
    load_model(find_folder("tiny-dense"), shared=tmp_path)
    path = only_file(tmp_path) if which == "file" else tmp_path
    path.chmod(path.stat().st_mode | stat.S_IWOTH)
    with pytest.raises(CheckpointError, match="can be changed by other accounts"):
        load_model(find_folder("tiny-dense"), shared=tmp_path)


def test_a_damaged_file_is_refused(tmp_path):
    load_model(find_folder("tiny-dense"), shared=tmp_path)
    path = only_file(tmp_path)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-100])
    path.chmod(0o444)
    with pytest.raises(CheckpointError, match="delete it"):
        load_model(find_folder("tiny-dense"), shared=tmp_path)


def test_a_folder_that_cannot_be_written_loads_the_model_apart_with_a_warning(
    tmp_path, monkeypatch
):
    def refuse(*_):
        raise OSError("no right to write")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.warns(UserWarning, match="not shared with other processes"):
        model = load_model(find_folder("tiny-dense"), shared=tmp_path)
    assert model.embed.weight.isfinite().all()
    assert list(tmp_path.iterdir()) == []
