"""Different weights have different fingerprints, and equal weights have the same one."""

import os

import pytest
import torch

from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.errors import CheckpointError
from qwen3lab.loading import load_model
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation.quantised_model import quantise
from qwen3lab.recording import weights_fingerprint as fingerprints
from qwen3lab.recording.weights_fingerprint import fingerprint
from tests.reference import small_config


def fresh(dtype=torch.float32):
    model = Qwen3(small_config(), dtype=dtype)
    model.init_weights(torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("limit", [0, fingerprints.MAX_FULLY_HASHED_VALUES])
def test_the_last_bit_of_any_tensor_changes_the_fingerprint(monkeypatch, dtype, limit):
    monkeypatch.setattr(fingerprints, "MAX_FULLY_HASHED_VALUES", limit)
    model = fresh(dtype)
    digests = {fingerprint(model)}
    bits = {4: torch.int32, 2: torch.int16}[dtype.itemsize]
    for parameter in model.parameters():
        parameter.detach().view(bits).flatten()[-1] ^= 1
        digests.add(fingerprint(model))
    assert len(digests) == 1 + len(list(model.parameters()))


def test_swapped_heads_change_the_fingerprint():
    model = fresh()
    before, out = fingerprint(model), model.blocks[0].attn.o.weight
    with torch.no_grad():
        out.copy_(out.unflatten(-1, (4, -1)).flip(1).flatten(1))
    assert fingerprint(model) != before


def test_the_fingerprint_is_the_same_after_reloading_and_for_any_thread_count(tmp_path):
    model = fresh()
    save_checkpoint(model, tmp_path)
    assert fingerprint(load_model(tmp_path)) == fingerprint(model)
    n_threads = torch.get_num_threads()
    digests = set()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            digests.add(fingerprint(model))
    finally:
        torch.set_num_threads(n_threads)
    assert digests == {fingerprint(model)}


def test_a_quantised_weight_changes_the_fingerprint():
    pytest.importorskip("torchao")
    model = fresh()
    quantise(model, "int8")
    before = fingerprint(model)
    model.blocks[1].attn.q.packed.q[0, 0, 0] ^= 1
    assert fingerprint(model) != before


def test_the_fingerprint_of_a_streamed_model_depends_on_file_times_and_needs_the_files(tmp_path):
    save_checkpoint(fresh(), tmp_path)
    model, path = load_model(tmp_path, memory="1GB"), tmp_path / "model.safetensors"
    before = fingerprint(model)
    assert fingerprint(load_model(tmp_path, memory="2GB")) == before
    os.utime(path, ns=(0, 1))
    assert fingerprint(model) != before
    path.unlink()
    with pytest.raises(CheckpointError, match="can no longer be read"):
        fingerprint(model)
