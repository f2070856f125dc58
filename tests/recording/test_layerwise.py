"""Recordings on disk equal those in memory, and resume after an interrupt."""

import os
import resource
from contextlib import contextmanager

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.errors import RecordingError
from qwen3lab.lab import Lab
from qwen3lab.loading import load_model
from qwen3lab.model.transformer import Block, Qwen3
from qwen3lab.quantisation.quantised_model import quantise
from qwen3lab.recording import layerwise
from qwen3lab.recording.recording import Recording
from qwen3lab.storage import atomic_files
from qwen3lab.storage.checked_tensors import open_tensors, save_checked
from qwen3lab.storage.tensor_files import Files
from qwen3lab.streaming.streamed_model import StreamedBlocks
from tests.reference import small_config

FILE = ".safetensors"
PROMPTS = ["3+4=?", "Ann has the key.", "7"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny_tokenizer):
    """A random model with a dense and two MoE layers, and the embedded models' vocabulary."""
    folder = tmp_path_factory.mktemp("weights")
    model = Qwen3(small_config(d_vocab=len(tiny_tokenizer)))
    model.init_weights(torch.Generator().manual_seed(0), std=0.2)
    save_checkpoint(model, folder)
    return folder


@pytest.fixture
def lab(weights, tiny_tokenizer):
    return Lab(load_model(weights), tiny_tokenizer, "small")


def assert_same(recordings, expected):
    assert [recording.tokens for recording in recordings] == [r.tokens for r in expected]
    for mine, theirs in zip(recordings, expected, strict=True):
        assert mine.capture == theirs.capture
        assert all(torch.equal(mine.raw(name), theirs.raw(name)) for name in mine.capture)


def test_a_recording_on_disk_equals_one_in_memory(lab, tmp_path):
    recordings = lab.record_to_disk(PROMPTS, tmp_path / "run", capture="all")
    expected = lab.record_batch(PROMPTS, capture="all")
    for mine, theirs in zip(recordings, expected, strict=True):
        assert mine.capture == theirs.capture and mine.tokens == theirs.tokens
        for name in mine.capture:
            torch.testing.assert_close(mine.raw(name), theirs.raw(name))
        torch.testing.assert_close(mine.attention[1, 2], theirs.attention[1, 2])
        assert torch.equal(mine.routing.experts, theirs.routing.experts)
    assert not list(tmp_path.rglob("*.part"))


def test_a_recording_on_disk_can_be_saved_and_loaded(lab, tmp_path):
    recordings = lab.record_to_disk(PROMPTS, tmp_path / "run")
    recordings[1].save(tmp_path / "one.safetensors")
    assert_same([Recording.load(tmp_path / "one.safetensors")], [recordings[1]])


def test_a_recording_in_half_precision_is_about_half_the_size(lab, tmp_path):
    recordings = lab.record_to_disk(PROMPTS, tmp_path / "run", dtype="float16")
    for mine, theirs in zip(recordings, lab.record_batch(PROMPTS, dtype="float16"), strict=True):
        assert mine.tokens == theirs.tokens and mine.capture == theirs.capture
        for name in mine.capture:
            # On disk, logits are computed prompt by prompt: float32 may differ in the last place,
            # and a value between two float16 numbers may then round to either.
            last_place = 2**-10 if name == "hook_unembed" else 0
            torch.testing.assert_close(
                mine.raw(name), theirs.raw(name), rtol=last_place, atol=last_place / 16
            )
    lab.record_to_disk(PROMPTS, tmp_path / "full")
    half_size, full_size = (
        sum(file.stat().st_size for file in (tmp_path / run).glob("layer-*"))
        for run in ("run", "full")
    )
    assert half_size < 0.7 * full_size


