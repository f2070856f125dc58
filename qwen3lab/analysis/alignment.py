"""Which token of one run corresponds to which token of another one."""

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from qwen3lab.arguments import checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr

By = Literal["tokens", "spans"]
"""How tokens of two runs correspond.

- `"tokens"`: a longest common subsequence of the tokens corresponds, and so do tokens that were
  replaced by as many others between two of its tokens;
- `"spans"`: the tokens of each span (prompt, thinking, answer) correspond one by one from its
  start, up to the end of the shorter one; tokens outside of spans correspond to none.
"""

Pairs = tuple[tuple[int, int], ...]
"""Positions in both runs that correspond, in ascending order of both."""


@dataclass(frozen=True, repr=False, eq=False)
class Alignment(EqualByValue, Displayed):
    """Two runs, and which of their tokens correspond.

    Attributes:
        one: the first run.
        other: the second run; differences are the first minus the second.
        pairs: a position in the first run and one in the second, ascending.
        names: of the two runs.
        same_vocabulary: True if a token id means the same in both runs.
    """

    one: Recording
    other: Recording
    pairs: Pairs
    names: tuple[str, str]
    same_vocabulary: bool = True

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def tokens(self) -> list[tuple[str, str]]:
        """The texts of the tokens that correspond, of the first and of the second run."""
        return [(self.one.tokens[i], self.other.tokens[j]) for i, j in self.pairs]

    def place_of(self, position: int) -> int:
        """The index in `pairs` of a position of the first run; -1 if it corresponds to none."""
        place = bisect_left(self.pairs, (position, 0))
        is_there = place < len(self.pairs) and self.pairs[place][0] == position
        return place if is_there else -1

    def part(self, first: int, end: int) -> "Alignment":
        """The same runs with a part of the pairs."""
        return replace(self, pairs=self.pairs[first:end])

    def _summary(self) -> Summary:
        one, other = self.names
        replaced = sum(a != b for a, b in self.tokens)
        facts = {
            one: tr("{n_one:,} tokens", n_one=len(self.one)),
            other: tr("{n_other:,} tokens", n_other=len(self.other)),
            tr("aligned"): tr(
                "{n_pairs:,} tokens, {replaced:,} of them with another text",
                n_pairs=len(self.pairs),
                replaced=replaced,
            ),
        }
        return Summary(tr("Alignment of two runs"), facts)


@checked
def alignment(
    one: Recording,
    other: Recording,
    *,
    by: By = "tokens",
    names: tuple[str, str] | None = None,
    same_vocabulary: bool | None = None,
) -> Alignment:
    """Align the tokens of two runs.

    Args:
        one: the first run.
        other: the second run.
        by: the rule, `"tokens"` or `"spans"`. Tokens are compared by their ids. If the vocabularies
            differ, they are compared by their texts, and only those with the same text correspond.
        names: of the runs, for titles; those of the models if they differ, if None.
        same_vocabulary: True if a token id means the same in both models. If None, it is judged
            from their number of tokens and from the tokens that occur in these runs.

    Raises:
        ValueError: aligned by spans, and a recording has none.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab.analysis.alignment import alignment
        >>> lab = qwen3lab.load("tiny-moe")
        >>> alignment(lab.record("3+4=?"), lab.record("3+14=?")).pairs
        ((0, 0), (1, 1), (2, 3), (3, 4))
    """
    if same_vocabulary is None:
        same_vocabulary = _seems_same_vocabulary(one, other)
    if by == "spans":
        pairs = _by_spans(one, other)
    elif same_vocabulary:
        pairs = matching_tokens(one.token_ids.tolist(), other.token_ids.tolist())
    else:
        pairs = common_subsequence(one.tokens, other.tokens)
    return Alignment(one, other, tuple(pairs), names or _names(one, other), same_vocabulary)


def matching_tokens(one: Sequence[Hashable], other: Sequence[Hashable]) -> list[tuple[int, int]]:
    """A longest common subsequence, and what was replaced by as many others between its items.

    Args:
        one: token ids.
        other: those of the other run.

    Returns:
        The positions that correspond, ascending in both.
    """
    common = common_subsequence(one, other)
    pairs: list[tuple[int, int]] = []
    i = j = 0
    for there, here in [*common, (len(one), len(other))]:
        if there - i == here - j:
            pairs += zip(range(i, there), range(j, here), strict=True)
        pairs.append((there, here))
        i, j = there + 1, here + 1
    return pairs[:-1]  # Without the end of both.


def common_subsequence(one: Sequence[Hashable], other: Sequence[Hashable]) -> list[tuple[int, int]]:
    """The positions of a longest common subsequence of two sequences, ascending.

    Each row of the usual table is one integer with a bit for each item of `other`: 16,000 tokens
    against 16,000 take 32 MB.

    Source: Hyyrö, "Bit-parallel LCS-length computation revisited", 2004.
    """
    places: dict[Hashable, int] = {}
    for j, item in enumerate(other):
        places[item] = places.get(item, 0) | 1 << j
    whole = (1 << len(other)) - 1
    rows, row = list[int](), whole
    for item in one:
        shared = row & places.get(item, 0)
        row = ((row + shared) | (row - shared)) & whole
        rows.append(row)
    pairs: list[tuple[int, int]] = []
    i, j = len(one), len(other)
    while i and j:
        if rows[i - 1] >> (j - 1) & 1:
            j -= 1
            continue
        i -= 1
        is_longer_here = i == 0 or rows[i - 1] >> (j - 1) & 1
        if is_longer_here:
            j -= 1
            pairs.append((i, j))
    return pairs[::-1]


def _by_spans(one: Recording, other: Recording) -> list[tuple[int, int]]:
    for recording in (one, other):
        if not recording.spans:
            raise ValueError(
                tr(
                    "the recording of {n_recording} tokens by {model_name} has no spans: "
                    'record a chat (record=True), or align by="tokens"',
                    n_recording=len(recording),
                    model_name=recording.model_name,
                )
            )
    pairs: list[tuple[int, int]] = []
    for name, (start, end) in sorted(one.spans.items(), key=lambda item: item[1]):
        first, last = other.spans.get(name, (0, 0))
        n = min(min(end, len(one)) - start, min(last, len(other)) - first)
        pairs += [(start + k, first + k) for k in range(n)]
    return pairs


def _seems_same_vocabulary(one: Recording, other: Recording) -> bool:
    if one.config.d_vocab != other.config.d_vocab:
        return False
    texts = dict(zip(one.token_ids.tolist(), one.tokens, strict=True))
    return all(
        texts.get(token, text) == text
        for token, text in zip(other.token_ids.tolist(), other.tokens, strict=True)
    )


def _names(one: Recording, other: Recording) -> tuple[str, str]:
    if one.model_name != other.model_name:
        return one.model_name, other.model_name
    return tr("first run"), tr("second run")
