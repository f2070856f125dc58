"""Parts of an atlas, against values by hand."""

import math

import pytest
import torch

from qwen3lab.analysis.atlas import (
    Association,
    Atlas,
    Example,
    ExpertEntry,
    Neighbour,
    associations,
    neighbours,
    telling_tokens,
)

ENTRY = ExpertEntry(
    layer=2,
    expert=1,
    share=0.25,
    labels=(Association("kind", "sum", 0.5, 0.75), Association("role", "digit", 0.25, 0.5)),
    tokens=(("7", 0.75),),
    examples=(Example(0.5, 3, "1+", "7", "=?"),),
    together=(Neighbour(2, 0, 0.5, 0.25),),
    following=(),
)
EMPTY = ExpertEntry(2, 0, 0.0, (), (), (), (), ())
ATLAS = Atlas("small", (2,), 2, ("kind", "role"), {(2, 0): EMPTY, (2, 1): ENTRY})


def test_labels_are_those_of_the_largest_npmi_above_zero():
    counts = torch.tensor([[6.0, 0.0, 0.0], [2.0, 8.0, 0.0]])
    first, second, unused = associations(
        counts, torch.tensor([12, 10]), ["a", "b"], column="kind", n=2
    )
    # p(a, 0) = 6/16, p(a) = 6/16, p(0) = 8/16: log(2) / -log(6/16).
    assert [each.label for each in first] == ["a"]
    assert first[0].npmi == pytest.approx(math.log(2) / -math.log(6 / 16))
    assert first[0].share == pytest.approx(0.5)
    assert [(each.label, each.share) for each in second] == [("b", pytest.approx(0.8))]
    assert unused == ()
    with pytest.raises(ValueError, match="1 labels and 2 numbers of tokens for 2 rows"):
        associations(counts, torch.tensor([12, 10]), ["a"], column="kind")


def test_neighbours_get_the_tokens_more_often_than_others():
    together = torch.tensor([[10, 6, 5], [6, 20, 0], [5, 0, 8]])
    loads, own = torch.tensor([0.2, 0.5, 0.1]), torch.tensor([10, 20, 8])
    first, second, third = neighbours(together, loads, own, layer=4, same_layer=True, n=2)
    # Expert 1 gets the larger share of expert 0's tokens, but 2 is further above its load.
    assert [(each.expert, each.share) for each in first] == [
        (2, pytest.approx(0.5)),
        (1, pytest.approx(0.6)),
    ]
    assert first[0].above == pytest.approx(0.4)
    assert [each.expert for each in second] == [0]
    assert [each.expert for each in third] == [0]
    later = neighbours(together, loads, own, layer=5, same_layer=False, n=1)
    assert [each[0].expert for each in later] == [0, 1, 2]


def test_telling_tokens_are_frequent_and_go_to_the_expert_more_often_than_others():
    counts = torch.tensor([[90.0, 10.0], [1.0, 0.0], [50.0, 50.0]])
    first, second = telling_tokens(counts, n=5)
    assert [row for row, _ in first] == [0, 1]  # 1 is exclusive, and rare.
    assert first[0][1] == pytest.approx(0.9)
    assert second == [(2, pytest.approx(0.5))]


def test_an_entry_and_an_atlas_show_what_they_hold():
    assert ATLAS[2, 1].best("role").label == "digit"
    assert ATLAS[2, 0].best("role") is None
    row = ATLAS.to_pandas().iloc[1]
    assert (row.kind, row.role, row["with"], row.tokens) == ("sum", "digit", "0", "'7'")
    assert "2 in 1 layer," in repr(ATLAS)
    assert "25.0% of all" in repr(ENTRY)
    assert "1+" in ENTRY._repr_html_()
    with pytest.raises(IndexError, match=r"no expert \(3, 0\): the layers are 2, with experts 0"):
        ATLAS[3, 0]
