"""Slots that an edit left empty do not count for any expert."""

import torch

from qwen3lab.analysis.balance import expert_importance
from qwen3lab.analysis.choices import new_experts
from qwen3lab.analysis.routing import expert_load, weights_by_expert
from qwen3lab.analysis.specialisation import choice_overlap, shares_by_label
from qwen3lab.analysis.structure import chosen, committee

# Three tokens, four experts: the second token has one expert, the others two.
EXPERTS = torch.tensor([[0, 2], [2, -1], [3, 0]])
WEIGHTS = torch.tensor([[0.75, 0.25], [1.0, 0.0], [0.5, 0.5]])


def test_empty_slots_do_not_count_in_load_and_importance():
    assert expert_load(EXPERTS, 4).tolist() == torch.tensor([0.4, 0, 0.4, 0.2]).tolist()
    assert expert_importance(EXPERTS, WEIGHTS, 4).tolist() == [1.25, 0, 1.25, 0.5]


def test_weights_of_empty_slots_are_not_added_to_an_expert():
    table = weights_by_expert(EXPERTS, WEIGHTS, 4)
    assert table.tolist() == [[0.75, 0, 0.25, 0], [0, 0, 1, 0], [0.5, 0, 0, 0.5]]


def test_an_empty_slot_is_not_counted_as_the_last_expert():
    expected = [[True, False, True, False], [False, False, True, False], [True, False, False, True]]
    assert chosen(EXPERTS, 4).tolist() == expected
    assert committee(EXPERTS, 4, at_least=0.6) == (0, 2)
    shares = shares_by_label(EXPERTS, torch.tensor([0, 0, 1]), 4)
    assert shares.tolist() == [[0.5, 0, 1, 0], [1, 0, 0, 1]]


def test_new_experts_of_a_token_with_one_expert_are_all_or_none():
    assert new_experts(EXPERTS)[1:].tolist() == [0.0, 1.0]


def test_two_empty_slots_share_no_expert():
    one = torch.tensor([[[3, -1, -1], [1, 2, 0]]])
    other = torch.tensor([[[5, -1, -1], [2, 1, 3]]])
    assert choice_overlap(one, other).tolist() == [2 / 4]
    assert choice_overlap(one, one).tolist() == [1]
