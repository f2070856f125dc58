import math

import pytest
import torch

from qwen3lab.analysis.choices import effective_experts, margin, new_experts, router_entropy


def test_router_entropy_is_the_entropy_of_the_softmax():
    p = torch.tensor([[0.5, 0.25, 0.25, 1e-30], [0.25, 0.25, 0.25, 0.25]])
    # By hand: 1.5 bits, and 2 bits.
    bits = router_entropy(p.log() + 3.0) / math.log(2)
    torch.testing.assert_close(bits, torch.tensor([1.5, 2.0]))
    torch.testing.assert_close(router_entropy(p.log(), relative=True), torch.tensor([0.75, 1.0]))


def test_a_certain_choice_has_an_entropy_of_zero_and_not_nan():
    logits = torch.tensor([0.0, -torch.inf, -torch.inf])
    assert float(router_entropy(logits)) == 0.0


def test_the_margin_is_the_difference_of_the_last_chosen_and_the_first_other_logit():
    logits = torch.tensor([[3.0, 0.5, 2.0, 1.0]])
    assert margin(logits, 2).tolist() == [1.0]
    assert margin(logits, 1).tolist() == [1.0]
    assert margin(logits, 3).tolist() == [0.5]


@pytest.mark.parametrize("k", [0, 4])
def test_a_margin_without_chosen_or_without_other_experts_is_refused(k):
    with pytest.raises(ValueError, match="needs 1 to 3"):
        margin(torch.zeros(2, 4), k)


def test_effective_experts_weight_each_expert_by_its_share():
    weights = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.2, 0.2, 0.0, 0.0]])
    torch.testing.assert_close(effective_experts(weights), torch.tensor([4.0, 1.0, 2.0]))


def test_new_experts_are_those_that_the_previous_token_was_not_routed_to():
    experts = torch.tensor([[[0, 1], [1, 0], [1, 2], [3, 4]]])
    found = new_experts(experts)
    assert math.isnan(float(found[0, 0]))
    assert found[0, 1:].tolist() == [0.0, 0.5, 1.0]


def test_new_experts_of_a_single_token_are_undefined():
    assert new_experts(torch.tensor([[3, 1]])).isnan().all()
