"""Routing interventions, compared with routing computed by hand from the router logits."""

import pytest
import torch

import qwen3lab
from qwen3lab import Sampling
from qwen3lab.errors import HookError
from qwen3lab.hooks.edits import Edits
from qwen3lab.hooks.taps import Chain, Keep
from qwen3lab.interventions import rerouting
from qwen3lab.lab import Lab
from qwen3lab.loading import from_transformers
from qwen3lab.model.transformer import Qwen3
from tests.reference import NO_EXPERTS, hf_random, small_config, tokens

ALL = 3, 12


@pytest.fixture(scope="module")
def lab(tiny_tokenizer):
    config = small_config(
        d_vocab=len(tiny_tokenizer), n_layers=4, moe_layers=(1, 2, 3), n_experts_per_token=3
    )
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return Lab(model, tiny_tokenizer)


@pytest.fixture(scope="module")
def plain(lab):
    return lab.record(list(range(40, 52)))


def rerun(lab, edits):
    return lab.record(list(range(40, 52)), edits=edits)


def by_hand(logits, k):
    """Qwen3's routing: softmax over all experts, top-k, renormalisation."""
    weights, experts = logits.softmax(dim=-1).topk(k, dim=-1)
    return experts, weights / weights.sum(dim=-1, keepdim=True)


def test_the_weight_of_a_switched_off_expert_goes_to_the_others(lab, plain):
    gone = int(plain.routing.experts[0].flatten().mode().values)
    found = rerun(lab, rerouting.off(gone, layers=1))
    expected = plain.routing.logits[0].clone()
    expected[:, gone] = -torch.inf
    experts, weights = by_hand(expected, 3)
    assert torch.equal(found.routing.experts[0], experts)
    torch.testing.assert_close(found.routing.weights[0], weights)
    assert not torch.equal(found.logits, plain.logits)


def test_slots_stay_empty_if_fewer_than_k_experts_are_on(lab):
    found = rerun(lab, rerouting.off(range(6)))
    assert found.routing.experts.shape == (3, 12, 3)
    assert torch.equal(
        found.routing.experts.sort(dim=-1).values[..., 1:].unique(), torch.tensor([6, 7])
    )
    assert (found.routing.experts[..., 2] == -1).all()
    assert (found.routing.weights[..., 2] == 0).all()
    torch.testing.assert_close(found.routing.weights.sum(dim=-1), torch.ones(ALL))


def test_a_forced_expert_replaces_the_weakest_chosen_and_takes_its_weight(lab, plain):
    experts, weights = plain.routing.experts[1], plain.routing.weights[1]
    forced = 6
    found = rerun(lab, rerouting.on(forced, layers=2)).routing
    served = (experts == forced).any(dim=-1)
    assert 0 < served.sum() < len(served)
    assert torch.equal(found.experts[1][served], experts[served])
    assert torch.equal(found.experts[1][~served, :2], experts[~served, :2])
    assert (found.experts[1][~served, 2] == forced).all()
    # The forced expert has the logit of the displaced one, so the weights do not change.
    torch.testing.assert_close(found.weights[1], weights)


def test_several_forced_experts_are_all_chosen(lab):
    found = rerun(lab, rerouting.on([0, 3, 7]))
    assert torch.equal(
        found.routing.experts.sort(dim=-1).values, torch.tensor([0, 3, 7]).expand(*ALL, 3)
    )


@pytest.mark.parametrize("name", ["experts", "experts, weights not renormalised"])
@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_top_k_matches_transformers_configured_with_that_k(name, k):
    hf = hf_random(name)
    ours, ids = from_transformers(hf), tokens(batch=2)
    edits = Edits(rerouting.top_k(k), ours.config, padding=(0, 0))
    for layer in hf.model.layers:
        layer.mlp.gate.top_k = k
    with torch.no_grad():
        torch.testing.assert_close(ours(ids, tap=edits), hf(ids).logits, atol=1e-5, rtol=1e-4)


def test_scaled_logits_match_transformers_with_a_scaled_router():
    hf = hf_random("experts")
    ours, ids = from_transformers(hf), tokens(batch=2)
    edits = Edits(rerouting.scale(2.5), ours.config, padding=(0, 0))
    with torch.no_grad():
        for layer in hf.model.layers:
            layer.mlp.gate.weight *= 2.5
        torch.testing.assert_close(ours(ids, tap=edits), hf(ids).logits, atol=1e-5, rtol=1e-4)


