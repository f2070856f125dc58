"""Load and weights by expert, for routing written by hand."""

import pytest
import torch

from qwen3lab.analysis.routing import expert_load, layer_loads, layer_weights, weights_by_expert
from tests.fake_lab import DENSE, MOE, record

EXPERTS = torch.tensor([[0, 2], [2, 3], [2, 0]])


def test_load_is_the_share_of_slots_that_each_expert_received() -> None:
    load = expert_load(EXPERTS, 4)
    torch.testing.assert_close(load, torch.tensor([2 / 6, 0.0, 3 / 6, 1 / 6]))


def test_load_counts_only_the_tokens_of_the_mask() -> None:
    load = expert_load(EXPERTS, 4, mask=torch.tensor([False, True, False]))
    torch.testing.assert_close(load, torch.tensor([0.0, 0.0, 0.5, 0.5]))


def test_a_mask_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="no token is left"):
        expert_load(EXPERTS, 4, mask=torch.zeros(3, dtype=torch.bool))


def test_an_expert_that_does_not_exist_is_refused_with_the_range() -> None:
    with pytest.raises(ValueError, match="expert 3 does not exist: the layer has experts 0 to 2"):
        expert_load(EXPERTS, 3)
    with pytest.raises(ValueError, match="expert -2 does not exist"):
        weights_by_expert(torch.tensor([[-2]]), torch.ones(1, 1), 4)


def test_weights_are_in_the_columns_of_their_experts_and_others_are_zero() -> None:
    weights = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.875, 0.125]])
    expected = torch.tensor(
        [[0.75, 0.0, 0.25, 0.0], [0.0, 0.0, 0.5, 0.5], [0.125, 0.0, 0.875, 0.0]]
    )
    torch.testing.assert_close(weights_by_expert(EXPERTS, weights, 4), expected)


def test_weights_of_a_recorded_layer_are_selected_by_its_number() -> None:
    recording = record(MOE, ["a", "b", "c"], {})
    routing = recording.routing  # layers 1 and 3
    expected = torch.zeros(3, MOE.n_experts)
    for token in range(3):
        for expert, weight in zip(
            routing.experts[1, token], routing.weights[1, token], strict=True
        ):
            expected[token, expert] = weight
    torch.testing.assert_close(layer_weights(recording, 3), expected)
    with pytest.raises(
        ValueError, match="layer 2 has no experts: the layers with experts are 1, 3"
    ):
        layer_weights(recording, 2)


def test_recorded_loads_have_a_row_for_each_layer_with_experts() -> None:
    recording = record(MOE, ["a", "b", "c"], {})
    loads = layer_loads(recording)
    assert loads.shape == (2, MOE.n_experts)
    torch.testing.assert_close(loads[1], expert_load(recording.routing.experts[1], MOE.n_experts))


def test_a_dense_recording_has_tokens_but_no_experts() -> None:
    recording = record(DENSE, ["a", "b", "c"], {})
    assert layer_weights(recording, 0).shape == (3, 0)
    assert layer_loads(recording).numel() == 0
