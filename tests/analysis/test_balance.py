import pytest
import torch
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from qwen3lab.analysis.balance import balance, balance_loss, expert_importance


def test_a_uniform_load_has_a_variation_of_zero():
    found = balance(torch.full((8,), 0.125))
    assert (found.variation, found.most, found.least, found.dead) == (0.0, 1.0, 1.0, ())


def test_the_balance_of_a_load_is_relative_to_uniform_load():
    found = balance(torch.tensor([6.0, 2.0, 0.0, 0.0]))
    # By hand: mean 2, squared deviations 16 + 0 + 4 + 4, so a deviation of the root of 6.
    assert found.variation == pytest.approx(6**0.5 / 2)
    assert (found.most, found.least, found.dead) == (3.0, 0.0, (2, 3))


def test_a_load_of_zero_is_refused():
    with pytest.raises(ValueError, match="no token was counted"):
        balance(torch.zeros(4))


def test_importance_sums_the_weights_of_each_expert():
    experts = torch.tensor([[0, 2], [2, 1]])
    weights = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    assert expert_importance(experts, weights, 4).tolist() == [0.75, 0.5, 0.75, 0.0]


def test_the_balance_loss_equals_that_of_transformers():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 8, generator=generator)
    experts = logits.topk(3, dim=-1).indices
    # transformers counts each of the k choices in full, so its value is k times Switch's.
    theirs = load_balancing_loss_func((logits,), num_experts=8, top_k=3)
    torch.testing.assert_close(balance_loss(logits, experts) * 3, theirs)


def test_the_balance_loss_is_one_for_uniform_load_and_the_number_of_experts_for_a_single_one():
    every = torch.arange(8)[:, None]
    torch.testing.assert_close(balance_loss(torch.zeros(8, 8), every), torch.tensor(1.0))
    one = torch.zeros(10, 8)
    one[:, 2] = 100.0
    same = torch.full((10, 1), 2)
    torch.testing.assert_close(balance_loss(one, same), torch.tensor(8.0))
