"""Activations of a GPU come to the host while it goes on."""

import pytest
import torch

import qwen3lab
from qwen3lab.device.host_transfer import LOAD, HostTransfer, bring
from qwen3lab.loading import load_model
from qwen3lab.recording.recorder import Recorder
from tests.graph_stand_in import Pretended


def test_what_is_on_the_host_stays_where_it_is():
    value, kept = torch.ones(3), []
    offload = HostTransfer()
    offload.take(value, kept)
    offload.wait()
    assert kept[0] is value


def test_what_is_small_travels_together_and_finds_its_place(monkeypatch):
    """Without a GPU: which copies are made, and what stands where after them."""
    sent = []
    monkeypatch.setattr(
        HostTransfer, "_copied", lambda self, flat: sent.append(flat) or flat.clone()
    )
    offload, lists = HostTransfer(), [[], []]
    values = [torch.arange(n * 6.0).view(n, 2, 3) + n for n in range(1, 5)]
    values += [torch.arange(4), torch.arange(5) * 2]
    for number, value in enumerate(values):
        offload.take(value.as_subclass(Pretended), lists[number % 2])
    assert sent == []
    offload.wait()
    assert sorted(len(flat) for flat in sent) == [9, 60], "one of numbers, and one of indices"
    for number, value in enumerate(values):
        found = lists[number % 2][number // 2]
        assert found.dtype == value.dtype and torch.equal(found, value)
    offload.wait()
    assert len(sent) == 2


def test_a_load_is_sent_before_it_grows_too_large(monkeypatch):
    sent, kept = [], []
    monkeypatch.setattr(
        HostTransfer, "_copied", lambda self, flat: sent.append(flat) or flat.clone()
    )
    offload, third = HostTransfer(), torch.zeros(LOAD // 4 // 3).as_subclass(Pretended)
    for _ in range(7):
        offload.take(third, kept)
    assert [flat.nbytes // third.nbytes for flat in sent] == [3, 3]
    offload.wait()
    assert len(sent) == 3 and len(kept) == 7


def test_an_interrupted_load_is_sent_again(monkeypatch):
    calls = []

    def copied(self, flat):
        calls.append(flat)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return flat.clone().as_subclass(torch.Tensor)

    monkeypatch.setattr(HostTransfer, "_copied", copied)
    offload, kept = HostTransfer(), []
    values = [torch.arange(4.0), torch.arange(3), torch.ones(2)]
    for value in values:
        offload.take(value.as_subclass(Pretended), kept)
    with pytest.raises(KeyboardInterrupt):
        offload.wait()
    offload.wait()
    assert len(calls) == 3 and not any(each.is_cuda for each in kept)
    assert all(torch.equal(mine, value) for mine, value in zip(kept, values, strict=True))


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return torch.device("cuda")


@pytest.mark.gpu
def test_what_was_copied_is_whole_and_leaves_the_gpu(gpu):
    offload, kept = HostTransfer(), []
    for n in range(8):
        offload.take(torch.full((LOAD // 16,), n, device=gpu, dtype=torch.float32), kept)
    before = torch.cuda.memory_allocated()
    offload.wait()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() < before
    for n, copy in enumerate(kept):
        assert copy.device.type == "cpu" and copy.is_pinned() and bool((copy == n).all())


@pytest.mark.gpu
def test_pieces_of_prompt_and_reply_are_joined_in_their_order(gpu):
    recorder = Recorder(["x"])
    prompt = torch.arange(2 * LOAD // 32, dtype=torch.float32, device=gpu).view(1, -1, 64)
    recorder("x", prompt)
    steps = torch.arange(4 * 64, dtype=torch.float32, device=gpu).view(1, 4, 64)
    for place in range(4):
        recorder("x", steps[:, place : place + 1])
    (cut,) = recorder.cut([(0, recorder.n_complete)])
    assert torch.equal(cut["x"], torch.cat([prompt[0], steps[0]]).cpu())


@pytest.mark.gpu
def test_a_recording_on_a_gpu_is_that_of_the_cpu(gpu):
    ids = [index % 500 + 10 for index in range(600)]
    here = qwen3lab.load("tiny-moe", device="cpu", dtype="float32").record(ids)
    there = qwen3lab.load("tiny-moe", device=gpu, dtype="float32").record(ids)
    for name in ("blocks.0.attn.hook_rot_q", "hook_unembed"):
        torch.testing.assert_close(there[name], here[name], rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_writing_waits_for_the_gpu_once_a_token(gpu):
    lab = qwen3lab.load("tiny-dense", device=gpu, dtype="bfloat16")
    lab.generate("3+2=", max_new_tokens=2)
    try:
        torch.cuda.set_sync_debug_mode("warn")
        with pytest.warns(UserWarning, match="synchronizing") as found:
            written = lab.generate("3+2=", max_new_tokens=12)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # The prompt's own, such as its tensors' way to the GPU, come on top.
    assert len(found) <= len(written.token_ids) + 8


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_come_whole_and_not_before_they_may(gpu, dtype):
    """What the GPU was asked to do with the memory before is done with what was there."""
    old, new = torch.full((1024, 1024), 2.0, device=gpu), torch.rand(1024, 1024).to(dtype)
    long = old
    for _ in range(200):
        long = long @ old * 2.0**-11
    bring(new, old)
    assert bool((long == 2.0).all()) and torch.equal(old.cpu(), new.float())


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["experts", "dense"])
def test_a_model_streams_to_a_gpu_and_writes_what_the_whole_one_does(gpu, saved, name):
    whole, streamed = (
        load_model(saved[name], device=gpu, memory=memory) for memory in (None, "300MB")
    )
    ids = torch.arange(40, device=gpu)[None] % 97
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(streamed(ids), whole(ids), rtol=1e-4, atol=1e-4)
