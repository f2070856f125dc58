"""Recordings on the disk are those in memory; and they go on where they were broken off."""

import pytest
import torch

from qwen3lab import ondisk
from qwen3lab.checkpoint import load_model, save_checkpoint
from qwen3lab.lab import Lab
from qwen3lab.model import Block, Qwen3
from qwen3lab.recording import Recording
from qwen3lab.streaming import StreamedBlocks
from qwen3lab.views import RecordingError
from tests.reference import small_config

PROMPTS = ["3+4=?", "Ann has the key.", "7"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny_tokenizer):
    """A random model, a dense layer below two with experts, with the embedded models' words."""
    folder = tmp_path_factory.mktemp("weights")
    model = Qwen3(small_config(d_vocab=len(tiny_tokenizer)))
    model.init_weights(torch.Generator().manual_seed(0), std=0.2)
    save_checkpoint(model, folder)
    return folder


@pytest.fixture
def lab(weights, tiny_tokenizer):
    return Lab(load_model(weights), tiny_tokenizer, "small")


def assert_same(found, expected):
    assert [recording.tokens for recording in found] == [r.tokens for r in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.capture == theirs.capture
        assert all(torch.equal(mine.raw(name), theirs.raw(name)) for name in mine.capture)


def test_everything_is_as_in_memory(lab, tmp_path):
    found = lab.record_to_disk(PROMPTS, tmp_path / "run", capture="all")
    expected = lab.record_batch(PROMPTS, capture="all")
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.capture == theirs.capture and mine.tokens == theirs.tokens
        for name in mine.capture:
            torch.testing.assert_close(mine.raw(name), theirs.raw(name))
        torch.testing.assert_close(mine.attention[1, 2], theirs.attention[1, 2])
        assert torch.equal(mine.routing.experts, theirs.routing.experts)
    assert not list(tmp_path.rglob("*.part"))


def test_a_recording_on_the_disk_is_saved_and_loaded_as_any(lab, tmp_path):
    found = lab.record_to_disk(PROMPTS, tmp_path / "run")
    found[1].save(tmp_path / "one.safetensors")
    assert_same([Recording.load(tmp_path / "one.safetensors")], [found[1]])


def test_half_precision_is_half_the_size(lab, tmp_path):
    found = lab.record_to_disk(PROMPTS, tmp_path / "run", dtype="float16")
    for mine, theirs in zip(found, lab.record_batch(PROMPTS, dtype="float16"), strict=True):
        assert mine.tokens == theirs.tokens and mine.capture == theirs.capture
        for name in mine.capture:
            # Logits are made prompt by prompt there: float32's last place may differ, and what
            # lies between two halves may then go either way.
            last_place = 2**-10 if name == "hook_unembed" else 0
            torch.testing.assert_close(
                mine.raw(name), theirs.raw(name), rtol=last_place, atol=last_place / 16
            )
    lab.record_to_disk(PROMPTS, tmp_path / "whole")
    halves, wholes = (
        sum(file.stat().st_size for file in (tmp_path / run).glob("layer-*"))
        for run in ("run", "whole")
    )
    assert halves < 0.7 * wholes


def broken_off(lab, folder, monkeypatch, *, after):
    """Interrupt the run before a layer; gives the layers that ran."""
    honest, ran = Block.forward, []

    def forward(self, *arguments):
        if len(ran) == after:
            raise KeyboardInterrupt
        ran.append(self.name)
        return honest(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Block, "forward", forward)
        if after < 3:
            with pytest.raises(KeyboardInterrupt):
                lab.record_to_disk(PROMPTS, folder, progress=False)
        else:
            lab.record_to_disk(PROMPTS, folder, progress=False)
    return ran


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupt_costs_nothing_that_was_done(lab, tmp_path, monkeypatch, after):
    assert len(broken_off(lab, tmp_path / "run", monkeypatch, after=after)) == after
    rest = broken_off(lab, tmp_path / "run", monkeypatch, after=3 - after + 99)
    assert rest == [f"blocks.{layer}" for layer in range(after, 3)]
    found = lab.record_to_disk(PROMPTS, tmp_path / "run")
    assert_same(found, lab.record_to_disk(PROMPTS, tmp_path / "other"))


def test_a_complete_one_is_opened_and_not_run_again(lab, tmp_path, monkeypatch):
    lab.record_to_disk(PROMPTS, tmp_path / "run")
    assert broken_off(lab, tmp_path / "run", monkeypatch, after=99) == []


def test_an_interrupt_while_logits_are_written_is_gone_on_from(lab, tmp_path, monkeypatch):
    honest = ondisk._save

    def failing(path, tensors, **about):
        if path.name == "logits-00001.safetensors":
            raise KeyboardInterrupt
        honest(path, tensors, **about)

    with monkeypatch.context() as patched:
        patched.setattr(ondisk, "_save", failing)
        with pytest.raises(KeyboardInterrupt):
            lab.record_to_disk(PROMPTS, tmp_path / "run")
    found = lab.record_to_disk(PROMPTS, tmp_path / "run")
    assert_same(found, lab.record_to_disk(PROMPTS, tmp_path / "other"))


def test_a_streamed_model_goes_on_at_the_layer_where_it_stood(
    weights, tiny_tokenizer, tmp_path, monkeypatch
):
    lab = Lab(load_model(weights, memory="1GB"), tiny_tokenizer, "streamed")
    assert isinstance(lab.model.blocks, StreamedBlocks)
    broken_off(lab, tmp_path / "run", monkeypatch, after=2)
    again = Lab(load_model(weights, memory="1GB"), tiny_tokenizer, "streamed")
    found = again.record_to_disk(PROMPTS, tmp_path / "run")
    last = sum(p.numel() for p in load_model(weights).blocks[2].parameters())
    assert again.model.blocks.shelf.bytes_read <= 4 * last, "the last layer alone"
    assert_same(found, lab.record_to_disk(PROMPTS, tmp_path / "other"))


def test_another_job_or_foreign_files_are_refused(lab, tmp_path):
    lab.record_to_disk(PROMPTS, tmp_path / "run")
    for options in ({"dtype": "float16"}, {"capture": "hook_embed"}):
        with pytest.raises(RecordingError, match="holds a recording of other prompts, hooks or"):
            lab.record_to_disk(PROMPTS, tmp_path / "run", **options)
    with pytest.raises(RecordingError, match="other prompts"):
        lab.record_to_disk(PROMPTS[:1], tmp_path / "run")
    with pytest.raises(RecordingError, match="another model"):
        Lab(lab.model, lab.tokenizer, "a twin").record_to_disk(PROMPTS, tmp_path / "run")
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RecordingError, match="is not empty, and what it holds is no recording"):
        lab.record_to_disk(PROMPTS, tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_what_the_files_take_is_known_before(lab, tmp_path, monkeypatch):
    rows = [lab.token_ids(prompt) for prompt in PROMPTS]
    found = lab.record_to_disk(PROMPTS, tmp_path / "run", capture="all")
    job = ondisk.Job(tmp_path, rows, found[0].capture, None, "small")
    needed = ondisk.n_bytes(lab.config, job, torch.float32)
    taken = sum(path.stat().st_size for path in (tmp_path / "run").glob("*.safetensors"))
    header = 8_000  # Names and shapes of some seventy tensors.
    assert needed <= taken <= needed + header
    monkeypatch.setattr(ondisk.shutil, "disk_usage", lambda path: Disk(free=needed // 2))
    with pytest.raises(RecordingError, match=r"takes 0\.0 GB, and the disk of .* has room for"):
        lab.record_to_disk(PROMPTS, tmp_path / "more", capture="all")
    assert not (tmp_path / "more").exists()


class Disk:
    def __init__(self, free):
        self.free = free


def test_a_file_that_is_gone_is_said(lab, tmp_path):
    found = lab.record_to_disk(PROMPTS, tmp_path / "run")
    (tmp_path / "run" / "layer-001.safetensors").unlink()
    with pytest.raises(RecordingError, match=r"cannot be read from .*layer-001"):
        found[0].raw("blocks.1.attn.hook_rot_q")


def test_no_prompts_are_no_recordings(lab, tmp_path):
    assert lab.record_to_disk([], tmp_path / "run") == []
    assert not (tmp_path / "run").exists()
