"""Activations equal those of TransformerLens on the same weights, for all hooks of both."""

import pytest
import torch

from qwen3lab.hooks.points import HOOK_POINTS, hook_names
from qwen3lab.loading import load_model
from tests.peers.words import word_tokenizer
from tests.reference import CASES, gap, hf_random, our_activations, tokens

pytestmark = pytest.mark.peer

OURS_ALONE = {"hook_router_logits", "hook_expert_out"}


@pytest.fixture(scope="module", params=CASES)
def both(request, tmp_path_factory):
    """One checkpoint run by qwen3lab and TransformerLens: model, our and their activations."""
    bridge = pytest.importorskip("transformer_lens.model_bridge").TransformerBridge
    folder = tmp_path_factory.mktemp("peer")
    hf_random(request.param).save_pretrained(folder)
    word_tokenizer(97).save_pretrained(folder)
    theirs = bridge.boot_transformers(str(folder))
    theirs.set_use_attn_result(True)
    ids = tokens()
    with torch.no_grad():
        _, cache = theirs.run_with_cache(ids)
    model = load_model(folder)
    return model, our_activations(model, ids), {name: cache[name] for name in cache}


def shared(model, theirs):
    compared_below = ("hook_expert_indices", "hook_expert_weights", "hook_attn_scores")
    return [n for n in hook_names(model.config) if n in theirs and not n.endswith(compared_below)]


def test_every_shared_hook_has_the_same_activation(both):
    model, ours, theirs = both
    gaps = {name: gap(ours[name], theirs[name]) for name in shared(model, theirs)}
    print(f"largest gap: {max(gaps.values()):.2e}")
    assert {name: size for name, size in gaps.items() if size > 1e-5} == {}


def test_only_known_hooks_are_missing_in_transformerlens(both):
    model, _, theirs = both
    without = {name.rpartition(".")[2] for name in hook_names(model.config) if name not in theirs}
    assert without <= OURS_ALONE


def test_the_table_names_the_transformerlens_hook_wherever_there_is_one(both):
    model, _, theirs = both
    for layer in range(model.config.n_layers):
        kinds = ("all", "moe" if layer in model.config.moe_layers else "dense")
        for point in HOOK_POINTS:
            if point.where in kinds:
                named = point.transformer_lens.format(l=layer)
                assert named in theirs or not named, point.pattern
                assert named or point.pattern.format(l=layer) not in theirs


def test_the_chosen_experts_are_the_same_and_in_the_same_order(both):
    model, ours, theirs = both
    for layer in model.config.moe_layers:
        name = f"blocks.{layer}.mlp.hook_expert_indices"
        assert torch.equal(ours[name].flatten(0, 1), theirs[name])


def test_their_expert_weights_are_ours_in_one_column_per_expert(both):
    model, ours, theirs = both
    for layer in model.config.moe_layers:
        name = f"blocks.{layer}.mlp"
        weights = ours[f"{name}.hook_expert_weights"].flatten(0, 1)
        experts = ours[f"{name}.hook_expert_indices"].flatten(0, 1)
        spread = torch.zeros(len(weights), model.config.n_experts).scatter(1, experts, weights)
        assert gap(spread, theirs[f"{name}.hook_expert_weights"]) < 1e-6


def test_their_routers_output_is_our_router_logits(both):
    model, ours, theirs = both
    for layer in model.config.moe_layers:
        logits = ours[f"blocks.{layer}.mlp.hook_router_logits"].flatten(0, 1)
        assert gap(logits, theirs[f"blocks.{layer}.mlp.gate.hook_out"]) < 1e-5


def test_scores_are_the_same_where_visible_and_lowest_where_masked(both):
    model, ours, theirs = both
    visible = torch.ones(20, 20).tril().bool()
    for layer in range(model.config.n_layers):
        name = f"blocks.{layer}.attn.hook_attn_scores"
        assert gap(ours[name][..., visible], theirs[name][..., visible]) < 1e-5
        assert (ours[name][..., ~visible] == -torch.inf).all()
        assert (theirs[name][..., ~visible] <= torch.finfo(torch.float32).min).all()
