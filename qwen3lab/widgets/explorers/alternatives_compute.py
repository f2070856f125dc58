"""Data of the alternatives in the token card, computed from the recording. Draws nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qwen3lab.analysis.alternatives import alternatives
from qwen3lab.errors import RecordingError
from qwen3lab.figures.theme import visible
from qwen3lab.recording.recording import Recording
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.translation import later, tr

MOST = 5
"""Alternatives that are listed."""
FIRST = later("The first token: nothing predicts it.")
NO_LOGITS = later("No alternatives: the recording has no logits.")


@dataclass(frozen=True)
class Alternative:
    """One token that the model could have written.

    Attributes:
        token_id: of the token.
        text: its visible text.
        share: its probability.
        percent: the probability as text.
        is_written: True for the token that is in the text.
    """

    token_id: int
    text: str
    share: float
    percent: str
    is_written: bool


def listed(recording: Recording, position: int, tokenizer: Any) -> tuple[Alternative, ...] | str:
    """The likeliest tokens at a position, and the written one if it is not among them.

    A sentence in their place if there are none.
    """
    if position == 0:
        return tr(FIRST)
    try:
        found = alternatives(recording, position, min(MOST, recording.config.d_vocab))
    except RecordingError:
        return tr(NO_LOGITS)
    pairs = [*zip(found.token_ids, found.probabilities, strict=True)]
    if found.written not in found.token_ids:
        pairs.append((found.written, found.probability))
    texts = names([token for token, _ in pairs], recording, tokenizer)
    return tuple(
        Alternative(token, text, share, percent(share), token == found.written)
        for (token, share), text in zip(pairs, texts, strict=True)
    )


def names(token_ids: Sequence[int], recording: Recording, tokenizer: Any) -> list[str]:
    """Visible texts of tokens; without a tokenizer, of those that are in the recording."""
    if tokenizer is not None:
        return [visible(text) for text in token_texts(tokenizer, token_ids)]
    known = dict(zip(recording.token_ids.tolist(), recording.tokens, strict=True))
    return [visible(known[at]) if at in known else tr("token {at}", at=at) for at in token_ids]


def percent(share: float) -> str:
    """A probability as text: "62%", "0.4%", "<0.1%"."""
    if share < 0.001:
        return "<0.1%"
    return f"{share:.1%}" if share < 0.0995 or share > 0.99 else f"{share:.0%}"


def branch_name(position: int, chosen: str, replaced: str, parent: int = 0) -> str:
    """The name of a branch; `parent` is the number of the one that it comes from."""
    of = tr(" (of branch {parent})", parent=parent) if parent else ""
    return tr(
        "at token {position}: ‘{chosen}’ instead of ‘{replaced}’{of}",
        position=position,
        chosen=chosen,
        replaced=replaced,
        of=of,
    )