def test_a_bias_is_added_to_the_named_experts(lab, plain):
    found = rerun(lab, rerouting.bias([2, 4], -1.5, layers=1))
    expected = plain.routing.logits[0] + torch.tensor([0, 0, -1.5, 0, -1.5, 0, 0, 0])
    torch.testing.assert_close(found.routing.logits[0], expected)
    assert torch.equal(found.routing.experts[0], by_hand(expected, 3)[0])


def test_k_may_differ_from_layer_to_layer_and_from_token_to_token(lab, plain):
    found = rerun(
        lab, rerouting.top_k(5, layers=1) + rerouting.top_k(1, layers=3, tokens=slice(2, 4))
    )
    experts, weights = found.routing.experts, found.routing.weights
    assert experts.shape == (3, 12, 5)
    assert torch.equal(experts[0], by_hand(plain.routing.logits[0], 5)[0])
    assert (experts[1, :, 3:] == -1).all() and (experts[1, :, :3] >= 0).all()
    assert (experts[2] >= 0).sum(dim=-1).tolist() == [3, 3, 1, 1] + [3] * 8
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(ALL))
    assert (weights[experts < 0] == 0).all()


def test_shuffled_logits_are_a_permutation_of_the_original_ones(lab, plain):
    found = rerun(lab, rerouting.shuffled(seed=3, layers=1)).routing
    assert not torch.equal(found.experts[0], plain.routing.experts[0])
    torch.testing.assert_close(
        found.logits[0].sort(dim=-1).values, plain.routing.logits[0].sort(dim=-1).values
    )
    torch.testing.assert_close(found.weights[0], plain.routing.weights[0])
    again, other = (rerun(lab, rerouting.shuffled(seed=s, layers=1)).routing for s in (3, 4))
    assert torch.equal(again.experts, found.experts)
    assert not torch.equal(other.experts[0], found.experts[0])


def test_a_borrowed_routing_matches_the_recording_up_to_its_end(lab, plain):
    other = lab.record([7, 8, 9, 10])
    found = rerun(lab, rerouting.borrowed(other))
    assert torch.equal(found.routing.experts[:, :4], other.routing.experts)
    torch.testing.assert_close(found.routing.weights[:, :4], other.routing.weights)
    torch.testing.assert_close(found.routing.logits[0, 4:], plain.routing.logits[0, 4:])
    # The experts' inputs are still those of the new text.
    assert not torch.allclose(found.logits[0], other.logits[0])
    torch.testing.assert_close(rerun(lab, rerouting.borrowed(plain)).logits, plain.logits)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(3, [3]), ([1, 5], [1, 5]), (slice(9, None), [9, 10, 11]), (slice(1, 8, 3), [1, 4, 7])],
)
def test_only_the_named_tokens_are_rerouted(lab, plain, tokens, expected):
    found = rerun(lab, rerouting.bias(range(8), 1.0, layers=1, tokens=tokens)).routing
    moved = (found.logits[0] - plain.routing.logits[0]).abs().max(dim=-1).values > 0.5
    assert moved.nonzero().flatten().tolist() == expected


def test_positions_count_within_each_text_in_batches_and_in_decoding(lab):
    edits = rerouting.off(range(7), layers=2, tokens=[4])
    batch = [[5, 6, 7], list(range(40, 50)), list(range(60, 66))]
    for row, found in zip(batch, lab.record_batch(batch, edits=edits), strict=True):
        empty = (found.routing.experts[1] < 0).any(dim=-1).nonzero().flatten().tolist()
        assert empty == ([4] if len(row) > 4 else [])
    written = lab.generate([5, 6, 7], max_new_tokens=6, record=True, edits=edits).recording
    assert (written.routing.experts[1] < 0).any(dim=-1).nonzero().flatten().tolist() == [4]


def test_generation_under_an_intervention_matches_prefill_of_the_same_text(lab):
    edits = rerouting.shuffled() + rerouting.off(2) + rerouting.top_k(5, tokens=slice(4, None))
    done = lab.generate([5, 6, 7], max_new_tokens=8, record=True, edits=edits)
    read = lab.record(done.recording.token_ids.tolist(), edits=edits)
    assert torch.equal(done.recording.routing.experts, read.routing.experts)
    torch.testing.assert_close(done.recording.routing.weights, read.routing.weights)
    best = read.logits.argmax(dim=-1).tolist()
    assert done.token_ids == best[2 : 2 + len(done.token_ids)]


