"""`load(memory=)` picks the best way by itself, says which, and never quantises unasked."""

import math

import pytest
import torch

import qwen3lab
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.checkpoints.safetensors_reader import CheckpointReader
from qwen3lab.checkpoints.tensor_names import StoredPart
from qwen3lab.config.placement import choose, least_streamed_bytes, room_bytes
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import CheckpointError
from qwen3lab.loading import load_model
from qwen3lab.streaming.host_tensors import HostTensors
from tests.reference import tokens

CONFIG = Qwen3Config.from_file(find_folder("tiny-moe"))
ROOM = room_bytes(CONFIG, "float32")
NOT_WHOLE = ROOM + CONFIG.quantised_bytes("int8", "float32")
"""Enough for int8 beside a recording, and too little for float32."""
ONLY_INT4 = ROOM + CONFIG.quantised_bytes("int4", "float32")


def load(**options):
    return qwen3lab.load("tiny-moe", device="cpu", dtype="float32", **options)


def test_a_model_that_fits_is_loaded_whole_and_the_lab_says_so():
    lab = load(memory="8GB")
    assert not lab.model.blocks.is_streamed
    assert lab.placed.startswith("whole in float32: 11.5 MB and ")
    assert lab.placed in repr(lab)
    assert f"Whole in float32: {lab.placed[18:]}" in lab._repr_html_()
    assert load().placed == ""


def test_a_model_that_does_not_fit_is_streamed_exactly_with_the_same_logits():
    lab, ids = load(memory=NOT_WHOLE), tokens(vocab=CONFIG.d_vocab)
    assert lab.model.blocks.is_streamed
    assert lab.placed.startswith("streamed from disk")
    assert 'quantise="auto" would take int8' in lab.placed
    with torch.no_grad():
        assert torch.allclose(lab.model(ids), load().model(ids), atol=1e-4)


@pytest.mark.parametrize(("memory", "kind"), [(NOT_WHOLE, "int8"), (ONLY_INT4, "int4")])
def test_a_model_is_quantised_only_if_asked_and_then_no_more_than_needed(memory, kind):
    pytest.importorskip("torchao")
    lab = load(memory=memory, quantise="auto")
    assert lab.weights == f"float32, {kind}"
    assert lab.placed.startswith(f"quantised to {kind}")
    assert not load(memory="8GB", quantise="auto").weights.endswith(kind)


def test_a_limit_below_the_room_is_one_of_the_weights_alone_as_before():
    lab = load(memory="40MB")
    assert lab.model.blocks.is_streamed and lab.model.blocks.kept_bytes >= 0
    with pytest.raises(CheckpointError, match=r"memory is 0.01 GB, and .* needs 0.03 GB"):
        load(memory="10MB")


def test_auto_without_a_limit_is_refused_and_so_is_a_kind_with_a_limit():
    with pytest.raises(CheckpointError, match=r'"auto" needs a limit: give memory='):
        load(quantise="auto")
    with pytest.raises(CheckpointError, match=r"cannot be combined: choose memory"):
        load(quantise="int8", memory="8GB")


@pytest.mark.parametrize("more", [0, 2**20])
def test_weights_in_host_memory_are_read_once_and_give_the_same_logits(monkeypatch, more):
    folder, ids = find_folder("tiny-moe"), tokens(vocab=CONFIG.d_vocab)
    memory = least_streamed_bytes(CONFIG, "float32") + more
    placement = choose(CONFIG, memory, dtype="float32", host_bytes=math.inf)
    assert placement.way == "host" and not placement.holds_all_but_experts
    model = load_model(folder, dtype="float32", memory=memory, placement=placement)
    host = model.blocks.weight_cache.weights
    with torch.no_grad():
        first = model(ids)
        kept = host.host_bytes
        monkeypatch.setattr(host.weights, "fill", lambda _: pytest.fail("read again from disk"))
        assert torch.equal(model(ids), first)
        assert torch.allclose(first, load_model(folder, dtype="float32")(ids), atol=1e-4)
    assert 0 < kept == host.host_bytes <= 4 * CONFIG.n_params


def test_of_experts_alone_nothing_else_is_kept_in_host_memory():
    host = HostTensors(CheckpointReader(find_folder("tiny-moe")), torch.float32, only_experts=True)
    norm = "model.layers.0.input_layernorm.weight"
    expert = next(name for name in sorted(host.names()) if ".experts." in name)
    for name in (norm, expert):
        out = torch.empty(host.shape(name))
        for _ in range(2):
            host.fill([(out, StoredPart(name))])
            assert torch.equal(out, host.tensor(name).float())
    assert host.host_bytes == 4 * math.prod(host.shape(expert))
