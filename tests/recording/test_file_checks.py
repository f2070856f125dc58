"""Recordings from files: what does not fit the table of hook points is refused by name."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from qwen3lab.errors import RecordingError
from qwen3lab.recording.recording import Recording
from qwen3lab.storage.checked_tensors import save_checked

DATA = Path(__file__).parent / "data"
EXPERTS = "blocks.2.mlp.hook_expert_indices"
ROUTER, QUERIES = "blocks.2.mlp.hook_router_logits", "blocks.2.attn.hook_rot_q"


@pytest.fixture
def saved(tiny_lab, tmp_path):
    tiny_lab.record("3+2*7-1=?").save(tmp_path / "run")
    return tmp_path / "run"


def rewritten(path, *, digests=False, **changes):
    """Writes the file again with changed tensors or metadata, and checksums that fit, or not."""
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    for name, change in changes.pop("tensors", {}).items():
        tensors[name] = change(tensors[name]).contiguous()
    text = json.dumps(json.loads(header["qwen3lab"]) | changes)
    if digests:
        save_file(tensors, path, metadata=header)
    else:
        save_checked(tensors, path, {"qwen3lab": text})


def with_token(value, expert):
    value[1, 0] = expert
    return value


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (EXPERTS, lambda v: with_token(v, 16), f"{EXPERTS} holds 16: expected -1 to 15"),
        (EXPERTS, lambda v: with_token(v, -2), f"{EXPERTS} holds -2: expected -1 to 15"),
        (EXPERTS, lambda v: v.float(), f"{EXPERTS} has dtype torch.float32"),
        (EXPERTS, lambda v: v > 0, f"{EXPERTS} has dtype torch.bool"),
        (EXPERTS, lambda v: v.T, f"{EXPERTS} has shape (4, 8) in place of (8, k)"),
        (EXPERTS, lambda v: v[..., :0], f"{EXPERTS} has shape (8, 0)"),
        (
            EXPERTS,
            lambda v: v[..., :2],
            "blocks.2.mlp.hook_expert_weights has shape (8, 4) in place of (8, 2)",
        ),
        (ROUTER, lambda v: v[:, :15], f"{ROUTER} has shape (8, 15) in place of (8, 16)"),
        (ROUTER, lambda v: v[None], f"{ROUTER} has shape (1, 8, 16) in place of (8, 16)"),
        (ROUTER, lambda v: v.long(), f"{ROUTER} has dtype torch.int64"),
        (ROUTER, lambda v: v.to(torch.complex64), f"{ROUTER} has dtype torch.complex64"),
        (
            QUERIES,
            lambda v: v.transpose(0, 1),
            f"{QUERIES} has shape (4, 8, 32) in place of (8, 4, 32)",
        ),
        (
            "hook_unembed",
            lambda v: v[:-1],
            "has shape (7, 1536) in place of (8, 1536)",
        ),
        ("hook_unembed", lambda v: v.int(), "hook_unembed has dtype torch.int32"),
        ("token_ids", lambda v: v[None], "token_ids has shape (1, 8)"),
        ("token_ids", lambda v: v.float(), "token_ids has shape (8,), dtype torch.float32"),
        ("token_ids", lambda v: v + 1536, "expected 0 to 1535"),
        ("token_ids", lambda v: v - 1536, "expected 0 to 1535"),
    ],
)
def test_tensors_that_do_not_fit_the_hook_table_are_refused(saved, name, change, message):
    rewritten(saved, tensors={name: change})
    with pytest.raises(RecordingError) as caught:
        Recording.load(saved)
    assert str(saved) in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": [1] * 8}, "tokens is not a list of strings"),
        ({"tokens": [None] * 8}, "tokens is not a list of strings"),
        ({"tokens": "x" * 8}, "tokens is not a list of strings"),
        ({"tokens": ["x"] * 7}, "tokens"),
        ({"model_name": None}, "model_name is not text"),
        ({"format": -5}, "its format is -5"),
        ({"spans": {"thinking": [0.9, 3.9]}}, "span thinking is"),
        ({"spans": {"thinking": [0, True]}}, "span thinking is"),
        ({"spans": {"thinking": [0, 3, 4]}}, "span thinking is"),
        ({"spans": {"thinking": "03"}}, "span thinking is"),
        ({"spans": {"thinking": [0, 9]}}, "span thinking is [0, 9] of 8 tokens"),
        ({"spans": [[0, 1]]}, "spans is not a mapping"),
    ],
)
def test_metadata_that_does_not_fit_the_tokens_is_refused(saved, changes, message):
    rewritten(saved, **changes)
    with pytest.raises(RecordingError) as caught:
        Recording.load(saved)
    assert message in str(caught.value) and str(saved) in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 2},
        {"num_experts": 3, "num_experts_per_tok": 2},
        {"vocab_size": 100},
        {"num_hidden_layers": 3},
        {"head_dim": 16},
    ],
)
def test_a_config_of_other_sizes_than_the_tensors_is_refused(saved, changes, tiny_lab):
    rewritten(saved, config=tiny_lab.config.to_dict() | changes)
    with pytest.raises(RecordingError, match="is a damaged recording"):
        Recording.load(saved)


def test_any_change_of_a_value_is_found_by_its_digest(saved):
    def flipped(value):
        value.view(torch.int32)[3, 5] ^= 1
        return value

    rewritten(saved, digests=True, tensors={"hook_unembed": flipped})
    with pytest.raises(RecordingError, match="hook_unembed has other values than were saved"):
        Recording.load(saved)


def test_layers_that_changed_places_are_found_by_their_digests(saved):
    with safe_open(saved, framework="pt") as file:
        other = file.get_tensor("blocks.3.mlp.hook_router_logits").clone()
    rewritten(saved, digests=True, tensors={ROUTER: lambda value: other})
    with pytest.raises(RecordingError, match="hook_router_logits has other values"):
        Recording.load(saved)


def without_seal(header, text):
    return {"qwen3lab": text, "digests": header["digests"]}


def without_digests(header, text):
    return {"qwen3lab": text}


def of_format_1(header, text):
    return {**header, "qwen3lab": json.dumps(json.loads(text) | {"format": 1})}


def with_another_token(header, text):
    return {**header, "qwen3lab": text.replace('"3"', '"4"')}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_seal, "its metadata is not what was saved"),
        (without_digests, "its checksums are missing"),
        (of_format_1, "its metadata is not what was saved"),
        (with_another_token, "its metadata is not what was saved"),
    ],
)
def test_metadata_that_changed_or_lost_its_checksum_is_refused(saved, change, reason):
    tensors = load_file(saved)
    with safe_open(saved, framework="pt") as file:
        header = file.metadata()
    changed = change(header, header["qwen3lab"])
    assert changed != header
    save_file(tensors, saved, metadata=changed)
    with pytest.raises(RecordingError, match=reason) as caught:
        Recording.load(saved)
    assert str(saved) in str(caught.value)


@pytest.fixture
def old(tmp_path):
    return shutil.copy(DATA / "format_1.safetensors", tmp_path)


def test_a_recording_of_format_1_is_read(old):
    recording, stored = Recording.load(old), load_file(old)
    assert recording.tokens == ["3", "+", "4", "=?"] and recording.model_name == "small"
    assert torch.equal(recording.token_ids, stored.pop("token_ids"))
    assert recording.activations.keys() == stored.keys()
    assert all(torch.equal(recording.raw(name), stored[name]) for name in stored)


def test_a_change_in_a_recording_of_format_1_is_found_by_its_digest(old):
    content = Path(old).read_bytes()
    Path(old).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RecordingError, match="has other values than were saved"):
        Recording.load(old)


def test_a_recording_of_format_1_without_digests_is_read(old):
    tensors = load_file(old)
    with safe_open(old, framework="pt") as file:
        metadata = json.loads(file.metadata()["qwen3lab"])
    expected = Recording.load(old)
    del metadata["sha256"]
    save_file(tensors, old, metadata={"qwen3lab": json.dumps(metadata)})
    assert Recording.load(old) == expected


def test_recordings_whose_edits_changed_k_are_read(tiny_lab, tmp_path):
    edits = {EXPERTS: lambda value, name: value[..., :2]}
    recording = tiny_lab.record("3+2=?", edits=edits, capture="all")
    recording.save(tmp_path / "run")
    assert Recording.load(tmp_path / "run") == recording


def test_a_file_that_is_cut_after_loading_leaves_the_recording_whole(saved, tiny_lab):
    recording = Recording.load(saved)
    os.truncate(saved, 100)
    assert recording == tiny_lab.record("3+2*7-1=?")


def test_what_is_no_regular_file_is_refused_without_reading_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(RecordingError, match="is not a regular file"):
            Recording.load(path)


def test_an_interrupted_recording_without_any_token_is_read(tmp_path, tiny_lab):
    hooks = {"hook_embed": torch.zeros(0, 128)}
    empty = Recording(torch.tensor([]).long(), [], tiny_lab.config, "tiny", hooks)
    empty.save(tmp_path / "run")
    assert Recording.load(tmp_path / "run") == empty
