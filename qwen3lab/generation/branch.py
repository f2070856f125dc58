"""Opens a finished reply again at one of its tokens, to write on with another token there."""

from qwen3lab.generation.batch_writer import OpenReply
from qwen3lab.generation.reply import Chat
from qwen3lab.translation import tr


def reply_index(chat: Chat, position: int) -> int:
    """The index in a reply of a position in its conversation.

    Args:
        chat: the reply.
        position: in the whole conversation; a negative one counts from its end.

    Raises:
        ValueError: the position is in the prompt, or beyond the reply.
    """
    first = len(chat.prompt_ids)
    end = first + len(chat.token_ids)
    found = position + end if position < 0 else position
    if first <= found < end:
        return found - first
    there = (
        tr("the reply has tokens {first} to {last}", first=first, last=end - 1)
        if end > first
        else tr("the reply is empty")
    )
    where = tr("is of the prompt") if 0 <= found < first else tr("does not exist")
    raise ValueError(
        tr(
            "token {position} {where}, and a branch replaces one of the reply: {there}",
            position=position,
            where=where,
            there=there,
        )
    )


def reopen(reply: OpenReply, chat: Chat, position: int, token_id: int) -> None:
    """Take the tokens of a finished reply before a position, and choose the one that comes next.

    Args:
        reply: an empty reply to the same prompt, whose guide has the settings to write on with.
        chat: the finished reply.
        position: of the chosen token, as in `reply_index`.
        token_id: of the chosen token.

    Raises:
        ValueError: as `reply_index`.
    """
    index = reply_index(chat, position)
    inserted, guide = chat.inserted.tolist(), reply.guide
    values = (chat.logprobs.tolist(), chat.entropy.tolist(), chat.forced.tolist())
    cut = "asked" if chat.stop == "asked" else "budget"
    for at in range(index):
        guide.replay(chat.token_ids[at], inserted=inserted[at], cut=cut)
        reply.note(*(each[at] for each in values))
    is_same = inserted[index] and token_id == chat.token_ids[index]
    is_chosen = guide.choose(token_id, inserted=is_same, cut=cut)
    kept = tuple(at for at in chat.chosen if at < index)
    reply.chosen = (*kept, index) if is_chosen else kept
