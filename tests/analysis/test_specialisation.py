import math

import numpy as np
import pytest
import torch

from qwen3lab.analysis.specialisation import (
    by_document,
    label_information,
    mutual_information,
    npmi,
    share_intervals,
    shares_by_label,
)
from qwen3lab.recording.recording import Recording
from tests.reference import small_config


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[5.0, 0, 0], [0, 7, 0]], -(5 / 12 * math.log(5 / 12) + 7 / 12 * math.log(7 / 12))),
        ([[1.0, 1], [1, 1]], 0.0),
        ([[3.0, 6], [2, 4]], 0.0),
        # By hand: 0.4 log(0.4 / 0.25) twice and 0.1 log(0.1 / 0.25) twice.
        ([[4.0, 1], [1, 4]], 0.8 * math.log(1.6) + 0.2 * math.log(0.4)),
        ([[4.0]], 0.0),
    ],
)
def test_mutual_information_equals_its_definition_in_nats(counts, expected):
    assert mutual_information(torch.tensor(counts)) == pytest.approx(expected, abs=1e-12)


def test_planted_specialisation_is_above_every_shuffle():
    labels = torch.arange(40) % 4
    counts = torch.full((40, 8), 10.0)
    counts[torch.arange(40), labels] += 30
    found = label_information(counts, labels)
    assert found.above_chance
    assert found.value > 3 * found.shuffled[-1]
    assert len(found.shuffled) == 200


def test_independent_experts_are_not_above_chance():
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(5, 15, (60, 8), generator=generator).float()
    found = label_information(counts, torch.arange(60) % 3)
    assert not found.above_chance


def test_shuffles_are_reproducible_with_a_seed():
    counts, labels = torch.rand(10, 3), torch.arange(10) % 2
    assert label_information(counts, labels) == label_information(counts, labels)
    assert label_information(counts, labels, seed=1) != label_information(counts, labels)


def test_with_few_documents_every_order_is_used_once():
    # Of the six orders, two give label 0 to the first document: two documents share label 1.
    counts, labels = torch.tensor([[4.0, 0], [0, 4], [0, 4]]), torch.tensor([0, 1, 1])
    found = label_information(counts, labels)
    apart = -(1 / 3 * math.log(1 / 3) + 2 / 3 * math.log(2 / 3))
    # Label 0 on the second or third document: p(l, e) = 0 and 1/3, 1/3 and 1/3.
    mixed = 1 / 3 * (math.log(3 / 2) + math.log(3 / 2) + math.log(3 / 4))
    assert found.value == pytest.approx(apart)
    assert found.shuffled == pytest.approx([mixed] * 4 + [apart] * 2)
    assert not found.above_chance


def test_labels_of_one_document_are_refused():
    with pytest.raises(ValueError, match="expected at least two"):
        label_information(torch.ones(1, 2), torch.tensor([0]))


def test_counts_of_zero_are_refused():
    with pytest.raises(ValueError, match="nothing was counted"):
        mutual_information(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="nothing was counted"):
        label_information(torch.zeros(4, 3), torch.tensor([0, 0, 1, 1]))


def test_shares_are_the_tokens_of_a_label_routed_to_an_expert():
    experts = torch.tensor([[0, 1], [0, 2], [3, 1], [3, 1]])
    found = shares_by_label(experts, torch.tensor([0, 0, 2, 2]), 4)
    # By hand: both tokens of label 0 are routed to expert 0; label 1 has no tokens.
    assert found[0].tolist() == [1.0, 0.5, 0.5, 0.0]
    assert found[1].isnan().all()
    assert found[2].tolist() == [0.0, 1.0, 0.0, 1.0]


def test_a_label_list_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="3 labels for 4 tokens"):
        shares_by_label(torch.zeros(4, 2, dtype=torch.long), torch.zeros(3, dtype=torch.long), 4)


def test_a_planted_specialisation_is_recovered_within_its_interval():
    # Documents of 50 tokens; each is routed to the expert with probability 0.8 or 0.3, by label.
    rng = np.random.default_rng(0)
    planted = torch.tensor([[0.8, 0.2], [0.3, 0.7]])
    labels = torch.arange(80) % 2
    first = torch.tensor(rng.binomial(50, planted[labels, 0].numpy()))
    counts = torch.stack([first, 50 - first], dim=1).float()
    found = share_intervals(counts, torch.full((80,), 50), labels)
    assert (found.low <= planted).all() and (planted <= found.high).all()
    # The standard error of 2000 tokens' share is at most 0.011.
    assert (found.high - found.low < 0.06).all()
    torch.testing.assert_close(found.value, planted, atol=0.04, rtol=0)


def test_identical_documents_give_an_interval_of_width_zero():
    counts, labels = torch.tensor([[3.0, 1.0]] * 4), torch.tensor([0, 0, 1, 1])
    found = share_intervals(counts, torch.full((4,), 4), labels)
    assert found.low.equal(found.high) and found.value[0].tolist() == [0.75, 0.25]


def test_the_interval_of_a_single_document_is_nan():
    counts, labels = torch.tensor([[3.0, 1.0], [1.0, 3.0], [2.0, 2.0]]), torch.tensor([0, 1, 1])
    found = share_intervals(counts, torch.full((3,), 4), labels)
    assert found.low[0].isnan().all() and found.high[0].isnan().all()
    assert found.value[0].tolist() == [0.75, 0.25] and not found.low[1].isnan().any()


def test_a_label_without_a_document_is_refused():
    with pytest.raises(ValueError, match="label 0 has no document"):
        share_intervals(torch.ones(1, 2), torch.tensor([2]), torch.tensor([1]))


def test_npmi_is_one_for_exclusive_pairs_and_minus_one_for_pairs_that_never_occur():
    assert npmi(torch.tensor([[5.0, 0.0], [0.0, 5.0]])).tolist() == [[1.0, -1.0], [-1.0, 1.0]]
    torch.testing.assert_close(npmi(torch.tensor([[2.0, 4.0], [3.0, 6.0]])), torch.zeros(2, 2))
    assert npmi(torch.tensor([[7.0]])).tolist() == [[1.0]]
    assert npmi(torch.tensor([[1.0, 0.0]]))[0, 1].isnan()


def test_npmi_equals_a_value_computed_by_hand():
    found = npmi(torch.tensor([[2.0, 2.0], [0.0, 4.0]]))
    # p(0, 0) = 1/4, p(0) = 1/2, p(0) of the expert 1/4: log(2) over log(4).
    assert float(found[0, 0]) == pytest.approx(0.5)


def test_counts_have_a_row_for_each_document():
    one, two, three = (
        recorded(rows) for rows in ([[0, 1], [0, 2]], [[3, 0]], [[1, 2], [1, 3], [1, -1]])
    )
    counts, tokens, labels = by_document({"a": [one, two], "b": [three]}, 1)
    assert counts[:, :4].tolist() == [[2, 1, 1, 0], [1, 0, 0, 1], [0, 3, 1, 1]]
    assert tokens.tolist() == [2, 1, 3]
    assert labels.tolist() == [0, 0, 1]


def recorded(rows):
    """A recording with these choices in the second layer with experts."""
    chosen = {1: [[6, 7]] * len(rows), 2: rows}
    kept = {f"blocks.{n}.mlp.hook_expert_indices": torch.tensor(e) for n, e in chosen.items()}
    return Recording(torch.arange(len(rows)), ["t"] * len(rows), small_config(), "planted", kept)
