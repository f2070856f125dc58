import pytest

from qwen3lab.generation.shared_prefixes import shared_prefixes

LONG, OTHER = list(range(100)), list(range(200, 260))


@pytest.mark.parametrize(
    ("prompts", "groups"),
    [
        ([[1, 2], [1, 3]], [(0, [0, 1])]),
        ([[*LONG, 1], [*LONG, 2]], [(100, [0, 1])]),
        ([[*LONG, 1], [7], [*LONG, 2, 2]], [(100, [0, 2]), (0, [1])]),
        # Two groups, one after the other in the order of their first prompts.
        (
            [[*OTHER, 1], [*LONG, 1], [*OTHER, 2], [*LONG, 2, 2], [*OTHER, 3]],
            [(60, [0, 2, 4]), (100, [1, 3])],
        ),
        # Of equal prompts the last token is left, to be read by each.
        ([LONG, LONG, LONG], [(99, [0, 1, 2])]),
        ([LONG, [*LONG, 1]], [(99, [0, 1])]),
        # What all share saves less than what the two halves share.
        (
            [[*OTHER, *LONG, 1], [*OTHER, *LONG, 2], [*OTHER, 9, *LONG], [*OTHER, 9, *LONG, 2]],
            [(160, [0, 1]), (160, [2, 3])],
        ),
    ],
)
def test_prompts_share_the_prefixes_that_save_the_most_tokens(prompts, groups):
    assert shared_prefixes(prompts) == groups


def test_no_prompts_have_no_groups():
    assert shared_prefixes([]) == []


def test_prompts_that_nest_a_thousand_deep_are_grouped():
    prompts = [LONG[:1] * n for n in range(1, 1500)]
    groups = shared_prefixes(prompts)
    assert sorted(index for _, members in groups for index in members) == list(range(1499))
    for n, members in groups:
        assert all(len(prompts[index]) > n for index in members)
