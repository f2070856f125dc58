"""Tokens of two prompts correspond by the rule that was asked for."""

import pytest

from qwen3lab.patching import aligned
from tests.patching.planted import small_lab


@pytest.fixture(scope="module")
def lab(tiny_tokenizer):
    return small_lab(tiny_tokenizer, experts=False)


def test_prompts_of_equal_length_correspond_by_position(lab):
    assert aligned(lab, [5, 6, 7], [5, 9, 7], "position") == ((0, 0), (1, 1), (2, 2))
    with pytest.raises(ValueError, match="the clean prompt has 2 tokens and the corrupt one 1"):
        aligned(lab, [5, 6], [5], "position")


def test_equal_and_replaced_tokens_correspond_and_inserted_ones_do_not(lab):
    # clean   5 6 7   8 9
    # corrupt 5 4 7 3 8 9
    assert aligned(lab, [5, 6, 7, 8, 9], [5, 4, 7, 3, 8, 9], "tokens") == (
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 4),
        (4, 5),
    )


def test_a_token_that_is_replaced_by_two_corresponds_to_none(lab):
    assert aligned(lab, [5, 6, 7], [5, 1, 2, 7], "tokens") == ((0, 0), (2, 3))


def test_named_spans_correspond_token_by_token(lab):
    clean, corrupt = lab.token_ids("3+4=?"), lab.token_ids("7-5+9=?")
    assert [lab.tokenizer.decode([token]) for token in corrupt] == ["7", "-", "5", "+", "9", "=?"]
    assert aligned(lab, clean, corrupt, {"4": "9", "3+": "5+"}) == ((0, 2), (1, 3), (2, 4))


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ({"8": "9"}, "the span “8” is 0 times in the clean prompt: expected once"),
        ({"3": "+"}, r"the span “\+” is 2 times in the corrupt prompt"),
        ({"3+": "5"}, "the span “3.” has 2 tokens and “5” has 1"),
        ({"=": "9"}, "the span “=” begins or ends inside of a token of the clean prompt"),
        ({"": "9"}, "the span “” is 0 times"),
        ({"3": "7", "3+4": "7+5"}, "token 0 of the clean prompt corresponds to two others"),
    ],
)
def test_a_span_that_is_not_there_once_is_refused(lab, spans, message):
    clean, corrupt = lab.token_ids("3+4=?"), lab.token_ids("7+5+9=?")
    with pytest.raises(ValueError, match=message):
        aligned(lab, clean, corrupt, spans)


def test_positions_correspond_as_given(lab):
    assert aligned(lab, [5, 6, 7], [1, 2, 3, 4], [(0, 2), (-1, 0)]) == ((2, 0), (0, 2))


@pytest.mark.parametrize(
    ("align", "message"),
    [
        ([(0, 4)], "position 4 does not exist: the corrupt prompt has tokens 0 to 3"),
        ([(3, 0)], "position 3 does not exist: the clean prompt has tokens 0 to 2"),
        ([(0, 1), (0, 2)], "token 0 of the clean prompt corresponds to two others"),
        ([], "no token of one prompt corresponds"),
        ([(1, 2, 3)], "align.* 2 values"),
        ([("a", 2)], "align.* expected .*an integer"),
        ("words", "there is no alignment 'words'"),
    ],
)
def test_an_alignment_that_does_not_fit_is_refused(lab, align, message):
    with pytest.raises(ValueError, match=message):
        aligned(lab, [5, 6, 7], [1, 2, 3, 4], align)


def test_texts_without_a_common_token_do_not_correspond(lab):
    with pytest.raises(ValueError, match="no token of one prompt corresponds"):
        aligned(lab, [1, 2], [3, 4, 5], "tokens")
