"""Recordings on the disk are those in memory; and they go on where they were broken off."""

import os
import resource
from contextlib import contextmanager

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.errors import RecordingError
from qwen3lab.lab import Lab
from qwen3lab.loading import load_model
from qwen3lab.model.transformer import Block, Qwen3
from qwen3lab.quantisation.quantised_model import quantise
from qwen3lab.recording import layerwise
from qwen3lab.recording.recording import Recording
from qwen3lab.storage import atomic_files
from qwen3lab.storage.tensor_files import Files
from qwen3lab.streaming.streamed_model import StreamedBlocks
from tests.reference import small_config

FILE = ".safetensors"
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
    (tmp_path / "run" / "stream.safetensors").unlink()  # Of no use any more.
    assert broken_off(lab, tmp_path / "run", monkeypatch, after=99) == []


def test_an_interrupt_while_logits_are_written_is_gone_on_from(lab, tmp_path, monkeypatch):
    honest = Files.save

    def failing(self, name, tensors, **about):
        if name == "logits-00001.safetensors":
            raise KeyboardInterrupt
        honest(self, name, tensors, **about)

    with monkeypatch.context() as patched:
        patched.setattr(Files, "save", failing)
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
    assert again.model.blocks.weight_cache.bytes_read <= 4 * last, "the last layer alone"
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
    job = layerwise.Job(tmp_path, rows, found[0].capture, None, "small")
    needed = layerwise.n_bytes(lab.config, job, torch.float32)
    taken = sum(path.stat().st_size for path in (tmp_path / "run").glob("*.safetensors"))
    header = 8_000  # Names and shapes of some seventy tensors.
    assert needed <= taken <= needed + header
    monkeypatch.setattr(layerwise.shutil, "disk_usage", lambda path: Disk(free=needed // 2))
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


def other_weights(folder, tokenizer, seed=1):
    model = Qwen3(small_config(d_vocab=len(tokenizer)))
    model.init_weights(torch.Generator().manual_seed(seed), std=0.2)
    save_checkpoint(model, folder)


def test_a_quantised_model_is_not_taken_for_the_whole_one(weights, tiny_tokenizer, tmp_path):
    pytest.importorskip("torchao")
    models = [load_model(weights, dtype="bfloat16") for _ in range(3)]
    quantise(models[1], "int8")
    quantise(models[2], "int8", blocks=[0])
    whole, few, fewer = (Lab(model, tiny_tokenizer, "small") for model in models)
    whole.record_to_disk(PROMPTS, tmp_path / "whole")
    few.record_to_disk(PROMPTS, tmp_path / "few")
    for lab, folder in ((few, "whole"), (whole, "few")):
        with pytest.raises(RecordingError, match=r"differs: quantisation, weights\)"):
            lab.record_to_disk(PROMPTS, tmp_path / folder)
    with pytest.raises(RecordingError, match=r"differs: weights\)"):
        fewer.record_to_disk(PROMPTS, tmp_path / "few")


@pytest.mark.parametrize("after", [1, 99])
def test_a_weight_that_was_edited_makes_another_model(lab, tmp_path, monkeypatch, after):
    broken_off(lab, tmp_path / "run", monkeypatch, after=after)
    with torch.no_grad():
        lab.model.blocks[1].mlp.down[0, 3, 5] += 1e-3
    with pytest.raises(RecordingError, match=r"another model \(what differs: weights\)"):
        lab.record_to_disk(PROMPTS, tmp_path / "run")


@pytest.mark.parametrize("memory", [None, "1GB"])
def test_other_weights_in_the_same_folder_make_another_model(tiny_tokenizer, tmp_path, memory):
    for run in range(2):
        other_weights(tmp_path / "weights", tiny_tokenizer)
        if run == 1 and memory is None:
            other_weights(tmp_path / "weights", tiny_tokenizer, seed=2)
        lab = Lab(load_model(tmp_path / "weights", memory=memory), tiny_tokenizer, "small")
        if run == 0:
            lab.record_to_disk(PROMPTS, tmp_path / "run")
    with pytest.raises(RecordingError, match=r"what differs: weights\)"):
        lab.record_to_disk(PROMPTS, tmp_path / "run")


def lose(path, how, other):
    """Make a file one that is not what it was: `other` is of another recording."""
    if how == "missing":
        path.unlink()
    elif how == "cut":
        os.truncate(path, path.stat().st_size - 4)
    elif how == "foreign":
        path.write_bytes((other / path.name).read_bytes())
    else:
        path.write_bytes(path.with_name(how.removeprefix("that of ") + FILE).read_bytes())


@pytest.mark.parametrize("how", ["missing", "cut", "foreign", "that of layer-001"])
def test_a_layer_that_was_lost_is_recorded_again(lab, tmp_path, monkeypatch, how):
    other = [prompt[::-1] for prompt in PROMPTS]
    lab.record_to_disk(other, tmp_path / "other")
    expected = lab.record_to_disk(PROMPTS, tmp_path / "whole")
    for after in (2, 99):
        folder = tmp_path / f"run-{after}"
        broken_off(lab, folder, monkeypatch, after=after)
        lose(folder / "layer-000.safetensors", how, tmp_path / "other")
        assert len(broken_off(lab, folder, monkeypatch, after=99)) == 3
        assert_same(lab.record_to_disk(PROMPTS, folder), expected)
        assert broken_off(lab, folder, monkeypatch, after=99) == []


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
def test_what_stands_around_the_layers_is_made_again_without_them(
    lab, tmp_path, monkeypatch, name, how
):
    capture = ["hook_embed", "ln_final.hook_normalized"]
    lab.record_to_disk([prompt[::-1] for prompt in PROMPTS], tmp_path / "other", capture=capture)
    expected = lab.record_batch(PROMPTS, capture=capture)
    lab.record_to_disk(PROMPTS, tmp_path / "run", capture=capture)
    lose(tmp_path / "run" / f"{name}.safetensors", how, tmp_path / "other")
    monkeypatch.setattr(Block, "forward", None)
    found = lab.record_to_disk(PROMPTS, tmp_path / "run", capture=capture)
    for mine, theirs in zip(found, expected, strict=True):
        for hook in (*capture, "hook_unembed"):
            torch.testing.assert_close(mine.raw(hook), theirs.raw(hook))


def test_a_file_is_on_the_disk_before_it_takes_its_place(lab, tmp_path, monkeypatch):
    flushed, honest = [], atomic_files._flush

    def noting(path, flags):
        # Whatever has the name of a file has been flushed before.
        named = {file.name for file in (tmp_path / "run").iterdir() if file.suffix != ".part"}
        assert named <= set(flushed)
        flushed.append(path.name.removesuffix(".part"))
        honest(path, flags)

    monkeypatch.setattr(atomic_files, "_flush", noting)
    lab.record_to_disk(PROMPTS, tmp_path / "run")
    assert {file.name for file in (tmp_path / "run").iterdir()} == set(flushed) - {"run"}
    assert flushed[1::2] == ["run"] * (len(flushed) // 2), "the folder after every file"


def test_leftovers_of_a_first_write_are_no_foreign_files(lab, tmp_path):
    for name in ("plan.json.part", "plan.part", ".tmpAb12cd"):
        (tmp_path / name).write_text('{"form')
    assert len(lab.record_to_disk(PROMPTS, tmp_path)) == 3


def test_room_is_asked_for_what_is_missing_alone(lab, tmp_path, monkeypatch):
    broken_off(lab, tmp_path / "run", monkeypatch, after=2)
    held = sum(path.stat().st_size for path in (tmp_path / "run").glob("*.safetensors"))
    rows = [lab.token_ids(prompt) for prompt in PROMPTS]
    names = lab.record_batch(PROMPTS)[0].capture
    job = layerwise.Job(tmp_path, rows, names, None, "small")
    missing = layerwise.n_bytes(lab.config, job, torch.float32) - held
    disk = Disk(free=missing - 1)
    monkeypatch.setattr(layerwise.shutil, "disk_usage", lambda path: disk)
    with pytest.raises(RecordingError, match=r"the rest of the recording takes .* has room for"):
        lab.record_to_disk(PROMPTS, tmp_path / "run")
    disk.free = int(missing * 1.06)
    found = lab.record_to_disk(PROMPTS, tmp_path / "run")
    disk.free = 0
    assert_same(lab.record_to_disk(PROMPTS, tmp_path / "run"), found)


@contextmanager
def room_for(n_bytes):
    """Have the system refuse files that grow past a size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("n_bytes", "n_files"), [(100, 0), (5_000, 2), (7_500, 6)])
def test_a_disk_that_is_full_is_said_and_gone_on_from(lab, tmp_path, n_bytes, n_files):
    with (
        room_for(n_bytes),
        pytest.raises(RecordingError, match=r"cannot be written .* the disk has room"),
    ):
        lab.record_to_disk(PROMPTS, tmp_path / "run", progress=False)
    # Plan and embedding, or layers and stream as well; and nothing half-written.
    whole = [path for path in (tmp_path / "run").iterdir() if path.suffix in (".json", FILE)]
    assert len(list((tmp_path / "run").iterdir())) == len(whole) == n_files
    found = lab.record_to_disk(PROMPTS, tmp_path / "run")
    assert_same(found, lab.record_to_disk(PROMPTS, tmp_path / "other"))


@pytest.mark.parametrize("text", ["", '{"format": 2, "mod', "7", "\udcff", "[" * 100_000])
def test_a_damaged_plan_is_said(lab, tmp_path, text):
    lab.record_to_disk(PROMPTS, tmp_path / "run")
    (tmp_path / "run" / "plan.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RecordingError, match=r"plan\.json is damaged .* remove .* to begin anew"):
        lab.record_to_disk(PROMPTS, tmp_path / "run")


def test_a_path_that_is_or_leads_through_a_file_is_said(lab, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RecordingError, match="is a file: give the name of a folder"):
        lab.record_to_disk(PROMPTS, tmp_path / "letter.txt")
    with pytest.raises(RecordingError, match=r"letter\.txt/run/plan\.json cannot be written"):
        lab.record_to_disk(PROMPTS, tmp_path / "letter.txt" / "run")
    assert (tmp_path / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("changes", "shape", "reason"),
    [
        ({"layers": "0"}, None, "is not the stream of this recording after one of its 3 layers"),
        ({"layers": "-1"}, None, "is not the stream"),
        ({"layers": "4"}, None, "is not the stream"),
        ({"layers": "two"}, None, "is damaged"),
        ({"job": "another"}, None, "is not the stream"),
        ({}, (1, 5, 7), "is not the stream"),
    ],
)
def test_a_stream_that_cannot_be_this_recordings_is_refused(
    lab, tmp_path, monkeypatch, changes, shape, reason
):
    broken_off(lab, tmp_path / "run", monkeypatch, after=2)
    path = tmp_path / "run" / "stream.safetensors"
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    resid = load_file(path)["resid"]
    save_file({"resid": torch.zeros(shape) if shape else resid}, path, metadata=about | changes)
    with pytest.raises(RecordingError, match=reason):
        lab.record_to_disk(PROMPTS, tmp_path / "run")
