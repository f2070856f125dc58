"""Finding a text in tokens, and ranking tokens."""

import pytest
import torch

from qwen3lab.text.tokenizer import token_texts
from qwen3lab.widgets.explorers.alternatives_compute import percent
from qwen3lab.widgets.explorers.find_compute import hits, nearest, ordinal, ranked

TOKENS = ["The", " cat", " sat", ".", "\n", "the", " CAT", "s"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat", [(1, 2), (6, 7)]),
        ("the c", [(0, 2), (5, 7)]),
        ("CATS", [(6, 8)]),
        ("t s", [(1, 3)]),
        (".\nThe", [(3, 6)]),
        ("at", [(1, 2), (2, 3), (6, 7)]),
        ("dog", []),
        ("", []),
    ],
)
def test_a_text_is_found_across_tokens_in_either_case(text, expected):
    assert list(hits(TOKENS, text)) == expected


def test_places_do_not_overlap_and_two_may_be_in_one_token():
    assert hits(["aaa", "a"], "aa") == ((0, 1), (0, 2))
    assert hits(["abab"], "ab") == ((0, 1), (0, 1))


def test_letters_that_change_their_length_with_the_case_are_found():
    assert hits(["Stra", "ße", "!"], "STRASSE") == ((0, 2),)
    assert hits(["Stra", "ße", "!"], "e!") == ((1, 3),)


def test_a_character_that_is_divided_between_tokens_is_found(published_tokenizer):
    text = "好🫠朋友 ok"
    ids = published_tokenizer.encode(text, add_special_tokens=False)
    tokens = token_texts(published_tokenizer, ids)
    assert any("⟨" in token for token in tokens), "the face is divided"
    ((first, end),) = hits(tokens, "🫠")
    assert "🫠" in published_tokenizer.decode(ids[first:end])
    assert "🫠" not in published_tokenizer.decode(ids[first : end - 1])
    assert "🫠" not in published_tokenizer.decode(ids[first + 1 : end])
    ((_, last),) = hits(tokens, "🫠朋友 OK")
    assert last == len(tokens)


def test_bytes_that_are_no_character_are_searched_as_they_are_written():
    assert hits(["a⟨e4⟩", "b"], "⟨e4⟩b") == ((0, 2),)


def test_the_nearest_place_is_after_or_before_a_token_and_goes_round():
    found = [(2, 3), (5, 7), (9, 10)]
    assert [nearest(found, at, 1) for at in (-1, 2, 4, 9, 20)] == [0, 1, 1, 0, 0]
    assert [nearest(found, at, -1) for at in (-1, 2, 4, 9, 20)] == [2, 2, 0, 1, 2]
    assert nearest([], 4, 1) == -1


def test_tokens_without_a_number_have_no_rank_and_equal_ones_are_in_order():
    values = torch.tensor([torch.nan, 0.5, 2.0, torch.nan, 0.5, -1.0])
    assert ranked(values) == [2, 1, 4, 5]


def test_ranks_are_written_as_ordinal_numbers():
    said = [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22)]
    assert said == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd"]


def test_small_and_large_probabilities_keep_a_digit():
    shares = (0.62, 0.054, 0.0004, 0.9987, 0.1, 0.001)
    assert [percent(each) for each in shares] == ["62%", "5.4%", "<0.1%", "99.9%", "10%", "0.1%"]
