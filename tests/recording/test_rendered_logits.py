"""Recordings of a model with a large vocabulary: logits are computed where they are read."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from qwen3lab.errors import RecordingError
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from qwen3lab.recording.recording import Recording
from qwen3lab.recording.rendered_logits import (
    ROWS_AT_ONCE,
    RenderedLogits,
    keeps_logits,
    stream_hook,
)
from tests.reference import small_config

STREAM = "blocks.2.hook_resid_post"
IDS = [5, 7, 1, 1, 900, 3, 4200, 5]


def large_vocabulary(dtype=torch.float32, **changes):
    config = small_config(d_vocab=4500, **changes)
    model = Qwen3(config, dtype=dtype)
    model.init_weights(torch.Generator().manual_seed(3), std=0.3)
    return model


@pytest.fixture(scope="module")
def lab(tiny_lab):
    model = large_vocabulary()
    assert not keeps_logits(model.config) and stream_hook(model.config) == STREAM
    return Lab(model, tiny_lab.tokenizer, "large vocabulary")


@pytest.fixture(scope="module")
def rec(lab):
    return lab.record(IDS)


@pytest.fixture(scope="module")
def true(lab):
    with torch.no_grad():
        return lab.model(torch.tensor([IDS]))[0]


def test_the_stream_is_kept_in_place_of_the_logits(rec):
    assert "hook_unembed" not in rec.capture and STREAM in rec.capture
    assert isinstance(rec.logits, RenderedLogits)
    assert rec.logits.shape == (len(IDS), 4500)


def test_a_small_vocabulary_keeps_its_logits(tiny_lab):
    rec = tiny_lab.record("3+4=?")
    assert "hook_unembed" in rec.capture and type(rec.logits) is torch.Tensor


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x[2],
        lambda x: x[-1],
        lambda x: x[1:3],
        lambda x: x[::2],
        lambda x: x[[0, 2, 2]],
        lambda x: x[torch.arange(len(x)) % 2 == 0],
        lambda x: x[1, 5],
        lambda x: x[:, 5],
        lambda x: x[..., 3],
        lambda x: x.index_select(0, torch.tensor([3, 1])),
        lambda x: torch.stack(list(x)),
        lambda x: x.argmax(dim=-1),
        lambda x: x.log_softmax(dim=-1),
        lambda x: x - 1.0,
        lambda x: 1.0 - x,
        lambda x: x.T @ x,
        lambda x: x.topk(3).values,
        lambda x: x.double(),
        lambda x: torch.tensor(x.numpy()),
        lambda x: torch.tensor(x.tolist()),
        lambda x: F.cross_entropy(x[:-1], torch.tensor(IDS[1:])),
        copy.deepcopy,
        lambda x: pickle.loads(pickle.dumps(x)),
    ],
)
def test_rendered_logits_read_like_the_models_own(rec, true, read):
    torch.testing.assert_close(read(rec.logits), read(true), rtol=1e-5, atol=1e-5)


def test_only_the_positions_that_are_read_are_computed(rec, monkeypatch):
    sizes = []
    head = type(rec.head).logits
    monkeypatch.setattr(type(rec.head), "logits", lambda s, x: sizes.append(len(x)) or head(s, x))
    rec.logits[5], rec.logits[2:4], rec.logits[[1, 2, 3]]
    assert sizes == [1, 2, 3]


def test_many_positions_are_computed_some_at_a_time(lab, monkeypatch):
    ids = [7] * (ROWS_AT_ONCE + 9)
    rec, sizes = lab.record(ids), []
    head = type(rec.head).logits
    monkeypatch.setattr(type(rec.head), "logits", lambda s, x: sizes.append(len(x)) or head(s, x))
    with torch.no_grad():
        expected = lab.model(torch.tensor([ids]))[0].log_softmax(dim=-1)
    found = rec.logprobs()
    torch.testing.assert_close(found, expected[:-1, 7], rtol=1e-5, atol=1e-5)
    assert max(sizes) <= ROWS_AT_ONCE
    assert rec.top(1).token_ids[:, 0].tolist() == expected.argmax(dim=-1).tolist()


def test_log_probabilities_and_top_tokens_are_those_of_the_logits(rec, true):
    logprobs = true.log_softmax(dim=-1)
    expected = logprobs[:-1].gather(1, torch.tensor(IDS[1:])[:, None])[:, 0]
    torch.testing.assert_close(rec.logprobs(), expected, rtol=1e-5, atol=1e-5)
    top = rec.top(4)
    torch.testing.assert_close(top.logprobs, logprobs.topk(4).values, rtol=1e-5, atol=1e-5)
    assert torch.equal(top.token_ids, logprobs.topk(4).indices)
    with pytest.raises(ValueError, match="k is 4501, and the vocabulary has 4500 tokens"):
        rec.top(4501)


def test_one_token_has_no_log_probability(lab):
    assert lab.record([4]).logprobs().shape == (0,)


def test_prompts_of_unequal_length_have_the_logits_of_each_alone(lab):
    for found, ids in zip(lab.record_batch([IDS, IDS[:3]]), [IDS, IDS[:3]], strict=True):
        alone = lab.record(ids)
        torch.testing.assert_close(found.logits[:], alone.logits[:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_renders_as_the_model_computes(tiny_lab, dtype):
    model = large_vocabulary(dtype)
    rec = Lab(model, tiny_lab.tokenizer, "half").record(IDS)
    with torch.no_grad():
        expected = model(torch.tensor([IDS]))[0].float()
    torch.testing.assert_close(rec.logits[:], expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


def test_a_smaller_dtype_of_the_recording_does_not_round_the_logits(lab, true):
    rec = lab.record(IDS, dtype="bfloat16", capture="blocks.0.hook_resid_post")
    assert rec.raw("blocks.0.hook_resid_post").dtype == torch.bfloat16
    torch.testing.assert_close(rec.logits[:], true, rtol=1e-5, atol=1e-5)


def test_edits_before_the_stream_reach_the_logits(lab, true):
    edited = lab.record(IDS, edits={STREAM: lambda x, name: x * 0})
    assert "hook_unembed" not in edited.capture
    assert float(edited.logits[:].abs().max()) == 0.0
    assert float(true.abs().max()) > 0.1


@pytest.mark.parametrize("hook", ["hook_unembed", "ln_final.hook_normalized"])
def test_edits_after_the_stream_keep_the_edited_logits(lab, hook):
    edited = lab.record(IDS, edits={hook: lambda x, name: x * 0})
    assert "hook_unembed" in edited.capture
    assert float(edited.logits.abs().max()) == 0.0


def test_logits_that_are_asked_for_are_recorded(lab, true):
    rec = lab.record(IDS, capture="hook_unembed")
    assert type(rec.logits) is torch.Tensor
    torch.testing.assert_close(rec.logits, true, rtol=1e-5, atol=1e-5)


def test_a_saved_recording_renders_with_the_lab_that_made_it(lab, rec, true, tmp_path):
    rec.save(tmp_path / "r")
    alone = Recording.load(tmp_path / "r")
    assert alone == rec
    with pytest.raises(RecordingError, match=r"load it with Recording.load\(path, lab=lab\)"):
        _ = alone.logits
    again = Recording.load(tmp_path / "r", lab=lab)
    torch.testing.assert_close(again.logits[:], true, rtol=1e-5, atol=1e-5)


def test_a_lab_of_other_weights_is_refused(lab, rec, tiny_lab, tmp_path):
    rec.save(tmp_path / "r")
    other = large_vocabulary()
    with torch.no_grad():
        other.unembedding[17, 3] += 1e-3
    with pytest.raises(RecordingError, match="another final norm or unembedding"):
        Recording.load(tmp_path / "r", lab=Lab(other, tiny_lab.tokenizer, "other"))


def test_a_file_with_its_logits_needs_no_model(rec, true, tmp_path):
    rec.save(tmp_path / "r", logits=True)
    alone = Recording.load(tmp_path / "r")
    torch.testing.assert_close(alone.logits, true, rtol=1e-5, atol=1e-5)


def test_a_recording_on_disk_keeps_the_stream(lab, true, tmp_path):
    [rec] = lab.record_to_disk([IDS], tmp_path / "run", progress=False)
    assert not list((tmp_path / "run").glob("logits*"))
    torch.testing.assert_close(rec.logits[:], true, rtol=1e-5, atol=1e-5)


def test_a_pickled_recording_leaves_the_models_weights_out(rec):
    again = pickle.loads(pickle.dumps(rec))
    assert again == rec and again.head is None
    assert copy.deepcopy(rec).head is rec.head


def test_a_recording_with_other_texts_keeps_its_logits(rec, true):
    renamed = replace(rec, tokens=["x"] * len(rec))
    torch.testing.assert_close(renamed.logits[3], true[3], rtol=1e-5, atol=1e-5)
