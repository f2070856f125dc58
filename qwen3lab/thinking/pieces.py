"""Splits a thinking text into pieces: sentences, paragraphs, or a fixed number of tokens each."""

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3lab.generation.reply import Chat
from qwen3lab.translation import tr

SENTENCE_ENDS = (".", "!", "?", "。", "！", "？", "\n")
"""Characters that end a sentence if whitespace or nothing follows."""

Every = int | str
"""Size of a piece: a number of tokens, "sentence" or "paragraph"."""

NAMED_SIZES = ("sentence", "paragraph")


@dataclass(frozen=True)
class Piece:
    """A piece of a thinking text.

    Attributes:
        start: position of its first token in the conversation, as in a recording.
        end: position after its last token.
        kept: number of thinking tokens up to its end, as a thinking budget counts them.
        text: text of its tokens.
    """

    start: int
    end: int
    kept: int
    text: str


def pieces(chat: Chat, every: Every = "sentence", *, at_least: int = 1) -> list[Piece]:
    """The thinking text of a finished reply, in sentences, paragraphs or pieces of `every` tokens.

    A sentence ends after a line break, after a Chinese full stop, question or exclamation mark,
    and after an English one that whitespace follows. Text without such a mark is one sentence.
    A paragraph ends after a blank line. Whitespace tokens after a piece belong to the piece. The
    early-stop sentence does not count as thinking.

    Args:
        chat: a finished reply with thinking.
        every: number of tokens of a piece, "sentence" or "paragraph".
        at_least: number of pieces that an analysis needs. A text with fewer pieces of this size is
            split into pieces of equally many tokens instead.

    Raises:
        ValueError: the reply has no thinking, or `every` or `at_least` is invalid.
    """
    if at_least < 1:
        raise ValueError(tr("at_least is {at_least}: expected 1 piece or more", at_least=at_least))
    if isinstance(every, str) and every not in NAMED_SIZES:
        raise ValueError(
            tr(
                "every is {every!r}: expected a number of tokens, “sentence” or “paragraph”",
                every=every,
            )
        )
    if isinstance(every, int) and every < 1:
        raise ValueError(
            tr("every is {every}: expected 1 token or more, “sentence” or “paragraph”", every=every)
        )
    (first, last), n_prompt = chat.spans["thinking"], chat.spans["prompt"][1]
    inserted = chat.inserted
    # Exclude the early-stop sentence, which the model did not generate.
    while last > first and bool(inserted[last - 1 - n_prompt]):
        last -= 1
    if first >= last:
        raise ValueError(
            tr(
                "the reply has no thinking: {why_no_thinking}",
                why_no_thinking=why_no_thinking(chat),
            )
        )
    tokens = chat.tokens[first - n_prompt : last - n_prompt]
    counted = (~inserted[first - n_prompt : last - n_prompt]).cumsum(dim=0).tolist()
    offset = _thinking_tokens_before(chat, first)
    ends = piece_ends(tokens, every)
    if len(ends) < at_least:
        ends = piece_ends(tokens, max(1, len(tokens) // at_least))
    split, start = [], 0
    for end in ends:
        text = "".join(tokens[start:end])
        split.append(Piece(first + start, first + end, offset + counted[end - 1], text))
        start = end
    return split


def piece_ends(tokens: Sequence[str], every: Every) -> list[int]:
    """The index after the last token of each piece; the last one is the number of tokens."""
    if isinstance(every, str):
        return _sentence_ends(tokens) if every == "sentence" else _paragraph_ends(tokens)
    return [*range(every, len(tokens), every), len(tokens)]


def why_no_thinking(chat: Chat) -> str:
    """Why a reply has no thinking, and what to do."""
    if chat.thinking_asked is False:
        return tr("it was asked to answer at once; ask with thinking=True")
    if chat.thinking_asked is None:
        return tr("ask with thinking=True, or another question")
    if chat.stop in ("budget", "asked"):
        return tr("it was stopped before its first token; give a larger budget")
    if chat.stop in ("length", "interrupted"):
        return tr("the reply ended before its first token; let it write more tokens")
    return tr(
        "the model answered at once, though it may think; ask a harder question, or pass extend="
    )


def _thinking_tokens_before(chat: Chat, first: int) -> int:
    """The number of whitespace tokens before the thinking text that a thinking budget counts.

    The line break after `<think>` does not count. If the prompt ends with `<think>`, that line
    break is a part of the prompt.
    """
    before = chat.tokens[: first - chat.spans["prompt"][1]]
    think = max((index for index, token in enumerate(before) if token == "<think>"), default=-1)
    whitespace = before[think + 1 :]
    return len(whitespace) - (think >= 0 and whitespace[:1] == ["\n"])


def _sentence_ends(tokens: Sequence[str]) -> list[int]:
    ends = []
    for index, token in enumerate(tokens):
        after = tokens[index + 1] if index + 1 < len(tokens) else ""
        if _ends_sentence(token, after):
            ends.append(index + 1)
    return _include_whitespace(tokens, ends)


def _paragraph_ends(tokens: Sequence[str]) -> list[int]:
    ends, blank = [], ""
    for index, token in enumerate(tokens):
        blank = token[len(token.rstrip()) :] if token.strip() else blank + token
        if blank.count("\n") >= 2:
            ends.append(index + 1)
    return _include_whitespace(tokens, ends)


def _ends_sentence(token: str, after: str) -> bool:
    bare = token.rstrip(" ")
    if not bare.endswith(SENTENCE_ENDS):
        return False
    if "\n" in token or bare[-1] in "。！？":
        return True
    return token != bare or not after or after[0].isspace()


def _include_whitespace(tokens: Sequence[str], ends: Sequence[int]) -> list[int]:
    """The ends, moved past whitespace tokens, without duplicates, and with the end of the text."""
    moved = []
    for end in ends:
        while end < len(tokens) and not tokens[end].strip():
            end += 1
        if any(token.strip() for token in tokens[moved[-1] if moved else 0 : end]):
            moved.append(end)
    if not moved or moved[-1] < len(tokens):
        moved.append(len(tokens))
    return moved
