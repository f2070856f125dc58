"""Activations of a GPU come to the host while it goes on."""

import pytest
import torch

import qwen3lab
from qwen3lab.offload import SMALL, Offload
from qwen3lab.recording import Recorder


def test_what_is_on_the_host_stays_where_it_is():
    value = torch.ones(SMALL)
    offload = Offload()
    assert offload.take(value) is value
    offload.wait()


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return torch.device("cuda")


@pytest.mark.gpu
def test_a_large_tensor_comes_whole_and_leaves_the_gpu(gpu):
    offload = Offload()
    values = [torch.full((SMALL,), n, device=gpu, dtype=torch.float32) for n in range(8)]
    copies = [offload.take(value) for value in values]
    small = torch.ones(3, device=gpu)
    assert offload.take(small) is small
    before = torch.cuda.memory_allocated()
    del values
    offload.wait()
    assert torch.cuda.memory_allocated() < before
    for n, copy in enumerate(copies):
        assert copy.device.type == "cpu" and copy.is_pinned() and bool((copy == n).all())


@pytest.mark.gpu
def test_pieces_of_prompt_and_reply_are_joined_in_their_order(gpu):
    recorder = Recorder(["x"])
    prompt = torch.arange(2 * SMALL, dtype=torch.float32, device=gpu).view(1, -1, 64)
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
def test_writing_waits_for_the_gpu_once_a_token(gpu):
    lab = qwen3lab.load("tiny-dense", device=gpu, dtype="bfloat16")
    lab.generate("3+2=", max_new_tokens=2)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with pytest.warns(UserWarning, match="synchronizing") as found:
            written = lab.generate("3+2=", max_new_tokens=12)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # The prompt's own, such as its tensors' way to the GPU, come on top.
    assert len(found) <= len(written.token_ids) + 8