def test_interventions_apply_in_the_order_of_addition(lab, plain):
    one = rerun(lab, rerouting.bias(2, 1.0, layers=1) + rerouting.scale(3.0, layers=1))
    other = rerun(lab, rerouting.scale(3.0, layers=1) + rerouting.bias(2, 1.0, layers=1))
    two = plain.routing.logits[0][:, 2]
    torch.testing.assert_close(one.routing.logits[0][:, 2], 3 * (two + 1))
    torch.testing.assert_close(other.routing.logits[0][:, 2], 3 * two + 1)


def test_interventions_combine_with_other_edits(lab, plain):
    seen = {}

    def look(value, name):
        seen[name] = value

    name = "blocks.1.mlp.hook_router_logits"
    found = rerun(lab, [rerouting.bias(0, 9.0, layers=1), {name: look}])
    torch.testing.assert_close(
        seen[name][0], plain.routing.logits[0] + torch.tensor([9.0] + [0] * 7)
    )
    assert (found.routing.experts[0] == 0).any(dim=-1).all()
    rerun(lab, [{name: look}, rerouting.bias(0, 9.0, layers=1)])
    torch.testing.assert_close(seen[name][0], plain.routing.logits[0])


def test_interventions_apply_in_chat(lab, plain):
    options = {
        "thinking": False,
        "max_new_tokens": 3,
        "sampling": Sampling.greedy(),
        "record": True,
    }
    reply = lab.chat("3+4=?", edits=rerouting.top_k(1), **options)
    assert reply.recording.routing.experts.shape[-1] == 1


def test_an_intervention_leaves_the_model_unchanged(lab, plain):
    rerun(lab, rerouting.off(range(7)))
    assert torch.equal(rerun(lab, None).logits, plain.logits)


def test_empty_slots_survive_saving_and_tables(lab, tmp_path):
    found = rerun(lab, rerouting.top_k(1, layers=1))
    found.save(tmp_path / "run.safetensors")
    again = qwen3lab.Recording.load(tmp_path / "run.safetensors")
    assert torch.equal(again.routing.experts, found.routing.experts)
    assert (again.routing.experts[0, :, 1:] == -1).all()
    table = again.routing.to_pandas()
    assert len(table) == 12 * (1 + 3 + 3)
    assert table.expert.min() >= 0


def test_a_custom_edit_may_leave_slots_empty(lab):
    name = "blocks.1.mlp.hook_expert_indices"
    one = lab.record([5, 6], edits={name: lambda value, _: value[..., :1]})
    same = lab.record([5, 6], edits=rerouting.top_k(1, layers=1))
    torch.testing.assert_close(one.logits, same.logits)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (lambda: rerouting.off(8), "expert 8 does not exist: every layer has experts 0 to 7"),
        (lambda: rerouting.off(range(8)), "all 8 experts would be off"),
        (
            lambda: rerouting.off(range(5), layers=2) + rerouting.off([5, 6, 7]),
            "all 8 experts of layer 2 would be off",
        ),
        (lambda: rerouting.on([0, 1, 2, 3]), "4 experts cannot be forced on: a token has 3 slots"),
        (lambda: rerouting.top_k(9), "k is 9: expected 1 to 8"),
        (lambda: rerouting.top_k(0), "k is 0: expected 1 to 8"),
        (lambda: rerouting.off(0, layers=0), "layer 0 has no experts: .* are 1, 2, 3"),
        (lambda: rerouting.off(0, layers=7), "layer 7 has no experts: .* are 1, 2, 3"),
        (lambda: rerouting.off([]), "a list of experts or layers is empty"),
        (
            lambda: rerouting.off(0, tokens=-1),
            "a token position is negative: expected",
        ),
        (lambda: rerouting.off(0, tokens=slice(-3, None)), "expected positions of 0 or more"),
    ],
)
def test_invalid_interventions_are_refused(lab, plain, edits, message):
    with pytest.raises(HookError, match=message):
        rerun(lab, edits())
    assert torch.equal(rerun(lab, None).logits, plain.logits)


