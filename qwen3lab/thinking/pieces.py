"""A thinking in pieces: sentences, or so many tokens each."""

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3lab.generation.reply import Chat

ENDS = (".", "!", "?", "。", "！", "？", "\n")
"""What ends a sentence, where a blank, a line break or nothing follows."""

Every = int | str
"""How a thinking is cut: after so many tokens, or "sentence"."""


@dataclass(frozen=True)
class Piece:
    """A stretch of a thinking.

    Attributes:
        start: first token, counted over the whole conversation, as in its recording.
        end: past its last token.
        kept: thinking tokens up to its end, as a budget counts them.
        text: of its tokens.
    """

    start: int
    end: int
    kept: int
    text: str


def pieces(chat: Chat, every: Every = "sentence") -> list[Piece]:
    """A finished reply's thinking, cut into sentences or stretches of so many tokens.

    A sentence ends after a token that ends in a full stop, a question or exclamation mark
    (English or Chinese) where the next token begins with a blank, and after a line break.
    What has no such mark is one sentence. Blank tokens at its end belong to a piece.

    Raises:
        ValueError: the reply has no thinking, or `every` is neither of the two.
    """
    if isinstance(every, str) and every != "sentence":
        raise ValueError(f"every is {every!r}: expected a number of tokens, or “sentence”")
    if isinstance(every, int) and every < 1:
        raise ValueError(f"every is {every}: expected 1 token or more, or “sentence”")
    (first, last), n_prompt = chat.spans["thinking"], chat.spans["prompt"][1]
    # The early-stop sentence is no thought of the model's.
    while last > first and bool(chat.forced[last - 1 - n_prompt]):
        last -= 1
    if first >= last:
        raise ValueError("the reply has no thinking: ask with thinking=True")
    tokens = chat.tokens[first - n_prompt : last - n_prompt]
    counted = (~chat.forced[first - n_prompt : last - n_prompt]).cumsum(dim=0).tolist()
    offset = _counted_before(chat, first)
    found, start = [], 0
    for end in piece_ends(tokens, every):
        text = "".join(tokens[start:end])
        found.append(Piece(first + start, first + end, offset + counted[end - 1], text))
        start = end
    return found


def piece_ends(tokens: Sequence[str], every: Every) -> list[int]:
    """Past which of some tokens each piece ends; the last is past all of them."""
    return _sentence_ends(tokens) if isinstance(every, str) else _even_ends(len(tokens), every)


def _counted_before(chat: Chat, first: int) -> int:
    """Thinking tokens, as a budget counts them, that stand before the first one that is not blank.

    The line break that opens the block does not count. (Where the prompt opens it, that holds it.)
    """
    written = chat.tokens[: first - chat.spans["prompt"][1]]
    opened = max((place for place, token in enumerate(written) if token == "<think>"), default=-1)
    blanks = written[opened + 1 :]
    return len(blanks) - (opened >= 0 and blanks[:1] == ["\n"])


def _even_ends(n: int, every: int) -> list[int]:
    return [*range(every, n, every), n]


def _sentence_ends(tokens: Sequence[str]) -> list[int]:
    ends = []
    for place, token in enumerate(tokens):
        after = tokens[place + 1] if place + 1 < len(tokens) else ""
        if _ends_sentence(token, after):
            ends.append(place + 1)
    return _with_blanks(tokens, ends)


def _ends_sentence(token: str, after: str) -> bool:
    bare = token.rstrip(" ")
    if not bare.endswith(ENDS):
        return False
    if "\n" in token or bare[-1] in "。！？":
        return True
    return token != bare or not after or after[0].isspace()


def _with_blanks(tokens: Sequence[str], ends: Sequence[int]) -> list[int]:
    """Ends moved on over blank tokens; each once, and the last token's among them."""
    moved = []
    for end in ends:
        while end < len(tokens) and not tokens[end].strip():
            end += 1
        if any(token.strip() for token in tokens[moved[-1] if moved else 0 : end]):
            moved.append(end)
    if not moved or moved[-1] < len(tokens):
        moved.append(len(tokens))
    return moved
