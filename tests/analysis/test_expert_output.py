"""Expert outputs, compared with known sums and with planted outputs."""

import pytest
import torch

from qwen3lab import Sampling
from qwen3lab.analysis.expert_output import (
    NEEDED,
    contribution_norms,
    contributions,
    direct_logits,
    expert_writing,
    extreme_experts,
)
from qwen3lab.errors import RecordingError
from qwen3lab.interventions import rerouting
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from tests.reference import small_config

IDS = list(range(40, 60))


@pytest.fixture
def lab(tiny_tokenizer):
    model = Qwen3(small_config(d_vocab=len(tiny_tokenizer), n_experts_per_token=2))
    model.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return Lab(model, tiny_tokenizer)


def test_contributions_sum_to_the_mlp_output(lab):
    recording = lab.record(IDS, capture=[*NEEDED, "blocks.*.hook_mlp_out"])
    for layer in (1, 2):
        written = recording[f"blocks.{layer}.hook_mlp_out"]
        torch.testing.assert_close(contributions(recording, layer).sum(dim=1), written)


def test_contribution_norms_are_zero_except_for_chosen_experts(lab):
    recording = lab.record(IDS, capture=NEEDED)
    norms = contribution_norms(recording, 2)
    experts, added = recording.routing.experts[1], contributions(recording, 2)
    assert norms.shape == (20, 8)
    assert (norms > 0).sum() == 40
    slot = int(experts[7, 1])
    assert float(norms[7, slot]) == pytest.approx(float(added[7, 1].square().sum().sqrt()))


def test_direct_logits_of_all_contributions_sum_to_the_logits(lab):
    streams = ["hook_embed", "blocks.*.hook_attn_out", "blocks.0.hook_mlp_out"]
    recording = lab.record(IDS, capture=[*NEEDED, *streams])
    experts = sum(direct_logits(lab, recording, layer).sum(dim=1) for layer in (1, 2))
    others = recording["hook_embed"] + recording["blocks.0.hook_mlp_out"]
    others = others + sum(recording[f"blocks.{layer}.hook_attn_out"] for layer in range(3))
    read = lab.model.unembedding * lab.model.ln_final.weight
    rest = others / recording["ln_final.hook_scale"] @ read.T
    torch.testing.assert_close(experts + rest.detach(), recording.logits, atol=1e-4, rtol=1e-4)


def test_an_expert_with_one_tokens_unembedding_as_output_raises_that_token(lab):
    wanted = 77
    with torch.no_grad():
        # For any input, the expert's output is the unembedding of one token.
        mlp = lab.model.blocks[2].mlp
        mlp.gate_up[5] = mlp.gate_up[5].abs()
        direction = lab.model.unembedding[wanted]
        mlp.down[5] = direction[:, None] * mlp.down[5].abs().mean()
        lab.model.ln_final.weight.fill_(1.0)
    recordings = [lab.record(IDS, capture=NEEDED), lab.record(IDS[::-1], capture=NEEDED)]
    found = expert_writing(lab, recordings, 2, 5, n=3)
    raised, lowered = found.raised[0], found.lowered[0]
    text = lab.record([wanted]).tokens[0]
    assert text in (raised[0], lowered[0])
    assert found.tokens == sum(int((rec.routing.experts[1] == 5).sum()) for rec in recordings)
    assert found.to_pandas().shape == (3, 4)


def test_only_an_expert_with_a_planted_large_activation_is_an_outlier(lab):
    with torch.no_grad():
        lab.model.blocks[1].mlp.down[3] *= 1000
    found = extreme_experts([lab.record(IDS, capture=NEEDED), lab.record([5, 6], capture=NEEDED)])
    assert found.outliers == ((1, 3),)
    assert found.layers == (1, 2)
    recording = lab.record(IDS, capture=NEEDED)
    at = recording.routing.experts[0] == 3
    peak = recording["blocks.1.mlp.hook_expert_out"][at].abs().max()
    assert float(found.largest[0, 3]) >= float(peak)


def test_missing_activations_layers_and_experts_are_named(lab):
    with pytest.raises(RecordingError, match="hook_expert_out was not recorded: record again"):
        contributions(lab.record(IDS), 1)
    recording = lab.record(IDS, capture=NEEDED)
    with pytest.raises(ValueError, match=r"layer 0 has no experts: .* are 1, 2"):
        contributions(recording, 0)
    with pytest.raises(ValueError, match="expert 8 does not exist"):
        expert_writing(lab, [recording], 1, 8)
    idle = next(e for e in range(8) if not (lab.record([5]).routing.experts[0] == e).any())
    with pytest.raises(ValueError, match=f"no token is routed to expert {idle} of layer 1"):
        expert_writing(lab, [lab.record([5], capture=NEEDED)], 1, idle)
    with pytest.raises(ValueError, match="there is no recording"):
        extreme_experts([])


def test_expert_outputs_of_layers_with_different_k_are_supported(lab):
    recording = lab.record(
        IDS, capture=[*NEEDED, "blocks.*.hook_mlp_out"], edits=rerouting.top_k(5, layers=1)
    )
    for layer, k in ((1, 5), (2, 2)):
        added = contributions(recording, layer)
        assert added.shape[1] == k
        torch.testing.assert_close(added.sum(dim=1), recording[f"blocks.{layer}.hook_mlp_out"])
        assert ((contribution_norms(recording, layer) > 0).sum(dim=1) == k).all()
    assert extreme_experts([recording]).largest.shape == (2, 8)


def test_a_recorded_reply_equals_a_recording_of_the_complete_text(tiny_lab):
    """If the final norm is recorded, it runs on all positions of a prompt."""
    chat = tiny_lab.chat("3+2*7-1=?", record=NEEDED, sampling=Sampling.greedy())
    ids = [*chat.prompt_ids, *chat.token_ids]
    read = tiny_lab.record(ids, capture=NEEDED)
    assert len(chat.recording) == len(ids)
    assert max(end for _, end in chat.spans.values()) <= len(ids)
    for name in ("ln_final.hook_scale", "blocks.2.mlp.hook_expert_out"):
        torch.testing.assert_close(chat.recording[name], read[name], atol=1e-4, rtol=1e-4)