def test_more_experts_can_be_forced_after_raising_k(lab):
    found = rerun(lab, rerouting.top_k(4) + rerouting.on([0, 1, 2, 3]))
    assert torch.equal(found.routing.experts.sort(dim=-1).values, torch.arange(4).expand(*ALL, 4))


def test_negative_layers_count_from_the_end(lab, plain):
    found = rerun(lab, rerouting.off(range(7), layers=-1))
    assert (found.routing.experts[2] == 7).any(dim=-1).all()
    assert torch.equal(found.routing.experts[:2], plain.routing.experts[:2])


def test_a_dense_model_is_refused(tiny_tokenizer):
    model = Qwen3(small_config(d_vocab=len(tiny_tokenizer), **NO_EXPERTS))
    with pytest.raises(HookError, match="this model is dense: it has no experts whose routing"):
        Lab(model, tiny_tokenizer).record([5], edits=rerouting.off(0))


def test_a_routing_of_another_model_is_refused(lab, tiny_tokenizer):
    other = Qwen3(small_config(d_vocab=len(tiny_tokenizer)))
    other.init_weights(torch.Generator().manual_seed(0))
    theirs = Lab(other, tiny_tokenizer, "other").record([5])
    with pytest.raises(HookError, match="the routing of other does not fit this model: expected 8"):
        rerun(lab, rerouting.borrowed(theirs))


def test_an_edit_that_returns_an_unknown_expert_is_refused(lab):
    name = "blocks.1.mlp.hook_expert_indices"
    with pytest.raises(HookError, match="returned an expert that does not exist: expected 0 to 7"):
        lab.record([5], edits={name: lambda value, _: value + 8})


def test_a_custom_tap_chains_with_an_intervention(lab):
    keep = Keep(["blocks.1.mlp.hook_expert_indices"])
    edits = Edits(rerouting.top_k(2), lab.config)
    with torch.no_grad():
        lab.model(torch.tensor([[5, 6]]), tap=Chain(edits, keep))
    assert keep.kept["blocks.1.mlp.hook_expert_indices"].shape == (1, 2, 2)


def test_a_list_of_interventions_acts_like_their_sum(lab):
    both = rerun(lab, rerouting.top_k(2) + rerouting.off(5)).routing
    for edits in (
        [rerouting.top_k(2), rerouting.off(5)],
        [rerouting.off(5), rerouting.top_k(2)],
        [rerouting.top_k(2), {"hook_embed": lambda value, name: None}, rerouting.off(5)],
    ):
        found = rerun(lab, edits).routing
        assert torch.equal(found.experts, both.experts)
        torch.testing.assert_close(found.weights, both.weights)


def test_a_later_edit_of_the_logits_takes_effect(lab, plain):
    """Expert 7 gets a bias after expert 5 is off at one token: 7 is chosen there, too."""

    def raised(logits, name):
        logits[..., 7] = 50.0
        return logits

    edits = [rerouting.off(5, layers=2, tokens=0), {"blocks.2.mlp.hook_router_logits": raised}]
    found = rerun(lab, edits).routing
    expected = plain.routing.logits[1].clone()
    expected[0, 5] = -torch.inf
    expected[:, 7] = 50.0
    experts, weights = by_hand(expected, 3)
    assert torch.equal(found.experts[1], experts)
    torch.testing.assert_close(found.weights[1], weights)


@pytest.mark.parametrize("by", [0.0, -1.0, 2.0])
def test_a_switched_off_expert_stays_off_when_logits_are_scaled(lab, by):
    found = rerun(lab, rerouting.off(5) + rerouting.scale(by))
    assert not (found.routing.experts == 5).any() and not found.logits.isnan().any()


def test_a_token_without_any_expert_is_refused_by_its_place(lab):
    message = "blocks.1.mlp.hook_router_logits rule out every expert of token 2:"
    with pytest.raises(HookError, match=message):
        rerun(lab, rerouting.off(range(4)) + rerouting.off(range(4, 8), tokens=2, layers=1))


def test_experts_that_are_switched_off_and_forced_on_again_are_on(lab):
    every = rerouting.off(range(4)) + rerouting.off(range(4, 8))
    found = rerun(lab, every + rerouting.on([1, 2, 5]))
    assert torch.equal(found.routing.experts.sort(dim=-1).values.unique(), torch.tensor([1, 2, 5]))
