"""Which tokens of two runs correspond: against a search through all ways, and by hand."""

import itertools
import random

import pytest

from qwen3lab.analysis.alignment import alignment, common_subsequence, matching_tokens
from tests.fake_lab import MOE, record


def run(tokens: str, spans=None, config=MOE):
    """A recording with a token for each character; a letter always has the same id."""
    found = record(config, list(tokens), spans or {})
    found.token_ids[:] = found.token_ids.new_tensor([ord(each) for each in tokens])
    return found


def longest(one: str, other: str) -> int:
    """Length of the longest common subsequence, among all subsequences of the first text."""

    def is_inside(part: tuple[str, ...]) -> bool:
        rest = iter(other)
        return all(each in rest for each in part)

    sizes = range(len(one), -1, -1)
    return next(n for n in sizes if any(map(is_inside, itertools.combinations(one, n))))


def test_common_subsequences_are_as_long_as_the_longest_of_all() -> None:
    chance = random.Random(0)
    for _ in range(300):
        one, other = ("".join(chance.choices("abc", k=chance.randint(0, 9))) for _ in range(2))
        pairs = common_subsequence(one, other)
        assert len(pairs) == longest(one, other), (one, other)
        assert all(one[i] == other[j] for i, j in pairs)
        assert all(a < c and b < d for (a, b), (c, d) in itertools.pairwise(pairs))


def test_a_long_text_is_aligned_past_what_was_inserted() -> None:
    one = [n % 50 for n in range(3000)]
    other = [*one[:1000], *range(100, 140), *one[1000:]]
    pairs = common_subsequence(one, other)
    assert len(pairs) == 3000
    assert pairs[:1000] == [(n, n) for n in range(1000)]
    assert pairs[-1] == (2999, 3039)


def test_tokens_that_were_replaced_by_as_many_correspond_and_inserted_ones_do_not() -> None:
    assert matching_tokens("3+4=?", "3+5=?") == [(n, n) for n in range(5)]
    assert matching_tokens("3+4=?", "3+14=?") == [(0, 0), (1, 1), (2, 3), (3, 4), (4, 5)]
    assert matching_tokens("ab", "xyb") == [(1, 2)]
    assert matching_tokens("ab", "ay") == [(0, 0), (1, 1)]
    assert matching_tokens("", "a") == []


def test_runs_are_aligned_by_token_ids_of_one_vocabulary() -> None:
    found = alignment(run("qabz"), run("qbcz"))
    assert found.pairs == ((0, 0), (2, 1), (3, 3))
    assert found.same_vocabulary and found.names == ("first run", "second run")
    assert found.tokens == [("q", "q"), ("b", "b"), ("z", "z")]
    assert [found.place_of(position) for position in range(4)] == [0, -1, 1, 2]
    assert found.part(1, 3).pairs == ((2, 1), (3, 3))


def test_runs_of_different_vocabularies_are_aligned_by_texts() -> None:
    one, other = run("ab"), run("ab")
    other.token_ids[:] = other.token_ids.flip(0)  # The same ids for other texts.
    found = alignment(one, other)
    assert not found.same_vocabulary and found.pairs == ((0, 0), (1, 1))
    replaced = alignment(run("abc"), run("axc"), same_vocabulary=False)
    assert not replaced.same_vocabulary and replaced.pairs == ((0, 0), (2, 2))


def test_spans_are_aligned_from_their_starts() -> None:
    one = run("qq<ab>xyz", {"prompt": (0, 2), "thinking": (3, 5), "answer": (6, 9)})
    other = run("qqq<a>xw", {"prompt": (0, 3), "thinking": (4, 5), "answer": (6, 8)})
    assert alignment(one, other, by="spans").pairs == ((0, 0), (1, 1), (3, 4), (6, 6), (7, 7))
    silent = run("qqxy", {"prompt": (0, 2), "thinking": (2, 2), "answer": (2, 4)})
    assert alignment(one, silent, by="spans").pairs == ((0, 0), (1, 1), (6, 2), (7, 3))


def test_a_recording_without_spans_is_not_aligned_by_them() -> None:
    spans = {"prompt": (0, 1)}
    with pytest.raises(ValueError, match="the recording of 2 tokens by fake has no spans"):
        alignment(run("ab", spans), run("ab"), by="spans")


def test_an_alignment_says_how_much_of_both_runs_corresponds() -> None:
    shown = repr(alignment(run("3+4=?"), run("3+5=?!"), names=("four", "five")))
    assert "four" in shown and "6 tokens" in shown
    assert "5 tokens, 1 of them with another text" in shown
