"""Asynchronous copies between GPU and host are complete and in order."""

import pytest
import torch

import qwen3lab
from qwen3lab.device.host_transfer import MAX_BATCHED_BYTES, HostTransfer, bring
from qwen3lab.loading import load_model
from qwen3lab.recording.recorder import Recorder
from tests.graph_stand_in import Pretended


def test_a_tensor_on_the_host_is_not_copied():
    value, kept = torch.ones(3), []
    transfer = HostTransfer()
    transfer.take(value, kept)
    transfer.wait()
    assert kept[0] is value


def test_small_tensors_are_copied_together_and_keep_their_list_index(monkeypatch):
    """Without a GPU: checks the number of copies and the contents of the lists."""
    sent = []
    monkeypatch.setattr(
        HostTransfer, "_copy_to_host", lambda self, flat: sent.append(flat) or flat.clone()
    )
    transfer, lists = HostTransfer(), [[], []]
    values = [torch.arange(n * 6.0).view(n, 2, 3) + n for n in range(1, 5)]
    values += [torch.arange(4), torch.arange(5) * 2]
    for number, value in enumerate(values):
        transfer.take(value.as_subclass(Pretended), lists[number % 2])
    assert sent == []
    transfer.wait()
    assert sorted(len(flat) for flat in sent) == [9, 60], "one copy of floats, one of integers"
    for number, value in enumerate(values):
        copy = lists[number % 2][number // 2]
        assert copy.dtype == value.dtype and torch.equal(copy, value)
    transfer.wait()
    assert len(sent) == 2


def test_a_batch_is_copied_before_it_exceeds_the_limit(monkeypatch):
    sent, kept = [], []
    monkeypatch.setattr(
        HostTransfer, "_copy_to_host", lambda self, flat: sent.append(flat) or flat.clone()
    )
    transfer = HostTransfer()
    third = torch.zeros(MAX_BATCHED_BYTES // 4 // 3).as_subclass(Pretended)
    for _ in range(7):
        transfer.take(third, kept)
    assert [flat.nbytes // third.nbytes for flat in sent] == [3, 3]
    transfer.wait()
    assert len(sent) == 3 and len(kept) == 7


def test_an_interrupted_copy_is_repeated(monkeypatch):
    calls = []

    def copy_or_fail(self, flat):
        calls.append(flat)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return flat.clone().as_subclass(torch.Tensor)

    monkeypatch.setattr(HostTransfer, "_copy_to_host", copy_or_fail)
    transfer, kept = HostTransfer(), []
    values = [torch.arange(4.0), torch.arange(3), torch.ones(2)]
    for value in values:
        transfer.take(value.as_subclass(Pretended), kept)
    with pytest.raises(KeyboardInterrupt):
        transfer.wait()
    transfer.wait()
    assert len(calls) == 3 and not any(each.is_cuda for each in kept)
    assert all(torch.equal(mine, value) for mine, value in zip(kept, values, strict=True))


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return torch.device("cuda")


@pytest.mark.gpu
def test_copies_are_complete_and_the_gpu_memory_is_freed(gpu):
    transfer, kept = HostTransfer(), []
    for n in range(8):
        transfer.take(
            torch.full((MAX_BATCHED_BYTES // 16,), n, device=gpu, dtype=torch.float32), kept
        )
    before = torch.cuda.memory_allocated()
    transfer.wait()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() < before
    for n, copy in enumerate(kept):
        assert copy.device.type == "cpu" and copy.is_pinned() and bool((copy == n).all())


@pytest.mark.gpu
def test_activations_of_prompt_and_reply_are_joined_in_order(gpu):
    recorder = Recorder(["x"])
    prompt = torch.arange(2 * MAX_BATCHED_BYTES // 32, dtype=torch.float32, device=gpu).view(
        1, -1, 64
    )
    recorder("x", prompt)
    steps = torch.arange(4 * 64, dtype=torch.float32, device=gpu).view(1, 4, 64)
    for position in range(4):
        recorder("x", steps[:, position : position + 1])
    (cut,) = recorder.cut([(0, recorder.n_complete)])
    assert torch.equal(cut["x"], torch.cat([prompt[0], steps[0]]).cpu())


@pytest.mark.gpu
def test_a_recording_on_a_gpu_equals_that_on_the_cpu(gpu):
    ids = [index % 500 + 10 for index in range(600)]
    here = qwen3lab.load("tiny-moe", device="cpu", dtype="float32").record(ids)
    there = qwen3lab.load("tiny-moe", device=gpu, dtype="float32").record(ids)
    for name in ("blocks.0.attn.hook_rot_q", "hook_unembed"):
        torch.testing.assert_close(there[name], here[name], rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_generation_synchronises_with_the_gpu_once_per_token(gpu):
    lab = qwen3lab.load("tiny-dense", device=gpu, dtype="bfloat16")
    lab.generate("3+2=", max_new_tokens=2)
    try:
        torch.cuda.set_sync_debug_mode("warn")
        with pytest.warns(UserWarning, match="synchronizing") as synchronisations:
            written = lab.generate("3+2=", max_new_tokens=12)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # The prefill synchronises a few times more, such as when its tensors are copied to the GPU.
    assert len(synchronisations) <= len(written.token_ids) + 8


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_arrive_complete_and_after_queued_work(gpu, dtype):
    """Work queued on the GPU before the copy still reads the old values."""
    old, new = torch.full((1024, 1024), 2.0, device=gpu), torch.rand(1024, 1024).to(dtype)
    product = old
    for _ in range(200):
        product = product @ old * 2.0**-11
    bring(new, old)
    assert bool((product == 2.0).all()) and torch.equal(old.cpu(), new.float())


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["experts", "dense"])
def test_a_model_streamed_to_a_gpu_has_the_logits_of_the_loaded_model(gpu, saved, name):
    loaded, streamed = (
        load_model(saved[name], device=gpu, memory=memory) for memory in (None, "300MB")
    )
    ids = torch.arange(40, device=gpu)[None] % 97
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(streamed(ids), loaded(ids), rtol=1e-4, atol=1e-4)
