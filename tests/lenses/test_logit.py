"""The logit lens agrees with transformers by hand and with TransformerLens."""

import pytest
import torch

from qwen3lab import lenses
from qwen3lab.errors import HookError, RecordingError
from qwen3lab.lab import Lab
from qwen3lab.loading import load_model
from tests.lenses.small import IDS, small_lab
from tests.peers.words import word_tokenizer
from tests.reference import hf_random

EVERY = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "result")


@pytest.fixture(params=[True, False], ids=["experts", "dense"])
def lab(request, tiny_tokenizer):
    return small_lab(tiny_tokenizer, experts=request.param)


@pytest.fixture(scope="module", params=["dense", "experts, tied"])
def both(request, tmp_path_factory):
    """A lab and the transformers model of the same random weights, and the folder of both."""
    folder = tmp_path_factory.mktemp("lens")
    theirs = hf_random(request.param)
    theirs.save_pretrained(folder)
    tokenizer = word_tokenizer(97)
    tokenizer.save_pretrained(folder)
    return Lab(load_model(folder), tokenizer, "random"), theirs, folder


def lens_of(lab, hooks="resid_post", ids=IDS, **options):
    return lenses.logit_lens(
        lab, lab.record(ids, capture=lenses.needed(hooks)), hooks=hooks, **options
    )


@pytest.mark.parametrize("ids", [IDS, list(range(3, 153))], ids=["short", "long"])
def test_the_last_layer_gives_the_models_own_logits_exactly(lab, ids):
    lens = lens_of(lab, ids=ids)
    assert torch.equal(lens.logits(-1), lens.recording.logits)
    assert float(lens.kl()[-1].abs().max()) == 0
    assert float(lens.kl()[:-1].min()) > 0.01


def test_logits_are_those_of_transformers_norm_and_head(both):
    lab, theirs, _ = both
    with torch.no_grad():
        out = theirs(torch.tensor([IDS]), output_hidden_states=True)
        # transformers gives the last hidden state behind the final norm.
        for layer in range(lab.config.n_layers - 1):
            expected = theirs.lm_head(theirs.model.norm(out.hidden_states[layer + 1]))[0]
            torch.testing.assert_close(lens_of(lab).logits(layer), expected, atol=2e-5, rtol=2e-5)
        torch.testing.assert_close(lens_of(lab).logits(-1), out.logits[0], atol=2e-5, rtol=2e-5)


@pytest.mark.peer
def test_every_place_of_the_stream_agrees_with_transformerlens(both):
    lab, _, folder = both
    bridge = pytest.importorskip("transformer_lens.model_bridge").TransformerBridge
    tool = pytest.importorskip("transformer_lens.tools.analysis").logit_lens
    model = bridge.boot_transformers(str(folder), device="cpu")
    hooks = ["resid_pre", "resid_mid"]
    ours = lens_of(lab, [*hooks, "blocks.2.hook_resid_post"])
    theirs = tool(model, torch.tensor([IDS]), incl_mid=True, positions=None, targets=20)
    logits = tool(model, torch.tensor([IDS]), incl_mid=True, positions=None).values[:, 0]
    assert len(logits) == len(ours.places) == 7
    mine = torch.stack([ours.head.logits(ours.stream(row)) for row in range(7)])
    print(f"largest difference: {float((mine - logits).abs().max()):.1e}")
    torch.testing.assert_close(mine, logits, atol=3e-5, rtol=3e-5)
    torch.testing.assert_close(ours.entropy(), theirs.readout.entropy[:, 0], atol=3e-5, rtol=3e-5)
    assert torch.equal(ours.rank(20).plain(), theirs.rank_trajectory()[:, 0])