def interrupted_run(lab, folder, monkeypatch, *, after):
    """Interrupt the run after some layers; returns the layers that ran."""
    original, ran = Block.forward, []

    def forward(self, *arguments):
        if len(ran) == after:
            raise KeyboardInterrupt
        ran.append(self.name)
        return original(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Block, "forward", forward)
        if after < 3:
            with pytest.raises(KeyboardInterrupt):
                lab.record_to_disk(PROMPTS, folder, progress=False)
        else:
            lab.record_to_disk(PROMPTS, folder, progress=False)
    return ran


@pytest.mark.parametrize("after", [0, 1, 2])
def test_layers_done_before_an_interrupt_are_not_run_again(lab, tmp_path, monkeypatch, after):
    assert len(interrupted_run(lab, tmp_path / "run", monkeypatch, after=after)) == after
    remaining = interrupted_run(lab, tmp_path / "run", monkeypatch, after=3 - after + 99)
    assert remaining == [f"blocks.{layer}" for layer in range(after, 3)]
    recordings = lab.record_to_disk(PROMPTS, tmp_path / "run")
    assert_same(recordings, lab.record_to_disk(PROMPTS, tmp_path / "other"))


def test_a_complete_recording_is_opened_and_not_run_again(lab, tmp_path, monkeypatch):
    lab.record_to_disk(PROMPTS, tmp_path / "run")
    assert interrupted_run(lab, tmp_path / "run", monkeypatch, after=99) == []
    (tmp_path / "run" / "stream.safetensors").unlink()  # Not needed any more.
    assert interrupted_run(lab, tmp_path / "run", monkeypatch, after=99) == []


def test_a_recording_resumes_after_an_interrupt_while_logits_are_written(
    lab, tmp_path, monkeypatch
):
    original = Files.save

    def failing(self, name, tensors, **about):
        if name == "logits-00001.safetensors":
            raise KeyboardInterrupt
        original(self, name, tensors, **about)

    with monkeypatch.context() as patched:
        patched.setattr(Files, "save", failing)
        with pytest.raises(KeyboardInterrupt):
            lab.record_to_disk(PROMPTS, tmp_path / "run")
    recordings = lab.record_to_disk(PROMPTS, tmp_path / "run")
    assert_same(recordings, lab.record_to_disk(PROMPTS, tmp_path / "other"))


def test_a_streamed_model_resumes_at_the_interrupted_layer(
    weights, tiny_tokenizer, tmp_path, monkeypatch
):
    lab = Lab(load_model(weights, memory="1GB"), tiny_tokenizer, "streamed")
    assert isinstance(lab.model.blocks, StreamedBlocks)
    interrupted_run(lab, tmp_path / "run", monkeypatch, after=2)
    again = Lab(load_model(weights, memory="1GB"), tiny_tokenizer, "streamed")
    recordings = again.record_to_disk(PROMPTS, tmp_path / "run")
    last_layer = sum(p.numel() for p in load_model(weights).blocks[2].parameters())
    assert again.model.blocks.weight_cache.bytes_read <= 4 * last_layer, "only the last layer"
    assert_same(recordings, lab.record_to_disk(PROMPTS, tmp_path / "other"))


