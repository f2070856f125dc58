import pytest
import torch

from qwen3lab.analysis.heads import (
    attention_between,
    duplicate_token_score,
    induction_score,
    previous_token_score,
)


def planted(n, target):
    """A head with all attention on `target`, or on its own token if there is no target."""
    pattern = torch.zeros(1, n, n)
    for query in range(n):
        key = target(query)
        pattern[0, query, key if key >= 0 else query] = 1
    return pattern


KINDS = {
    "previous": (lambda query: query - 1, lambda pattern: previous_token_score(pattern)),
    "duplicate": (lambda query: query - 5, lambda pattern: duplicate_token_score(pattern, 5)),
    "induction": (
        lambda query: query - 4 if query >= 5 else -1,
        lambda pattern: induction_score(pattern, 5),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_head_scores_one_for_its_kind_and_zero_for_the_others(kind):
    pattern = planted(15, KINDS[kind][0])
    scores = {name: float(score(pattern)) for name, (_, score) in KINDS.items()}
    assert scores == {name: float(name == kind) for name in KINDS}


def test_head_scores_equal_means_computed_by_hand():
    pattern = torch.tensor(
        [[[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.1, 0.2, 0.3, 0.4]]]
    )
    assert previous_token_score(pattern).item() == pytest.approx((0.5 + 0.3 + 0.3) / 3)
    assert duplicate_token_score(pattern, 2).item() == pytest.approx((0.2 + 0.2) / 2)
    assert induction_score(pattern, 2).item() == pytest.approx((0.3 + 0.3) / 2)


def test_head_scores_equal_diagonal_means_as_in_transformer_lens():
    # As in the Main Demo: the mean of `pattern.diagonal(dim1=-2, dim2=-1, offset=1 - seq_len)`.
    pattern = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0)).tril()
    stripe = pattern.diagonal(dim1=-2, dim2=-1, offset=1 - 10)
    # The demo's diagonal has one more entry, for a token without an earlier occurrence.
    torch.testing.assert_close(induction_score(pattern, 10), stripe[:, 1:].mean(-1))
    stripe = pattern.diagonal(dim1=-2, dim2=-1, offset=-10)
    torch.testing.assert_close(duplicate_token_score(pattern, 10), stripe.mean(-1))


def test_attention_between_positions_is_averaged():
    pattern = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(1))
    found = attention_between(pattern, torch.tensor([5, 3]), torch.tensor([0, 2]))
    torch.testing.assert_close(found, (pattern[:, 5, 0] + pattern[:, 3, 2]) / 2)


def test_a_sequence_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="expected more than 8"):
        induction_score(torch.zeros(1, 8, 8), 8)
    with pytest.raises(ValueError, match="no pairs"):
        attention_between(torch.zeros(1, 2, 2), torch.tensor([]).long(), torch.tensor([]).long())
