"""Fixtures of the notebook tests: models on disk, a JupyterLab server, a browser."""

import shutil
from pathlib import Path

import pytest
import torch

from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.model.transformer import Qwen3
from qwen3lab.tiny.world.tokenizer import N_VOCAB, write_tokenizer
from tests.notebooks.books import NOTEBOOKS
from tests.notebooks.browser import browser, chromium, screenshot_folder
from tests.notebooks.jupyter_server import jupyter_server
from tests.reference import NO_EXPERTS, small_config

START = "00_start_here.ipynb"


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for screenshots: QWEN3LAB_SCREENSHOTS if set, or a temporary folder."""
    return screenshot_folder(tmp_path_factory)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a copy of the notebook, so that the original keeps no outputs."""
    folder = tmp_path_factory.mktemp("notebooks")
    shutil.copy(NOTEBOOKS / START, folder)
    return folder


@pytest.fixture(scope="session")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """A JupyterLab server for that folder."""
    chromium()
    with jupyter_server(folder, tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture(scope="module")
def tabs(tmp_path_factory: pytest.TempPathFactory):
    """The browser; closed after each module: Playwright and nbclient cannot share a thread."""
    with browser(tmp_path_factory.mktemp("chromium")) as tabs:
        yield tabs


@pytest.fixture(scope="session")
def dense_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a dense Qwen3 checkpoint with random weights."""
    folder = tmp_path_factory.mktemp("models") / "random-dense"
    config = small_config(d_vocab=N_VOCAB, n_ctx=2048, tied_embeddings=True, **NO_EXPERTS)
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0))
    save_checkpoint(model, folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def deep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a narrow random Qwen3 with 94 layers of 128 experts, as in 235B-A22B."""
    folder = tmp_path_factory.mktemp("models") / "random-deep"
    config = small_config(
        d_vocab=N_VOCAB,
        n_layers=94,
        n_experts=128,
        n_experts_per_token=8,
        d_expert=4,
        moe_layers=tuple(range(94)),
        tied_embeddings=True,
    )
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0))
    save_checkpoint(model, folder)
    write_tokenizer(folder)
    return folder
