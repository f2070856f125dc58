"""Merged models: planted equal experts, a mean by hand, and transformers on the checkpoint."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

from qwen3lab import tiny
from qwen3lab.checkpoints import save_checkpoint
from qwen3lab.experiments.effects import Text, error_rates, group_losses
from qwen3lab.experiments.merging import merge, merging_curve, similar_groups
from qwen3lab.experiments.pruning import pruning_curve, random_scores
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from tests.reference import small_config, tokens

TEXTS = [Text("x", [5, 9, 3, 41, 7, 8, 2]), Text("y", [1, 2, 3, 4])]
FAR = 100.0


def random_lab(tokenizer) -> Lab:
    config = small_config(d_vocab=len(tokenizer), n_experts_per_token=2)
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return Lab(model, tokenizer, "small")


@pytest.fixture(scope="module")
def lab(tiny_tokenizer):
    return random_lab(tiny_tokenizer)


@pytest.fixture(scope="module")
def twins(tiny_tokenizer):
    """Expert 3 of each layer is expert 1 with its neurons in another order."""
    lab = random_lab(tiny_tokenizer)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in lab.config.moe_layers:
            mlp = lab.model.blocks[layer].mlp
            order = torch.randperm(lab.config.d_expert, generator=generator)
            gate, up = mlp.gate_up[1].chunk(2)
            mlp.gate_up[3] = torch.cat([gate[order], up[order]])
            mlp.down[3] = mlp.down[1][:, order]
    return lab


@pytest.fixture(scope="module")
def scores(lab):
    shape = (len(lab.config.moe_layers), lab.config.n_experts)
    return torch.rand(shape, generator=torch.Generator().manual_seed(2))


def pairs(lab) -> dict[int, list[list[int]]]:
    """Experts 1 and 3 in one group, every other one alone."""
    others = [[e] for e in range(lab.config.n_experts) if e not in (1, 3)]
    return {layer: [[1, 3], *others] for layer in lab.config.moe_layers}


def logits(lab) -> torch.Tensor:
    return lab.record([3, 1, 4, 1, 5, 9, 2, 6]).logits


def test_two_equal_experts_are_merged_without_loss_if_the_router_stays(twins, scores):
    merged = merge(twins, pairs(twins), scores, router="all")
    assert merged.config == twins.config
    torch.testing.assert_close(logits(merged), logits(twins), rtol=1e-4, atol=1e-4)


def test_two_equal_experts_are_merged_without_loss_if_one_of_them_is_never_chosen(twins, scores):
    lab = Lab(copy.deepcopy(twins.model), twins.tokenizer, "one of two")
    with torch.no_grad():
        for layer in lab.config.moe_layers:
            block = lab.model.blocks[layer]
            block.mlp.router.weight[3] = block.mlp.router.weight[1]

    def never_third(values, name):
        values = values.clone()
        values[..., 3] = -FAR
        return values

    hooks = [f"blocks.{layer}.mlp.hook_router_logits" for layer in lab.config.moe_layers]
    before = lab.record([3, 1, 4, 1, 5], edits=dict.fromkeys(hooks, never_third)).logits
    merged = merge(lab, pairs(lab), scores)
    assert merged.config.n_experts == lab.config.n_experts - 1
    torch.testing.assert_close(merged.record([3, 1, 4, 1, 5]).logits, before, rtol=1e-4, atol=1e-4)


def test_different_experts_lose_something(lab, scores):
    merged = merge(lab, pairs(lab), scores, router="all")
    assert not torch.allclose(logits(merged), logits(lab), atol=1e-2)


def test_matrices_are_the_mean_of_the_aligned_ones_weighted_by_the_scores(twins):
    layer = twins.config.moe_layers[0]
    lab = Lab(copy.deepcopy(twins.model), twins.tokenizer, "shifted")
    with torch.no_grad():  # Still in the order of the neurons, but not equal any more.
        lab.model.blocks[layer].mlp.gate_up[3] += 0.01
        lab.model.blocks[layer].mlp.down[3] += 0.02
    scores = torch.zeros(len(lab.config.moe_layers), lab.config.n_experts)
    scores[:, 1], scores[:, 3] = 1.0, 3.0
    merged = merge(lab, pairs(lab), scores).model.blocks[layer].mlp
    old = twins.model.blocks[layer].mlp
    # A quarter of expert 1, and three quarters of it with the shift.
    torch.testing.assert_close(merged.gate_up[0], old.gate_up[1] + 0.0075, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(merged.down[0], old.down[1] + 0.015, rtol=1e-5, atol=1e-5)
    assert torch.equal(merged.router.weight[0], old.router.weight[1])


@pytest.mark.parametrize("router", ["centroid", "all"])
@torch.no_grad()
def test_transformers_opens_the_exported_checkpoint_with_the_same_logits(
    lab, scores, tmp_path, router
):
    groups = similar_groups(lab, TEXTS, scores, 3)
    merged = merge(lab, groups, scores, router=router)
    save_checkpoint(merged.model, tmp_path)
    hf = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, experts_implementation="eager"
    )
    assert hf.config.num_experts == (3 if router == "centroid" else lab.config.n_experts)
    ids = tokens(batch=2, length=9)
    torch.testing.assert_close(merged.model(ids), hf(ids).logits, rtol=1e-4, atol=1e-4)


def test_experts_join_the_centroid_whose_outputs_are_most_similar(twins):
    n = twins.config.n_experts
    scores = torch.arange(n, 0, -1.0).repeat(len(twins.config.moe_layers), 1)
    scores[:, 3] = 0.5  # So that its twin is a centroid and it is not.
    for groups in similar_groups(twins, TEXTS, scores, n - 1).values():
        assert [1, 3] in groups
        assert sorted(e for group in groups for e in group) == list(range(n))
    with pytest.raises(ValueError, match="there is no text"):
        similar_groups(twins, [], scores, 3)


def test_the_given_model_is_not_changed(lab, scores):
    before = {name: value.clone() for name, value in lab.model.state_dict().items()}
    for router in ("centroid", "all"):
        merge(lab, pairs(lab), scores, router=router)
    after = lab.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_curve_stands_beside_that_of_pruning(lab, scores):
    options = {"shares": (1, 0.5), "progress": False}
    merged = merging_curve(lab, {"mine": scores}, TEXTS, similar_on=TEXTS, **options)
    both = pruning_curve(lab, {"mine": scores}, TEXTS, n_random=0, **options) + merged
    n = lab.config.n_experts
    assert [(each.score, each.n_experts) for each in both.points] == [
        ("mine", n),
        ("mine", n // 2),
        ("mine, merged", n),
        ("mine, merged", n // 2),
    ]
    assert both.points[2].loss == group_losses(lab, TEXTS, progress=False)
    model = merge(lab, similar_groups(lab, TEXTS, scores, n // 2), scores)
    assert both.points[3].loss == pytest.approx(group_losses(model, TEXTS, progress=False))


def test_a_curve_has_errors_and_random_centroids_beside_the_score(tiny_lab):
    config = tiny_lab.config
    scores = random_scores(config, 9)
    texts = [Text("sums", tiny_lab.token_ids("3+4*2=?"))]
    problems = {"sums": tiny.problems("arithmetic", n=8, steps=1)}
    curve = merging_curve(
        tiny_lab,
        {"mine": scores},
        texts,
        similar_on=texts,
        problems=problems,
        shares=(1, 0.875),
        n_random=2,
        seed=4,
        thinking=False,
        progress=False,
    )
    assert [(each.score, each.seed, each.n_experts, each.is_random) for each in curve.points] == [
        ("mine, merged", 0, 16, False),
        ("mine, merged", 0, 14, False),
        ("random, merged", 4, 14, True),
        ("random, merged", 5, 14, True),
    ]
    drawn = torch.rand(6, 16, generator=torch.Generator().manual_seed(5))
    groups = similar_groups(tiny_lab, texts, drawn, 14)
    model = merge(tiny_lab, groups, torch.ones(6, 16))
    options = {"thinking": False, "progress": False}
    assert curve.points[0].errors == error_rates(tiny_lab, problems, **options)
    assert curve.points[-1].errors == error_rates(model, problems, **options)
    assert curve.points[-1].loss == pytest.approx(group_losses(model, texts, progress=False))
    assert len({each.errors["sums"] for each in curve.points}) > 1


def test_groups_and_scores_that_do_not_fit_are_refused(lab, scores):
    layers, n = lab.config.moe_layers, lab.config.n_experts

    def groups(*listed):
        return dict.fromkeys(layers, listed)

    for given, reason in [
        (groups([0, 1], [1, 2]), "expert 1 is in two groups"),
        (groups([0], []), "a group is empty"),
        (groups([0], [n]), f"expert {n} does not exist"),
        (groups([0, 1, 2]), "1 experts stay, and a token is routed to 2"),
        ({layers[0]: [[0], [1]]}, "the layers with experts are"),
    ]:
        with pytest.raises(ValueError, match=reason):
            merge(lab, given, scores)
    for wrong in (scores[:, :2], -scores):
        with pytest.raises(ValueError, match=r"expected .* and none below 0"):
            merge(lab, pairs(lab), wrong)
    with pytest.raises(ValueError, match="router is 'mean': choose from centroid, all"):
        merge(lab, pairs(lab), scores, router="mean")
    with pytest.raises(ValueError, match=r"a share of 2 leaves"):
        merging_curve(lab, {"a": scores}, TEXTS, similar_on=TEXTS, shares=[2], progress=False)
