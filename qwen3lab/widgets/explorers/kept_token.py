"""Keeps the picked token when the same question is asked again."""

from dataclasses import dataclass

from qwen3lab.generation.reply import Chat


@dataclass(frozen=True)
class PickedToken:
    """A token of a conversation, so that it can be found in another reply to the same question.

    Attributes:
        position: in the conversation.
        part: "prompt", "thinking" or "answer"; empty for tokens between these.
        token_id: of the token.
        occurrence: number of equal tokens before it in its part.
    """

    position: int
    part: str
    token_id: int
    occurrence: int


def picked_token(chat: Chat | None, position: int) -> PickedToken | None:
    """The token at a position of a conversation; None without one."""
    if chat is None or position < 0:
        return None
    ids = [*chat.prompt_ids, *chat.token_ids]
    if position >= len(ids):
        return None
    part, start = _part_of(chat, position)
    return PickedToken(position, part, ids[position], ids[start:position].count(ids[position]))


def find_token(chat: Chat, picked: PickedToken | None) -> int:
    """Position of the same token in its part: at the same position, else the same occurrence.

    -1 if there is none.
    """
    if picked is None:
        return -1
    ids = [*chat.prompt_ids, *chat.token_ids]
    is_there = ids[picked.position : picked.position + 1] == [picked.token_id]
    if is_there and _part_of(chat, picked.position)[0] == picked.part:
        return picked.position
    start, end = chat.spans.get(picked.part, (0, 0))
    equal = [i for i in range(start, min(end, len(ids))) if ids[i] == picked.token_id]
    return equal[picked.occurrence] if picked.occurrence < len(equal) else -1


def _part_of(chat: Chat, position: int) -> tuple[str, int]:
    """Name and start of the part around a position; no name between the parts."""
    for part, (start, end) in chat.spans.items():
        if start <= position < end:
            return part, start
    return "", position