def test_a_folder_with_another_job_or_other_files_is_refused(lab, tmp_path):
    lab.record_to_disk(PROMPTS, tmp_path / "run")
    for options in ({"dtype": "float16"}, {"capture": "hook_embed"}):
        with pytest.raises(RecordingError, match="has a recording of other prompts, hooks or"):
            lab.record_to_disk(PROMPTS, tmp_path / "run", **options)
    with pytest.raises(RecordingError, match="other prompts"):
        lab.record_to_disk(PROMPTS[:1], tmp_path / "run")
    with pytest.raises(RecordingError, match="another model"):
        Lab(lab.model, lab.tokenizer, "a twin").record_to_disk(PROMPTS, tmp_path / "run")
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RecordingError, match="is not empty, and has no recording"):
        lab.record_to_disk(PROMPTS, tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_the_size_of_the_files_is_known_before_the_run(lab, tmp_path, monkeypatch):
    rows = [lab.token_ids(prompt) for prompt in PROMPTS]
    recordings = lab.record_to_disk(PROMPTS, tmp_path / "run", capture="all")
    job = layerwise.Job(tmp_path, rows, recordings[0].capture, None, "small")
    needed = layerwise.n_bytes(lab.config, job, torch.float32)
    written = sum(path.stat().st_size for path in (tmp_path / "run").glob("*.safetensors"))
    headers = 16_000  # Names, twice, and shapes of about seventy tensors.
    assert needed <= written <= needed + headers
    monkeypatch.setattr(layerwise.shutil, "disk_usage", lambda path: Disk(free=needed // 2))
    with pytest.raises(RecordingError, match=r"needs 0\.0 GB, and the disk of .* has .* free"):
        lab.record_to_disk(PROMPTS, tmp_path / "more", capture="all")
    assert not (tmp_path / "more").exists()


class Disk:
    def __init__(self, free):
        self.free = free


def test_a_missing_file_is_reported_on_access(lab, tmp_path):
    recordings = lab.record_to_disk(PROMPTS, tmp_path / "run")
    (tmp_path / "run" / "layer-001.safetensors").unlink()
    with pytest.raises(RecordingError, match=r"cannot be read from .*layer-001"):
        recordings[0].raw("blocks.1.attn.hook_rot_q")


def test_no_prompts_give_no_recordings_and_no_folder(lab, tmp_path):
    assert lab.record_to_disk([], tmp_path / "run") == []
    assert not (tmp_path / "run").exists()


def other_weights(folder, tokenizer, seed=1):
    model = Qwen3(small_config(d_vocab=len(tokenizer)))
    model.init_weights(torch.Generator().manual_seed(seed), std=0.2)
    save_checkpoint(model, folder)


def test_quantised_and_unquantised_models_have_different_jobs(weights, tiny_tokenizer, tmp_path):
    pytest.importorskip("torchao")
    models = [load_model(weights, dtype="bfloat16") for _ in range(3)]
    quantise(models[1], "int8")
    quantise(models[2], "int8", blocks=[0])
    exact, quantised, partly = (Lab(model, tiny_tokenizer, "small") for model in models)
    exact.record_to_disk(PROMPTS, tmp_path / "exact")
    quantised.record_to_disk(PROMPTS, tmp_path / "quantised")
    for lab, folder in ((quantised, "exact"), (exact, "quantised")):
        with pytest.raises(RecordingError, match=r"different: quantisation, weights\)"):
            lab.record_to_disk(PROMPTS, tmp_path / folder)
    with pytest.raises(RecordingError, match=r"different: weights\)"):
        partly.record_to_disk(PROMPTS, tmp_path / "quantised")


@pytest.mark.parametrize("after", [1, 99])
def test_a_model_with_a_changed_weight_is_another_model(lab, tmp_path, monkeypatch, after):
    interrupted_run(lab, tmp_path / "run", monkeypatch, after=after)
    with torch.no_grad():
        lab.model.blocks[1].mlp.down[0, 3, 5] += 1e-3
    with pytest.raises(RecordingError, match=r"another model \(different: weights\)"):
        lab.record_to_disk(PROMPTS, tmp_path / "run")


@pytest.mark.parametrize("memory", [None, "1GB"])
def test_a_checkpoint_with_new_weights_is_another_model(tiny_tokenizer, tmp_path, memory):
    for run in range(2):
        other_weights(tmp_path / "weights", tiny_tokenizer)
        if run == 1 and memory is None:
            other_weights(tmp_path / "weights", tiny_tokenizer, seed=2)
        lab = Lab(load_model(tmp_path / "weights", memory=memory), tiny_tokenizer, "small")
        if run == 0:
            lab.record_to_disk(PROMPTS, tmp_path / "run")
    with pytest.raises(RecordingError, match=r"different: weights\)"):
        lab.record_to_disk(PROMPTS, tmp_path / "run")


def damage(path, how, other):
    """Delete, cut or replace a file; `other` is the folder of another recording."""
    if how == "missing":
        path.unlink()
    elif how == "cut":
        os.truncate(path, path.stat().st_size - 4)
    elif how == "foreign":
        path.write_bytes((other / path.name).read_bytes())
    else:
        path.write_bytes(path.with_name(how.removeprefix("that of ") + FILE).read_bytes())


@pytest.mark.parametrize("how", ["missing", "cut", "foreign", "that of layer-001"])
def test_all_layers_are_recorded_again_if_the_file_of_one_is_damaged(
    lab, tmp_path, monkeypatch, how
):
    other = [prompt[::-1] for prompt in PROMPTS]
    lab.record_to_disk(other, tmp_path / "other")
    expected = lab.record_to_disk(PROMPTS, tmp_path / "expected")
    for after in (2, 99):
        folder = tmp_path / f"run-{after}"
        interrupted_run(lab, folder, monkeypatch, after=after)
        damage(folder / "layer-000.safetensors", how, tmp_path / "other")
        assert len(interrupted_run(lab, folder, monkeypatch, after=99)) == 3
        assert_same(lab.record_to_disk(PROMPTS, folder), expected)
        assert interrupted_run(lab, folder, monkeypatch, after=99) == []


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("embed", "missing"),
        ("embed", "foreign"),
        ("logits-00001", "cut"),
        ("logits-00001", "that of logits-00000"),
        ("outer", "missing"),
        ("outer", "foreign"),
    ],
)
def test_a_damaged_file_outside_of_the_layers_is_written_again_without_running_them(
    lab, tmp_path, monkeypatch, name, how
):
    capture = ["hook_embed", "ln_final.hook_normalized"]
    lab.record_to_disk([prompt[::-1] for prompt in PROMPTS], tmp_path / "other", capture=capture)
    expected = lab.record_batch(PROMPTS, capture=capture)
    lab.record_to_disk(PROMPTS, tmp_path / "run", capture=capture)
    damage(tmp_path / "run" / f"{name}.safetensors", how, tmp_path / "other")
    monkeypatch.setattr(Block, "forward", None)
    recordings = lab.record_to_disk(PROMPTS, tmp_path / "run", capture=capture)
    for mine, theirs in zip(recordings, expected, strict=True):
        for hook in (*capture, "hook_unembed"):
            torch.testing.assert_close(mine.raw(hook), theirs.raw(hook))


def test_a_file_is_flushed_to_disk_before_it_is_renamed(lab, tmp_path, monkeypatch):
    flushed, original = [], atomic_files._flush

    def checked_flush(path, flags):
        # Every file with its final name has been flushed.
        final = {file.name for file in (tmp_path / "run").iterdir() if file.suffix != ".part"}
        assert final <= set(flushed)
        flushed.append(path.name.removesuffix(".part"))
        original(path, flags)

    monkeypatch.setattr(atomic_files, "_flush", checked_flush)
    lab.record_to_disk(PROMPTS, tmp_path / "run")
    assert {file.name for file in (tmp_path / "run").iterdir()} == set(flushed) - {"run"}
    assert flushed[1::2] == ["run"] * (len(flushed) // 2), "the folder after every file"


def test_leftover_partial_files_do_not_block_a_recording(lab, tmp_path):
    for name in ("plan.json.part", "plan.part", ".tmpAb12cd"):
        (tmp_path / name).write_text('{"form')
    assert len(lab.record_to_disk(PROMPTS, tmp_path)) == 3


def test_the_check_of_free_space_counts_only_missing_files(lab, tmp_path, monkeypatch):
    interrupted_run(lab, tmp_path / "run", monkeypatch, after=2)
    written = sum(path.stat().st_size for path in (tmp_path / "run").glob("*.safetensors"))
    rows = [lab.token_ids(prompt) for prompt in PROMPTS]
    names = lab.record_batch(PROMPTS)[0].capture
    job = layerwise.Job(tmp_path, rows, names, None, "small")
    missing = layerwise.n_bytes(lab.config, job, torch.float32) - written
    disk = Disk(free=missing - 1)
    monkeypatch.setattr(layerwise.shutil, "disk_usage", lambda path: disk)
    with pytest.raises(RecordingError, match=r"the rest of the recording needs .* has .* free"):
        lab.record_to_disk(PROMPTS, tmp_path / "run")
    disk.free = int(missing * 1.06)
    recordings = lab.record_to_disk(PROMPTS, tmp_path / "run")
    disk.free = 0
    assert_same(lab.record_to_disk(PROMPTS, tmp_path / "run"), recordings)


@contextmanager
def max_file_size(n_bytes):
    """Make the system refuse larger files, to emulate a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("n_bytes", "n_files"), [(100, 0), (5_000, 2), (9_200, 6)])
def test_a_full_disk_is_reported_and_the_recording_can_be_resumed(lab, tmp_path, n_bytes, n_files):
    with (
        max_file_size(n_bytes),
        pytest.raises(RecordingError, match=r"cannot be written .* the disk has room"),
    ):
        lab.record_to_disk(PROMPTS, tmp_path / "run", progress=False)
    # Plan and embedding, or also layers and stream; no partial files.
    complete = [path for path in (tmp_path / "run").iterdir() if path.suffix in (".json", FILE)]
    assert len(list((tmp_path / "run").iterdir())) == len(complete) == n_files
    recordings = lab.record_to_disk(PROMPTS, tmp_path / "run")
    assert_same(recordings, lab.record_to_disk(PROMPTS, tmp_path / "other"))


@pytest.mark.parametrize("text", ["", '{"format": 2, "mod', "7", "\udcff", "[" * 100_000])
def test_a_damaged_plan_is_refused(lab, tmp_path, text):
    lab.record_to_disk(PROMPTS, tmp_path / "run")
    (tmp_path / "run" / "plan.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RecordingError, match=r"plan\.json is damaged .* remove .* to start again"):
        lab.record_to_disk(PROMPTS, tmp_path / "run")


def test_a_path_that_is_a_file_or_inside_of_one_is_refused(lab, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RecordingError, match="is a file: give the name of a folder"):
        lab.record_to_disk(PROMPTS, tmp_path / "letter.txt")
    with pytest.raises(RecordingError, match=r"letter\.txt/run/plan\.json cannot be written"):
        lab.record_to_disk(PROMPTS, tmp_path / "letter.txt" / "run")
    assert (tmp_path / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("changes", "shape", "reason"),
    [
        ({"layers": "0"}, None, "after 0 of 3 layers"),
        ({"layers": "-1"}, None, "after -1 of 3 layers"),
        ({"layers": "4"}, None, "after 4 of 3 layers"),
        ({"layers": "two"}, None, "invalid literal"),
        ({"job": "another"}, None, "a file of another recording"),
        ({}, (1, 5, 7), "does not hold one tensor of shape"),
    ],
)
@pytest.mark.parametrize("checksums", ["that fit", "of before"])
def test_a_residual_stream_of_another_recording_is_refused(
    lab, tmp_path, monkeypatch, changes, shape, reason, checksums
):
    interrupted_run(lab, tmp_path / "run", monkeypatch, after=2)
    path = tmp_path / "run" / "stream.safetensors"
    with open_tensors(path) as file:
        about, resid = file.metadata, file.read("resid", by_row=True)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    tensors = {"resid": torch.zeros(shape) if shape else resid}
    if checksums == "that fit":
        save_checked(tensors, path, about | changes, by_row=True)
    else:
        save_file(tensors, path, metadata=header | changes)
        reason = "its metadata is not what was saved" if changes else reason
    match = f"is not the residual stream of this recording .*{reason}"
    with pytest.raises(RecordingError, match=match):
        lab.record_to_disk(PROMPTS, tmp_path / "run")
