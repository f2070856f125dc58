"""A second model for the notebooks: the embedded one is not the only one they run on."""

from pathlib import Path

import pytest
import torch

from qwen3lab.checkpoint import save_checkpoint
from qwen3lab.config import Qwen3Config
from qwen3lab.model import Qwen3
from qwen3lab.tiny.tokenizer import write_tokenizer


@pytest.fixture(scope="session")
def dense_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense Qwen3 of random weights, on disk."""
    folder = tmp_path_factory.mktemp("models") / "random-dense"
    config = Qwen3Config(
        d_model=32,
        n_layers=3,
        n_heads=4,
        n_kv_heads=2,
        d_head=16,
        d_mlp=64,
        d_vocab=1280,
        n_ctx=2048,
        tied_embeddings=True,
    )
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0))
    save_checkpoint(model, folder)
    write_tokenizer(folder)
    return folder
