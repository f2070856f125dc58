"""Damaged files of recordings: each gives the values that were saved, or a refusal."""

import json
import struct
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

from qwen3lab.recording.recording import Recording
from qwen3lab.storage.checked_tensors import save_checked
from tests.fuzz.cases import fuzz, refusable
from tests.fuzz.mutations import byte_mutations, json_mutations

CAPTURE = ["hook_embed", "hook_unembed", "blocks.0.mlp.*", "blocks.2.attn.hook_rot_*"]


@dataclass
class Saved:
    """A recording, and its file in parts: header, metadata and tensors."""

    recording: Recording
    content: bytes
    header: dict[str, Any]
    metadata: dict[str, Any]
    body: bytes

    def with_header(self, header: Any) -> bytes:
        """The file with another header, whose length is right."""
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + self.body

    def with_metadata(self, metadata: Any) -> bytes:
        """The file with other metadata of the recording."""
        about = self.header["__metadata__"] | {"qwen3lab": json.dumps(metadata)}
        return self.with_header(self.header | {"__metadata__": about})


@pytest.fixture(scope="module")
def saved(tiny_lab, tmp_path_factory) -> Saved:
    path = tmp_path_factory.mktemp("saved") / "run"
    recording = tiny_lab.chat("3+4=?", budget=2, record=CAPTURE).recording
    assert recording.spans and recording.routing.layers
    recording.save(path)
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    metadata = json.loads(header["__metadata__"]["qwen3lab"])
    return Saved(recording, content, header, metadata, content[8 + length :])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "run.safetensors"


def exposed(recording: Recording) -> dict[str, Any]:
    """What a recording shows, bit for bit."""
    tensors = {name: recording.raw(name) for name in recording.capture}
    tensors |= {"token_ids": recording.token_ids}
    return {
        "tokens": recording.tokens,
        "spans": dict(recording.spans),
        "model": recording.model_name,
        "config": recording.config,
        "tensors": {n: (t.dtype, t.shape, bits(t)) for n, t in tensors.items()},
    }


def bits(value: torch.Tensor) -> bytes:
    return value.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def check(path, content: bytes, saved: Saved) -> None:
    path.write_bytes(content)
    with refusable() as outcome:
        outcome.value = Recording.load(path)
    if outcome.refusal is None:
        assert exposed(outcome.value) == exposed(saved.recording)
    else:
        assert str(path) in outcome.refusal


@fuzz("recordings", 0.25)
@given(change=byte_mutations())
def test_a_file_with_damaged_bytes_gives_what_was_saved_or_a_refusal(saved, path, change):
    check(path, change(saved.content), saved)


@fuzz("recordings", 0.2)
@given(change=byte_mutations(head=0.3))
def test_a_file_with_a_damaged_header_gives_what_was_saved_or_a_refusal(saved, path, change):
    check(path, change(saved.content), saved)


@fuzz("recordings", 0.2)
@given(data=st.data())
def test_a_header_with_changed_fields_gives_what_was_saved_or_a_refusal(saved, path, data):
    check(path, saved.with_header(data.draw(json_mutations(saved.header))), saved)


@fuzz("recordings", 0.15)
@given(data=st.data())
def test_metadata_with_changed_fields_gives_what_was_saved_or_a_refusal(saved, path, data):
    check(path, saved.with_metadata(data.draw(json_mutations(saved.metadata))), saved)


@pytest.mark.filterwarnings("ignore:the config in .* has fields that are used neither")
@fuzz("recordings", 0.2)
@given(data=st.data())
def test_changed_metadata_with_checksums_that_fit_is_refused_or_can_be_used(saved, path, data):
    tensors = {name: saved.recording.raw(name).contiguous() for name in saved.recording.capture}
    tensors |= {"token_ids": saved.recording.token_ids}
    metadata = json.dumps(data.draw(json_mutations(saved.metadata)))
    save_checked(tensors, path, {"qwen3lab": metadata})
    with refusable() as outcome:
        outcome.value = Recording.load(path)
    if outcome.refusal is not None:
        assert str(path) in outcome.refusal
        return
    found = outcome.value
    assert len(found) == len(saved.recording) and found.logits.equal(saved.recording.logits)
    assert found.routing.layer(0).experts.equal(saved.recording.routing.layer(0).experts)
    assert found.attention[2, 0].shape == (len(found), len(found))
    assert repr(found) and found._repr_html_() and found.to_xarray()
    for start, end in found.spans.values():
        assert 0 <= start <= end <= len(found)
