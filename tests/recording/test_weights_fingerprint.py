"""Other weights have another fingerprint, and the same weights the same one."""

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
@pytest.mark.parametrize("small", [0, fingerprints.MAX_FULLY_HASHED_VALUES])
def test_the_last_bit_of_any_one_weight_counts(monkeypatch, dtype, small):
    monkeypatch.setattr(fingerprints, "MAX_FULLY_HASHED_VALUES", small)
    model = fresh(dtype)
    found = {fingerprint(model)}
    bits = {4: torch.int32, 2: torch.int16}[dtype.itemsize]
    for parameter in model.parameters():
        parameter.detach().view(bits).flatten()[-1] ^= 1
        found.add(fingerprint(model))
    assert len(found) == 1 + len(list(model.parameters()))


def test_heads_that_have_changed_places_count():
    model = fresh()
    before, out = fingerprint(model), model.blocks[0].attn.o.weight
    with torch.no_grad():
        out.copy_(out.unflatten(-1, (4, -1)).flip(1).flatten(1))
    assert fingerprint(model) != before


def test_the_same_weights_read_anew_or_by_more_threads_are_the_same(tmp_path):
    model = fresh()
    save_checkpoint(model, tmp_path)
    assert fingerprint(load_model(tmp_path)) == fingerprint(model)
    n_threads = torch.get_num_threads()
    found = set()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            found.add(fingerprint(model))
    finally:
        torch.set_num_threads(n_threads)
    assert found == {fingerprint(model)}


def test_quantised_weights_count():
    pytest.importorskip("torchao")
    model = fresh()
    quantise(model, "int8")
    before = fingerprint(model)
    model.blocks[1].attn.q.packed.q[0, 0, 0] ^= 1
    assert fingerprint(model) != before


def test_files_of_a_streamed_model_count_by_their_times_and_their_loss_is_said(tmp_path):
    save_checkpoint(fresh(), tmp_path)
    model, path = load_model(tmp_path, memory="1GB"), tmp_path / "model.safetensors"
    before = fingerprint(model)
    assert fingerprint(load_model(tmp_path, memory="2GB")) == before
    os.utime(path, ns=(0, 1))
    assert fingerprint(model) != before
    path.unlink()
    with pytest.raises(CheckpointError, match="can no longer be read"):
        fingerprint(model)