def test_readings_are_what_the_logits_say(lab):
    lens = lens_of(lab, EVERY)
    logits = torch.stack([lens.head.logits(lens.stream(row)) for row in range(len(lens.places))])
    final = lens.recording.logits
    probabilities = torch.distributions.Categorical(logits=logits)
    models = torch.distributions.Categorical(logits=final)
    expected = torch.distributions.kl_divergence(models, probabilities)
    torch.testing.assert_close(lens.kl().plain(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        lens.entropy().plain(), probabilities.entropy(), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(lens.probability(7).plain(), probabilities.probs[..., 7])
    order = logits.argsort(dim=-1, descending=True)
    assert torch.equal(lens.rank(7).plain(), (order == 7).nonzero()[:, -1].view(order.shape[:2]))
    assert torch.equal(lens.top(3).token_ids, order[..., :3])


def test_what_heads_and_mlps_write_has_a_row_each(lab):
    lens = lens_of(lab, ["result", "mlp_out"])
    assert lens.names[:5] == ["head 0.0", "head 0.1", "head 0.2", "head 0.3", "mlp 0"]
    rec = lens.recording
    wrote = rec["blocks.1.attn.hook_result"][:, 2]
    with torch.no_grad():
        normed = wrote / (wrote.square().mean(-1, keepdim=True) + lab.config.eps).sqrt()
        expected = normed * lab.model.ln_final.weight @ lab.model.unembedding.T
    torch.testing.assert_close(lens.logits(1, index=2), expected, atol=1e-4, rtol=1e-4)


def test_what_each_chosen_expert_writes_has_a_row(tiny_tokenizer):
    lab = small_lab(tiny_tokenizer)
    lens = lens_of(lab, "expert_out")
    assert lens.names == [f"expert choice {layer}.{k}" for layer in (1, 2) for k in (0, 1)]
    wrote = lens.recording["blocks.2.mlp.hook_expert_out"][:, 1]
    assert torch.equal(lens.stream(3), wrote)


def test_a_large_vocabulary_is_computed_where_it_is_read(tiny_tokenizer):
    lab = small_lab(tiny_tokenizer, n_vocab=5000)
    ids = list(range(1, 150))
    lens = lens_of(lab, ids=ids)
    logits = lens.logits(0)
    assert "computed on access" in repr(logits)
    assert torch.equal(lens.logits(-1)[3:5], lens.recording.logits[3:5])
    whole = lab.model.ln_final(lens.recording["blocks.0.hook_resid_post"]) @ lab.model.unembedding.T
    torch.testing.assert_close(logits[140], whole[140].detach(), atol=1e-4, rtol=1e-4)
    assert lens.kl().shape == (3, 149) and float(lens.kl()[-1].abs().max()) < 1e-6


def test_positions_select_columns(lab):
    whole, some = lens_of(lab), lens_of(lab, positions=slice(-2, None))
    assert some.positions == (4, 5) and some.tokens == whole.tokens[-2:]
    torch.testing.assert_close(some.kl().plain(), whole.kl()[:, -2:], atol=1e-6, rtol=1e-4)
    with pytest.raises(ValueError, match="select none of the recording's 6 tokens"):
        lens_of(lab, positions=slice(9, None))


def test_results_carry_their_labels(lab):
    lens = lens_of(lab)
    found = lens.rank(20)
    assert found.labels.layers == (0, 1, 2) and list(found.labels.tokens) == lens.tokens
    assert found.labels.model_name == "small" and "rank of" in found.labels.what
    table = lens.top(2).to_pandas()
    assert len(table) == 3 * 6 * 2
    row = table[(table.layer == 1) & (table.position == 4) & (table["rank"] == 0)].iloc[0]
    assert row.token_id == int(lens.logits(1)[4].argmax())
    assert row.predicted == lab.tokenizer.decode([int(row.token_id)])


def test_what_cannot_be_read_is_refused(lab):
    rec = lab.record(IDS)
    with pytest.raises(RecordingError, match=r"was not recorded: .*needed\('resid_post'\)"):
        lenses.logit_lens(lab, rec)
    with pytest.raises(HookError, match="is not in the residual stream"):
        lenses.logit_lens(lab, rec, hooks="blocks.0.attn.hook_q")
    with pytest.raises(HookError, match="no hook of this model matches"):
        lenses.logit_lens(lab, rec, hooks="resid_past")
    with pytest.raises(HookError, match="expected at least one"):
        lenses.logit_lens(lab, rec, hooks=[])
    lens = lens_of(lab)
    with pytest.raises(ValueError, match="does not read at layer 3"):
        lens.logits(3)
    with pytest.raises(ValueError, match="“12” is 2 tokens of small"):
        lens.rank("12")
    with pytest.raises(ValueError, match="k is 1537"):
        lens.top(1537)
    with pytest.raises(ValueError, match="layer 0 has 2 such places"):
        lens_of(lab, ["resid_mid", "resid_post"]).logits(0)


def test_another_models_recording_is_refused(lab, tiny_tokenizer):
    other = small_lab(tiny_tokenizer, n_vocab=5000)
    with pytest.raises(ValueError, match="whose sizes differ"):
        lenses.logit_lens(lab, other.record(IDS, capture=lenses.NEEDED))
