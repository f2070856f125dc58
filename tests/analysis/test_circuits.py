"""Circuits of a small model, compared with the full vocabulary-by-vocabulary matrices."""

import pytest
import torch

from qwen3lab.analysis import circuits, value_weighted
from qwen3lab.analysis.circuits import copying_scores, norm_part, ov_pairs, qk_pairs
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from tests.reference import NO_EXPERTS, small_config


@pytest.fixture(scope="module")
def lab(tiny_tokenizer):
    model = Qwen3(small_config(d_vocab=len(tiny_tokenizer), **NO_EXPERTS))
    model.init_weights(torch.Generator().manual_seed(0), std=0.3)
    with torch.no_grad():
        for norm in (model.blocks[1].ln1, model.ln_final, model.blocks[1].attn.q_norm):
            norm.weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
    return Lab(model, tiny_tokenizer)


def full_ov(lab, layer, head):
    """The full OV circuit, vocabulary by vocabulary: from the attended token to the logits."""
    model, block = lab.model, lab.model.blocks[layer]
    embedded = model.embed.weight.double()
    embedded = embedded / (embedded.square().mean(-1, keepdim=True) + lab.config.eps).sqrt()
    x = embedded * block.ln1.weight.double()
    v = (x @ block.attn.v.weight.double().T).view(len(x), 2, 16)[:, head // 2]
    out = v @ block.attn.o.weight.double().T[head * 16 : head * 16 + 16]
    logits = (out * model.ln_final.weight.double()) @ model.unembedding.double().T
    return logits - logits.mean(dim=1, keepdim=True)


@torch.no_grad()
def test_the_copying_score_uses_the_eigenvalues_of_the_full_ov_circuit(lab):
    found = copying_scores(lab)
    for layer, head in ((0, 0), (1, 3)):
        values = torch.linalg.eigvals(full_ov(lab, layer, head))
        expected = values.real.sum() / values.abs().sum()
        assert float(found[layer, head]) == pytest.approx(float(expected), abs=1e-4)


@torch.no_grad()
def test_a_constructed_copying_head_has_a_score_of_one(tiny_tokenizer):
    config = small_config(
        d_vocab=len(tiny_tokenizer),
        d_model=16,
        n_layers=1,
        n_heads=1,
        n_kv_heads=1,
        tied_embeddings=True,
        **NO_EXPERTS,
    )
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0), std=0.3)
    model.blocks[0].attn.v.weight.copy_(torch.eye(16))
    model.blocks[0].attn.o.weight.copy_(torch.eye(16))
    assert float(copying_scores(Lab(model, tiny_tokenizer))[0, 0]) > 0.99
    model.blocks[0].attn.o.weight.copy_(-torch.eye(16))
    assert float(copying_scores(Lab(model, tiny_tokenizer))[0, 0]) < -0.99


@torch.no_grad()
def test_the_strongest_pairs_are_the_largest_entries_of_the_full_matrix(lab, monkeypatch):
    monkeypatch.setattr(circuits, "ROWS_PER_BLOCK", 100)
    full = full_ov(lab, 1, 2)
    found = ov_pairs(lab, 1, 2, n=5)
    best = full.flatten().topk(5)
    assert found.value == pytest.approx(best.values.tolist(), rel=1e-4)
    tokens = [
        circuits.token_texts(lab.tokenizer, [int(i) // len(full), int(i) % len(full)])
        for i in best.indices
    ]
    assert [list(pair) for pair in zip(found.source, found.target, strict=True)] == tokens
    assert list(found.to_pandas().columns) == ["source", "target", "value"]


@torch.no_grad()
def test_pairs_of_the_qk_circuit_are_scores_of_two_tokens_at_one_position(lab):
    found = qk_pairs(lab, 0, 3, n=3)
    model, block = lab.model, lab.model.blocks[0]
    x = model.embed.weight
    x = x / (x.square().mean(-1, keepdim=True) + lab.config.eps).sqrt() * block.ln1.weight
    q = block.attn.q_norm((x @ block.attn.q.weight.T).view(len(x), 4, 16)[:, 3])
    k = block.attn.k_norm((x @ block.attn.k.weight.T).view(len(x), 2, 16)[:, 1])
    scores = q @ k.T / 4
    assert found.value == pytest.approx(scores.flatten().topk(3).values.tolist(), rel=1e-3)


def test_an_attention_score_is_the_cosine_over_the_temperature(lab):
    recording = lab.record([5, 6, 7], capture=[*circuits.NEEDED, "blocks.*.attn.hook_attn_scores"])
    found = norm_part(recording)
    q = recording["blocks.1.attn.hook_rot_q"]
    before = recording["blocks.1.attn.hook_q"]
    torch.testing.assert_close(found.query_before[1, 2], before[:, 2].norm(dim=-1).mean())
    torch.testing.assert_close(found.query_after[1, 2], q[:, 2].norm(dim=-1).mean())
    k = recording["blocks.1.attn.hook_rot_k"]
    torch.testing.assert_close(found.key_after[1, 3], k[:, 1].norm(dim=-1).mean())
    # In the first layer, norm weights are 1 and all lengths are equal, so the score is exact.
    first = recording["blocks.0.attn.hook_rot_q"], recording["blocks.0.attn.hook_rot_k"]
    cosine = torch.nn.functional.cosine_similarity(first[0][2, 3], first[1][0, 1], dim=0)
    score = recording["blocks.0.attn.hook_attn_scores"][3, 2, 0]
    torch.testing.assert_close(cosine / found.temperature[0, 3], score, rtol=1e-3, atol=1e-4)


def test_the_carried_norm_is_the_norm_of_a_heads_output(lab):
    recording = lab.record([5, 6, 7, 8], capture=["blocks.*.attn.hook_v", "*hook_result"])
    lengths = value_weighted.carried(lab, recording, 1)
    pattern = recording.attention.pattern(1)
    # The first token can only attend to itself: its output is its value times W_O.
    written = recording["blocks.1.attn.hook_result"][0].norm(dim=-1)
    torch.testing.assert_close(lengths[:, 0], written, rtol=1e-4, atol=1e-5)
    ((start, block),) = value_weighted.moved_blocks(lab, recording, 1)
    assert start == 0
    torch.testing.assert_close(block, pattern * lengths[:, None])


@pytest.mark.parametrize("place", [(3, 0), (0, 4), (-1, 0)])
def test_layers_and_heads_that_do_not_exist_are_refused(lab, place):
    for pairs in (ov_pairs, qk_pairs):
        with pytest.raises(ValueError, match=r"layers 0 to 2 with heads 0 to 3"):
            pairs(lab, *place)
