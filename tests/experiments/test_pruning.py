"""Pruned models, compared with transformers and with a router that never chooses the others."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from qwen3lab import load, tiny
from qwen3lab.checkpoints import save_checkpoint
from qwen3lab.errors import LabError
from qwen3lab.experiments.effects import Text, group_losses
from qwen3lab.experiments.pruning import best_experts, prune, pruning_curve
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from tests.reference import small_config, tokens

N = 3


@pytest.fixture(scope="module")
def lab(tiny_tokenizer):
    config = small_config(d_vocab=len(tiny_tokenizer), n_experts_per_token=2)
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return Lab(model, tiny_tokenizer, "small")


@pytest.fixture(scope="module")
def kept(lab):
    generator = torch.Generator().manual_seed(3)
    scores = torch.rand(len(lab.config.moe_layers), lab.config.n_experts, generator=generator)
    return best_experts(scores, lab.config.moe_layers, N)


@torch.no_grad()
def test_logits_are_those_of_a_router_that_never_chooses_the_others(lab, kept):
    ids = tokens(batch=2, length=9)

    def only_kept(logits, name):
        layer = int(name.split(".")[1])
        others = [e for e in range(lab.config.n_experts) if e not in kept[layer]]
        logits = logits.clone()
        logits[..., others] = -1e9
        return logits

    edits = {f"blocks.{layer}.mlp.hook_router_logits": only_kept for layer in kept}
    rows = ids.tolist()
    found = prune(lab, kept).record_batch(rows)
    for rec, expected in zip(found, lab.record_batch(rows, edits=edits), strict=True):
        torch.testing.assert_close(rec.logits, expected.logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_transformers_opens_the_exported_checkpoint_with_the_same_logits(lab, kept, tmp_path):
    pruned = prune(lab, kept)
    save_checkpoint(pruned.model, tmp_path)
    hf = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, experts_implementation="eager"
    )
    assert hf.config.num_experts == N
    ids = tokens(batch=2, length=9)
    torch.testing.assert_close(pruned.model(ids), hf(ids).logits, rtol=1e-4, atol=1e-4)


def test_the_given_model_is_not_changed_and_all_experts_give_the_same_model(lab, kept):
    before = {name: value.clone() for name, value in lab.model.state_dict().items()}
    pruned = prune(lab, kept)
    assert pruned.config.n_params < lab.config.n_params
    after = lab.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    every = {layer: range(lab.config.n_experts) for layer in lab.config.moe_layers}
    same = prune(lab, every).record([1, 2, 3]).logits
    assert torch.equal(same, lab.record([1, 2, 3]).logits)


def test_the_best_experts_have_the_largest_scores():
    scores = torch.tensor([[0.1, 0.4, 0.3, 0.2], [5.0, 1.0, 7.0, 1.0]])
    assert best_experts(scores, (1, 4), 2) == {1: (1, 2), 4: (0, 2)}
    with pytest.raises(ValueError, match="expected 1 layers"):
        best_experts(scores, (1,), 2)


def test_what_cannot_be_pruned_is_refused(lab, kept):
    layers, n = lab.config.moe_layers, lab.config.n_experts
    with pytest.raises(ValueError, match="the layers with experts are"):
        prune(lab, {layers[0]: [0, 1]})
    with pytest.raises(ValueError, match="experts: a config has one number"):
        prune(lab, {**kept, layers[0]: [0, 1]})
    with pytest.raises(ValueError, match="expected each expert once"):
        prune(lab, {**kept, layers[0]: [0, 1, 1]})
    with pytest.raises(ValueError, match=f"expert {n} does not exist"):
        prune(lab, {**kept, layers[0]: [0, 1, n]})
    with pytest.raises(ValueError, match="1 experts stay, and a token is routed to 2"):
        prune(lab, {layer: [0] for layer in layers})
    with pytest.raises(LabError, match="streamed or quantised"):
        prune(load("tiny-moe", memory="40MB"), {})
    with pytest.raises(ValueError, match=r"a share of 0\.1 leaves"):
        pruning_curve(lab, {}, [Text("x", [1, 2])], shares=[0.1], progress=False)


def test_a_curve_measures_each_pruned_model_and_random_ones_beside_it(tiny_lab):
    config = tiny_lab.config
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(len(config.moe_layers), config.n_experts, generator=generator)
    texts = [Text("sums", tiny_lab.token_ids("3+4*2=?")), Text("words", [5, 9, 300, 41])]
    problems = {"sums": tiny.problems("arithmetic", n=2, steps=1)}
    curve = pruning_curve(
        tiny_lab,
        {"mine": scores},
        texts,
        problems=problems,
        shares=(1, 0.5),
        n_random=2,
        thinking=False,
        progress=False,
    )
    assert [(each.score, each.seed, each.n_experts) for each in curve.points] == [
        ("mine", 0, 16),
        ("mine", 0, 8),
        ("random", 0, 8),
        ("random", 1, 8),
    ]
    whole, half, first, second = curve.points
    assert whole.loss == group_losses(tiny_lab, texts)
    pruned = prune(tiny_lab, best_experts(scores, config.moe_layers, 8))
    assert half.loss == group_losses(pruned, texts)
    assert first.loss != second.loss
    assert all(0 <= each.errors["sums"] <= 1 for each in curve.points)
    table = curve.to_pandas()
    assert len(table) == 4 * 3
    assert set(table.measure) == {"loss", "errors"}
