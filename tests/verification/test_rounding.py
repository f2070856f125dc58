"""The tolerance is the reference's own rounding error; ties of experts are recognised."""

import torch

from qwen3lab.verification.rounding import by_expert, compare_choices, distance

EPS = torch.finfo(torch.float32).eps


def test_an_error_is_relative_to_its_row_and_the_worst_row_counts():
    exact = torch.tensor([[3.0, 4.0], [0.0, 10.0]], dtype=torch.float64)
    ours, theirs = exact.float(), exact.float()
    ours[0, 0] += 0.5
    theirs[1, 1] += 0.1
    found = distance(ours, theirs, exact)
    assert abs(found.ours - 0.1) < 1e-6 and abs(found.theirs - 0.01) < 1e-6
    assert abs(found.allowed - 0.08) < 1e-6 and not found.holds


def test_a_reference_that_rounds_to_nothing_leaves_two_units():
    exact = torch.ones(3, 4, dtype=torch.float64)
    ones = exact.float()
    assert distance(ones, ones, exact).allowed == 2 * EPS
    assert distance(ones + EPS, ones, exact).holds
    assert not distance(ones + 4 * EPS, ones, exact).holds


def test_a_nan_does_not_hold():
    exact = torch.ones(2, 4, dtype=torch.float64)
    ours = exact.float()
    ours[1, 2] = float("nan")
    assert not distance(ours, exact.float(), exact).holds


def test_rows_that_are_left_out_do_not_count():
    exact = torch.ones(1, 2, 4, dtype=torch.float64)
    ours = exact.float()
    ours[0, 1] = 5.0
    kept = torch.tensor([[True, False]])
    assert distance(ours, exact.float(), exact, kept).ours == 0
    assert distance(ours, exact.float(), exact, ~kept[:, [0, 0]]).holds  # No row at all.


def test_the_typical_row_ignores_one_that_is_far_off():
    exact = torch.ones(1, 5, 4, dtype=torch.float64)
    ours = exact.float()
    ours[0, 1] = 50.0
    assert distance(ours, exact.float(), exact, typical=True).ours == 0


def choices(logits, ours, theirs):
    exact = torch.tensor([logits], dtype=torch.float64)
    rounded = exact.float() + EPS
    chosen = torch.tensor([ours]), torch.tensor([theirs])
    return compare_choices(*chosen, chosen[1], rounded, exact)


def test_the_order_of_a_choice_does_not_matter():
    found = choices([3.0, 2.0, 1.0, 0.0], [1, 0], [0, 1])
    assert (found.tied, found.wrong, found.same.tolist()) == (0, 0, [True])


def test_experts_with_equal_logits_are_a_tie():
    found = choices([3.0, 2.0, 2.0, 0.0], [0, 2], [0, 1])
    assert (found.tied, found.wrong, found.same.tolist()) == (1, 0, [False])


def test_experts_with_other_logits_are_no_tie():
    found = choices([3.0, 2.0, 1.9, 0.0], [0, 2], [0, 1])
    assert (found.tied, found.wrong, found.same.tolist()) == (0, 1, [False])


def test_weights_are_ordered_by_expert():
    weights, chosen = torch.tensor([[0.7, 0.3]]), torch.tensor([[5, 2]])
    assert torch.equal(by_expert(weights, chosen), torch.tensor([[0.3, 0.7]]))
