"""Folders of recordings are checked when they are read: checksums, layouts, ranges."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.errors import RecordingError
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Block, Qwen3
from qwen3lab.recording.on_disk import OnDisk
from qwen3lab.storage.checked_tensors import open_tensors
from qwen3lab.text.tokenizer import open_tokenizer
from tests.reference import small_config

FILE = ".safetensors"
PROMPTS = ["3+4=?", "Ann has the key.", "7"]


@pytest.fixture(scope="module")
def lab(tiny_tokenizer):
    """A random model with a dense and two MoE layers, and the embedded models' vocabulary."""
    model = Qwen3(small_config(d_vocab=len(tiny_tokenizer)))
    model.init_weights(torch.Generator().manual_seed(0), std=0.2)
    return Lab(model, tiny_tokenizer, "small")


def flip_last_bit(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_residual_stream_with_another_value_is_refused(lab, tmp_path):
    lab.record_to_disk(PROMPTS, tmp_path / "run")
    (tmp_path / "run" / f"logits-00000{FILE}").unlink()
    flip_last_bit(tmp_path / "run" / f"stream{FILE}")
    with pytest.raises(RecordingError, match="resid has other values than were saved"):
        lab.record_to_disk(PROMPTS, tmp_path / "run")


def last_tensor(path):
    with open_tensors(path) as file:
        return max(file.stored, key=lambda name: file.stored[name].offset)


def test_a_changed_value_is_refused_when_its_tensor_is_read(lab, tmp_path):
    recordings = lab.record_to_disk(PROMPTS, tmp_path / "run")
    path = tmp_path / "run" / "layer-001.safetensors"
    flip_last_bit(path)
    name = last_tensor(path)
    expected = lab.record_batch(PROMPTS)
    with pytest.raises(RecordingError, match=f"{path}.*{name} has other values than were saved"):
        recordings[-1].raw(name)
    # The last byte is of the last prompt; nothing else is refused.
    torch.testing.assert_close(recordings[0].raw(name), expected[0].raw(name))
    for other in recordings[-1].capture:
        if other != name:
            torch.testing.assert_close(recordings[-1].raw(other), expected[-1].raw(other))
    path.unlink()
    again = lab.record_to_disk(PROMPTS, tmp_path / "run")
    torch.testing.assert_close(again[-1].raw(name), expected[-1].raw(name))


def test_a_file_of_another_recording_is_refused_while_the_folder_is_open(lab, tmp_path):
    recordings = lab.record_to_disk(PROMPTS, tmp_path / "run")
    lab.record_to_disk([prompt[::-1] for prompt in PROMPTS], tmp_path / "other")
    shutil.copy(tmp_path / "other" / "layer-001.safetensors", tmp_path / "run")
    with pytest.raises(RecordingError, match=r"layer-001.* is a file of another recording"):
        recordings[0].raw("blocks.1.attn.hook_rot_q")


def test_a_value_stays_whole_when_its_file_is_cut_short(lab, tmp_path):
    recordings = lab.record_to_disk(PROMPTS, tmp_path / "run")
    name = "blocks.1.attn.hook_rot_q"
    value, expected = recordings[0].raw(name), lab.record_batch(PROMPTS)[0].raw(name)
    os.truncate(tmp_path / "run" / "layer-001.safetensors", 300)
    torch.testing.assert_close(value, expected)
    with pytest.raises(RecordingError, match=rf"{name} cannot be read from .*layer-001"):
        recordings[0].raw(name)


def test_the_size_of_a_recording_on_disk_is_that_of_its_tensors(lab, tmp_path):
    for recording in lab.record_to_disk(PROMPTS, tmp_path / "run", capture="all"):
        tensors = [recording.raw(name) for name in recording.capture]
        assert recording.activations.n_bytes() == sum(tensor.nbytes for tensor in tensors)


OLD_NAMES = ["blocks.1.mlp.hook_expert_*"]


@pytest.fixture
def old_lab():
    """A model with weights by a formula, whose recording of before checksums is in `data`."""
    tokenizer = open_tokenizer(EMBEDDED / "tiny-dense" / "v1")
    model = Qwen3(small_config(d_vocab=len(tokenizer)))
    with torch.no_grad():
        for n, parameter in enumerate(model.parameters()):
            steps = torch.arange(parameter.numel()) * (7 + 2 * n)
            parameter.copy_((((steps % 31) - 15) / 64).view_as(parameter))
    return Lab(model, tokenizer, "small")


def old_folder(tmp_path):
    return Path(shutil.copytree(Path(__file__).parent / "data/disk_format_2", tmp_path / "run"))


def test_a_folder_of_before_checksums_is_opened_and_not_run_again(old_lab, tmp_path, monkeypatch):
    folder = old_folder(tmp_path)
    stored = load_file(folder / "layer-001.safetensors")
    monkeypatch.setattr(Block, "forward", None)
    longer, shorter = old_lab.record_to_disk(
        ["3+4=?", "7"], folder, capture=OLD_NAMES, dtype="float16"
    )
    assert longer.tokens == ["3", "+", "4", "=?"] and shorter.tokens == ["7"]
    for name, value in stored.items():
        assert torch.equal(longer.raw(name), value[0])
        assert torch.equal(shorter.raw(name), value[1, -1:])
    assert torch.equal(
        longer.raw("hook_unembed"), load_file(folder / f"logits-00000{FILE}")["hook_unembed"][0]
    )


def test_experts_out_of_range_in_a_folder_of_before_checksums_are_refused(old_lab, tmp_path):
    folder = old_folder(tmp_path)
    path, name = folder / f"layer-001{FILE}", "blocks.1.mlp.hook_expert_indices"
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    tensors[name][0, 2, 1] = 8
    save_file(tensors, path, metadata=about)
    recordings = old_lab.record_to_disk(["3+4=?", "7"], folder, capture=OLD_NAMES, dtype="float16")
    with pytest.raises(RecordingError, match=f"{name} holds 8: expected -1 to 7"):
        recordings[0].raw(name)
    assert recordings[1].raw(name).shape == (1, 2)


def turned(value):
    return value.transpose(0, 1).contiguous()


@pytest.mark.parametrize("change", [turned, torch.Tensor.double, lambda value: value[..., :-1]])
def test_a_file_whose_tensors_do_not_fit_the_hook_table_is_recorded_again(
    old_lab, tmp_path, change
):
    folder = old_folder(tmp_path)
    path, name = folder / f"layer-001{FILE}", "blocks.1.mlp.hook_expert_indices"
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    expected = tensors[name][0]
    save_file(tensors | {name: change(tensors[name]).contiguous()}, path, metadata=about)
    recordings = old_lab.record_to_disk(["3+4=?", "7"], folder, capture=OLD_NAMES, dtype="float16")
    assert torch.equal(recordings[0].raw(name), expected)


def test_an_interrupted_folder_of_before_checksums_is_resumed(old_lab, tmp_path):
    folder = old_folder(tmp_path)
    for name in (f"layer-002{FILE}", f"logits-00001{FILE}"):
        (folder / name).unlink()
    options = {"capture": OLD_NAMES, "dtype": "float16"}
    resumed = old_lab.record_to_disk(["3+4=?", "7"], folder, **options)
    anew = old_lab.record_to_disk(["3+4=?", "7"], tmp_path / "new", **options)
    for mine, theirs in zip(resumed, anew, strict=True):
        for name in theirs.capture:
            torch.testing.assert_close(mine.raw(name), theirs.raw(name))


def test_a_pipe_in_place_of_a_plan_is_refused_without_reading_it(lab, tmp_path):
    os.mkfifo(tmp_path / "plan.json")
    with pytest.raises(RecordingError, match=r"plan.json is damaged \(not a regular file\)"):
        lab.record_to_disk(PROMPTS, tmp_path)


@pytest.mark.parametrize("capture", [None, ["blocks.1.attn.hook_pattern"]])
def test_blocks_of_attention_read_each_file_once(lab, tmp_path, monkeypatch, capture):
    options = {"capture": capture} if capture else {}
    [recording] = lab.record_to_disk(["3+4*2-1=?" * 4], tmp_path / "run", **options)
    attention, read, original = recording.attention, [], OnDisk.__getitem__
    whole = attention.pattern(1)

    def counting(self, name):
        read.append(name)
        return original(self, name)

    monkeypatch.setattr(OnDisk, "__getitem__", counting)
    blocks = list(attention.blocks(1, size=5))
    assert len(blocks) > 2
    assert read == (capture or ["blocks.1.attn.hook_rot_q", "blocks.1.attn.hook_rot_k"])
    torch.testing.assert_close(torch.cat([block for _, block in blocks], dim=1), whole)
