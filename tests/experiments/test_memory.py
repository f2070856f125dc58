"""Measurements over texts: their peak memory is that of one batch, whatever the number of texts."""

import pytest
import torch

from qwen3lab.bench.memory import peak_bytes, start_counting
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.malloc import map_large
from qwen3lab.experiments.effects import Text, expert_loads, group_losses
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from tests.fresh_process import in_a_fresh_process
from tests.reference import small_config

VOCAB, TOKENS = 60_000, 256
LOGITS_OF_A_TEXT = 4 * VOCAB * TOKENS


def made_lab() -> Lab:
    config: Qwen3Config = small_config(d_vocab=VOCAB, n_ctx=TOKENS)
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0), std=0.05)

    class Words:
        """A tokenizer that gives the number of a token as its text."""

        def convert_ids_to_tokens(self, ids):
            return [str(token) for token in ids]

        def decode(self, ids, **options):
            return " ".join(map(str, ids))

    return Lab(model, Words())


def bytes_while_measuring(n_texts: int) -> int | None:
    torch.set_num_threads(1)
    # Without this, freed memory that glibc does not return to the system would count.
    map_large()
    lab = made_lab()
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(VOCAB, (TOKENS,), generator=generator).tolist() for _ in range(n_texts)]
    texts = [Text("ab"[i % 2], each) for i, each in enumerate(ids)]
    before = start_counting("cpu")
    losses = group_losses(lab, texts, progress=False)
    expert_loads(lab, texts, [lab.config.moe_layers[0]])
    after = peak_bytes("cpu")
    assert all(8 < loss < 14 for loss in losses.values())  # About log(60,000) = 11.
    return None if before is None or after is None else after - before


def test_many_texts_need_the_memory_of_one_batch():
    few, many = (in_a_fresh_process(bytes_while_measuring, n) for n in (4, 16))
    if few is None or many is None:
        pytest.skip("this system does not tell a process' peak memory")
    # Four texts are a batch: 2**26 logits are 4.4 texts. 16 are 983 MB of logits.
    assert LOGITS_OF_A_TEXT * 16 > 980e6
    assert few < 3.5 * 4 * LOGITS_OF_A_TEXT
    assert many < few + 20e6
