"""Finds a text in tokens, and ranks tokens by a number. Draws nothing."""

import re
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from qwen3lab.translation import language, tr
from qwen3lab.translation.chosen import ENGLISH

BYTES = re.compile(r"(?:⟨[0-9a-f]{2}⟩)+")
"""Tokens that hold parts of characters, as `token_texts` writes them."""


def hits(tokens: Sequence[str], text: str) -> tuple[tuple[int, int], ...]:
    """Where a text is in a conversation: first and past-the-end token of each place.

    Upper and lower case are equal. A place may begin and end inside of a token, and a character may
    be divided between tokens. Places do not overlap.

    Args:
        tokens: the texts of the tokens, as `Recording.tokens`.
        text: to find; nothing is found for an empty one.
    """
    wanted = text.casefold()
    if not wanted:
        return ()
    searched, owners = _folded(tokens)
    found, start = [], searched.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        found.append((owners[start][0], owners[end - 1][1] + 1))
        start = searched.find(wanted, end)
    return tuple(found)


def _folded(tokens: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """The text without case, and for each character its first and last token."""
    raw = "".join(tokens)
    owner = [at for at, token in enumerate(tokens) for _ in token]
    parts, owners, start = [], list[tuple[int, int]](), 0

    def add(text: str, places: Sequence[tuple[int, int]]) -> None:
        for char, place in zip(text, places, strict=True):
            folded = char.casefold()  # May be longer: "ß" is "ss".
            parts.append(folded)
            owners.extend([place] * len(folded))

    for run in BYTES.finditer(raw):
        add(raw[start : run.start()], [(at, at) for at in owner[start : run.start()]])
        add(*_joined(run.group(), owner[run.start() : run.end()]))
        start = run.end()
    add(raw[start:], [(at, at) for at in owner[start:]])
    return "".join(parts), owners


def _joined(written: str, owner: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """Characters that are written as bytes, with their tokens; unchanged if they are incomplete."""
    try:
        text = bytes.fromhex(re.sub("[⟨⟩]", "", written)).decode("utf-8")
    except UnicodeDecodeError:
        return written, [(at, at) for at in owner]
    places, byte = [], 0
    for char in text:
        size = len(char.encode("utf-8"))
        places.append((owner[4 * byte], owner[4 * (byte + size) - 1]))  # A byte has 4 characters.
        byte += size
    return text, places


def nearest(found: Sequence[tuple[int, int]], token: int, step: int) -> int:
    """Index of the first place after a token (step 1), or of the last one before it (step -1).

    After the last one, the first one follows. -1 for no places.
    """
    if not found:
        return -1
    if step > 0:
        return next((at for at, (first, _) in enumerate(found) if first > token), 0)
    before = [at for at, (first, _) in enumerate(found) if first < token]
    return before[-1] if before else len(found) - 1


def ranked(values: Float[Tensor, " token"]) -> list[int]:
    """Tokens with a number, by decreasing number; equal ones in the order of the text."""
    known = (~values.isnan()).nonzero()[:, 0]
    order = values[known].sort(descending=True, stable=True).indices
    return known[order].tolist()


def ordinal(n: int) -> str:
    """1 as "1st", 2 as "2nd", 11 as "11th"."""
    ending = "th" if 10 < n % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def place_name(rank: int, title: str, value: float) -> str:
    """What a jump has picked: "2nd largest of entropy (nats): 1.25"."""
    if rank == 1:
        return tr("largest of {title}: {value:.3g}", title=title, value=value)
    if language() == ENGLISH:
        return f"{ordinal(rank)} largest of {title}: {value:.3g}"
    return tr("number {rank} of {title}: {value:.3g}", rank=rank, title=title, value=value)
