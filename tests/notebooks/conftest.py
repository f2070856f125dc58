"""A second model for the notebooks: the embedded one is not the only one they run on."""

from pathlib import Path

import pytest
import torch

from qwen3lab.checkpoint import save_checkpoint
from qwen3lab.model import Qwen3
from qwen3lab.tiny.tokenizer import N_VOCAB, write_tokenizer
from tests.reference import NO_EXPERTS, small_config


@pytest.fixture(scope="session")
def dense_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense Qwen3 of random weights, on disk."""
    folder = tmp_path_factory.mktemp("models") / "random-dense"
    config = small_config(d_vocab=N_VOCAB, n_ctx=2048, tied_embeddings=True, **NO_EXPERTS)
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0))
    save_checkpoint(model, folder)
    write_tokenizer(folder)
    return folder
