"""Quantising while reading: what comes on top of what stays is a block, not the model."""

from dataclasses import replace

import pytest
import torch

from qwen3lab.bench.memory import peak_bytes, start_counting
from qwen3lab.bench.sparse_checkpoint import write_sparse
from qwen3lab.config.catalog import PUBLISHED
from qwen3lab.loading import load_model
from qwen3lab.quantisation.packed_matrices import make_packer
from tests.fresh_process import in_a_fresh_process

pytest.importorskip("torchao")
CONFIG = replace(PUBLISHED["Qwen/Qwen3-0.6B"], n_layers=16, d_vocab=64)


def bytes_while_loading(folder) -> int | None:
    torch.set_num_threads(1)
    make_packer("int4")(torch.zeros(16, 32))  # Imports what it needs.
    before = start_counting("cpu")
    model = load_model(folder, dtype="bfloat16", quantise="int4")
    after = peak_bytes("cpu")
    assert model.config == CONFIG
    return None if before is None or after is None else after - before


def test_quantising_while_loading_keeps_at_most_one_block_in_full_precision(tmp_path):
    write_sparse(CONFIG, tmp_path)
    found = in_a_fresh_process(bytes_while_loading, tmp_path)
    if found is None:
        pytest.skip("this system does not tell a process' peak memory")
    whole, stays = 2 * CONFIG.n_params, CONFIG.quantised_bytes("int4")
    assert whole > 500e6 and stays < 0.32 * whole
    # A block of 31 MB, and 134 MB for file pages or for a matrix during rounding.
    assert stays < found < stays + 200e6 < 0.75 * whole
