"""Weights written as GGUF for llama.cpp."""

import gguf
import pytest
import torch

from qwen3lab.bench.gguf_checkpoint import gguf_name, write_gguf
from qwen3lab.checkpoints.safetensors_reader import CheckpointReader
from qwen3lab.errors import BenchError
from tests.reference import hf_random

N_LAYERS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    hf_random("dense").save_pretrained(path)
    return path


@pytest.mark.parametrize("kind", ["F32", "BF16"])
def test_every_tensor_is_in_the_file_under_its_name_in_llama_cpp(folder, tmp_path, kind):
    write_gguf(folder, tmp_path / "model.gguf", kind)
    reader = CheckpointReader(folder)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, 64)
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert len(stored) == len(reader.names())
    for published in reader.names():
        name = names.get_name(published, try_suffixes=(".weight",))
        assert gguf_name(published) == name
        tensor = stored[name]
        value = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        tolerance = 0 if kind == "F32" or value.ndim == 1 else 2**-8
        expected = reader.tensor(published)
        torch.testing.assert_close(value.view_as(expected), expected, rtol=tolerance, atol=0)


def test_experts_are_refused(tmp_path):
    hf_random("experts").save_pretrained(tmp_path)
    with pytest.raises(BenchError, match="only dense models are written as GGUF"):
        write_gguf(tmp_path, tmp_path / "model.gguf", "F32")
