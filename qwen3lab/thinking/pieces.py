"""Splits a reply's thinking into sentences, or into pieces of a fixed number of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3lab.generation.reply import Chat

SENTENCE_ENDS = (".", "!", "?", "。", "！", "？", "\n")
"""Marks that end a sentence if whitespace or the end of the text follows."""

Every = int | str
"""Length of a piece: a number of tokens, or "sentence"."""


@dataclass(frozen=True)
class Piece:
    """A span of the thinking.

    Attributes:
        start: position of its first token in the whole conversation, as in its recording.
        end: position after its last token.
        kept: number of thinking tokens up to its end, counted as a thinking budget counts them.
        text: of its tokens.
    """

    start: int
    end: int
    kept: int
    text: str


def pieces(chat: Chat, every: Every = "sentence") -> list[Piece]:
    """Split a finished reply's thinking into sentences, or pieces of a fixed number of tokens.

    A sentence ends after a line break, after a Chinese end mark, and after a token that ends in
    an English end mark if the next token starts with whitespace. A text without such marks is one
    sentence. Whitespace tokens belong to the sentence before them.

    Args:
        chat: the finished reply.
        every: number of tokens per piece, or "sentence".

    Raises:
        ValueError: the reply has no thinking, or `every` is neither of the two.
    """
    if isinstance(every, str) and every != "sentence":
        raise ValueError(f"every is {every!r}: expected a number of tokens, or “sentence”")
    if isinstance(every, int) and every < 1:
        raise ValueError(f"every is {every}: expected 1 token or more, or “sentence”")
    (first, last), n_prompt = chat.spans["thinking"], chat.spans["prompt"][1]
    # The early-stop sentence was inserted; it is not part of the model's thinking.
    while last > first and bool(chat.forced[last - 1 - n_prompt]):
        last -= 1
    if first >= last:
        raise ValueError("the reply has no thinking: ask with thinking=True")
    tokens = chat.tokens[first - n_prompt : last - n_prompt]
    counted = (~chat.forced[first - n_prompt : last - n_prompt]).cumsum(dim=0).tolist()
    offset = _counted_before(chat, first)
    result, start = [], 0
    for end in piece_ends(tokens, every):
        text = "".join(tokens[start:end])
        result.append(Piece(first + start, first + end, offset + counted[end - 1], text))
        start = end
    return result


def piece_ends(tokens: Sequence[str], every: Every) -> list[int]:
    """The position after the last token of each piece; the last one is the number of tokens."""
    return _sentence_ends(tokens) if isinstance(every, str) else _fixed_ends(len(tokens), every)


def _counted_before(chat: Chat, first: int) -> int:
    """Number of leading whitespace tokens in the thinking that a budget counts.

    The line break after `<think>` does not count. If the prompt ends with `<think>`, this line
    break belongs to the prompt.
    """
    before = chat.tokens[: first - chat.spans["prompt"][1]]
    opening = max((i for i, token in enumerate(before) if token == "<think>"), default=-1)
    blanks = before[opening + 1 :]
    return len(blanks) - (opening >= 0 and blanks[:1] == ["\n"])


def _fixed_ends(n: int, every: int) -> list[int]:
    return [*range(every, n, every), n]


def _sentence_ends(tokens: Sequence[str]) -> list[int]:
    ends = []
    for i, token in enumerate(tokens):
        after = tokens[i + 1] if i + 1 < len(tokens) else ""
        if _ends_sentence(token, after):
            ends.append(i + 1)
    return _include_whitespace(tokens, ends)


def _ends_sentence(token: str, after: str) -> bool:
    stripped = token.rstrip(" ")
    if not stripped.endswith(SENTENCE_ENDS):
        return False
    if "\n" in token or stripped[-1] in "。！？":
        return True
    return token != stripped or not after or after[0].isspace()


def _include_whitespace(tokens: Sequence[str], ends: Sequence[int]) -> list[int]:
    """Move each end past whitespace tokens; drops duplicates, and adds the end of all tokens."""
    moved = []
    for end in ends:
        while end < len(tokens) and not tokens[end].strip():
            end += 1
        if any(token.strip() for token in tokens[moved[-1] if moved else 0 : end]):
            moved.append(end)
    if not moved or moved[-1] < len(tokens):
        moved.append(len(tokens))
    return moved
