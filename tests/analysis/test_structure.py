import math

import numpy as np
import pytest
import torch

from qwen3lab.analysis.structure import co_activation, committee, overlap, transitions

# Four tokens with two of four experts each.
FIRST = torch.tensor([[0, 1], [1, 0], [0, 2], [2, 1]])
SECOND = torch.tensor([[3, 2], [3, 2], [3, 0], [3, 0]])


def test_co_activation_is_the_share_of_common_tokens():
    found = co_activation(FIRST, 4)
    # By hand: expert 0 has three tokens; expert 1 has two of these, expert 2 has one, and so on.
    expected = [[1, 2 / 3, 1 / 3], [2 / 3, 1, 1 / 3], [1 / 2, 1 / 2, 1]]
    torch.testing.assert_close(found[:3, :3], torch.tensor(expected))
    assert found[3].isnan().all() and (found[:3, 3] == 0).all()


def test_transitions_are_the_later_experts_of_an_experts_tokens():
    found = transitions(FIRST, SECOND, 4)
    # Expert 0 has tokens 0, 1 and 2: their later experts are 3 2, 3 2, 3 0.
    torch.testing.assert_close(found[0], torch.tensor([1 / 6, 0, 2 / 6, 3 / 6]))
    torch.testing.assert_close(found[:3].sum(dim=1), torch.ones(3))
    with pytest.raises(ValueError, match="4 tokens of one layer and 3"):
        transitions(FIRST, SECOND[:3], 4)


def test_a_committee_has_the_experts_above_the_share_of_tokens():
    assert committee(SECOND, 4) == (3,)
    assert committee(SECOND, 4, at_least=0.5) == (0, 2, 3)


def test_sets_without_common_experts_have_the_maximum_divergence():
    one, other = torch.tensor([[4.0, 4.0, 0.0, 0.0]] * 6), torch.tensor([[0.0, 0.0, 1.0, 3.0]] * 6)
    found = overlap(one, other, n_permutations=499)
    assert found.jaccard == 0
    assert found.divergence == pytest.approx(math.log(2))
    # Of the 924 splits of twelve groups into two sets of six, two are as extreme.
    assert found.p_value < 0.02


def test_sets_of_the_same_distribution_have_a_large_p_value():
    counts = torch.tensor(np.random.default_rng(0).multinomial(40, [0.25] * 4, size=20)).float()
    found = overlap(counts[:10], counts[10:], n_permutations=499)
    assert found.p_value > 0.05
    assert found.jaccard > 0.8


def test_divergence_and_jaccard_index_compare_the_two_loads():
    one, other = torch.tensor([[3.0, 1.0, 0.0, 4.0]]), torch.tensor([[1.0, 1.0, 2.0, 1.0]])
    found = overlap(one, other, n_permutations=1)
    p, q = (3 / 8, 1 / 8, 0, 4 / 8), (1 / 5, 1 / 5, 2 / 5, 1 / 5)
    halves = [(a, (a + b) / 2) for a, b in zip(p, q, strict=True)]
    halves += [(b, (a + b) / 2) for a, b in zip(p, q, strict=True)]
    expected = sum(x * math.log(x / middle) for x, middle in halves if x) / 2
    assert found.divergence == pytest.approx(expected)
    smaller, larger = 0.2 + 0.125 + 0 + 0.2, 0.375 + 0.2 + 0.4 + 0.5
    assert found.jaccard == pytest.approx(smaller / larger)


def test_with_few_groups_every_permutation_is_used_once():
    # Of the six splits of four groups into two sets of two, two separate the kinds.
    one, other = torch.tensor([[5.0, 0.0]] * 2), torch.tensor([[0.0, 3.0]] * 2)
    assert overlap(one, other).p_value == pytest.approx(2 / 6)
    # One group against three: the observed split is one of four.
    assert overlap(one[:1], torch.cat([other, other[:1]])).p_value == pytest.approx(1 / 4)


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="second set of tokens is empty"):
        overlap(torch.ones(2, 4), torch.zeros(2, 4))
