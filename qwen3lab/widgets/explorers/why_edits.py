"""Changes of a reply that the why view asks for: a part away, another stream, a direction."""

from qwen3lab import steering
from qwen3lab.generation.reply import Chat
from qwen3lab.lab import Lab
from qwen3lab.translation import tr
from qwen3lab.widgets.explorers.why_state import OTHER_QUESTION
from qwen3lab.widgets.workbench.changes import STREAM, Change, Patch, Route, Scale, Steer


def removal(part: tuple[str, int, int]) -> Change:
    """The change that takes a part away, as `WhyState.part` names it.

    Raises:
        ValueError: the stream of a layer cannot be taken away.
    """
    kind, layer, number = part
    if kind == "expert":
        return Route(layer, number)
    if kind == "mlp" and number >= 0:
        return Scale("mlp", layer, first=number, end=number + 1)
    if kind == "mlp":
        return Scale("mlp", layer)
    if kind == "head":
        return Scale("head", layer, number)
    raise ValueError(
        tr(
            "a whole layer is not taken away: pick a head, an expert or an MLP in "
            "the map of effects"
        )
    )


def patched(lab: Lab, chat: Chat, part: tuple[str, int, int], question: str) -> Patch:
    """The change that puts the stream of another question in place, after one layer at one token.

    Raises:
        ValueError: the part is no layer and token, or the question has another number of tokens.
    """
    kind, layer, position = part
    if kind != "layer" or position < 0:
        raise ValueError(
            tr(
                "there is no layer and token to patch: run again “{other_question}”, and "
                "click a cell",
                other_question=tr(OTHER_QUESTION),
            )
        )
    ids = other_ids(lab, chat, position + 1, question)
    return Patch(layer, position, tuple(ids), question)


def other_ids(lab: Lab, chat: Chat, end: int, question: str) -> list[int]:
    """Another question's prompt, with the reply of this run after it, up to a position.

    Raises:
        ValueError: the question is empty, or has another number of tokens.
    """
    if not question.strip():
        raise ValueError(tr("the other question is empty: type one with as many tokens"))
    n_prompt = len(chat.prompt_ids)
    messages = [{"role": "user", "content": question}]
    prompt = lab.token_ids(messages, thinking=chat.thinking_asked, continue_reply=True)
    if len(prompt) != n_prompt:
        raise ValueError(
            tr(
                "the other question has {n_other} tokens with its template, and this "
                "one {n}: change single words, so that both have the same number",
                n_other=len(prompt),
                n=n_prompt,
            )
        )
    return [*prompt, *chat.token_ids][:end]


def steered(
    lab: Lab,
    chat: Chat,
    tokens: tuple[int, int],
    *,
    layer: int,
    position: int,
    strength: float,
    text: str,
) -> Steer:
    """The change that pushes the stream at a layer from one token towards another.

    Args:
        lab: the model.
        chat: the reply, recorded with the stream.
        tokens: the written token and the other one.
        layer: whose stream is changed.
        position: of the written token; the stream of the token before it is changed first.
        strength: in multiples of the mean norm of the stream at the layer in this run; towards the
            written token, if negative.
        text: what it is pushed towards, to read.
    """
    written, other = tokens
    vector = steering.from_token(lab, other, other=written, layer=layer)
    assert chat.recording is not None
    stream = chat.recording.raw(STREAM.format(layer)).float()
    unit = float(stream.norm(dim=-1).mean()) / max(float(vector[layer].norm()), 1e-9)
    return Steer(layer, position - 1, written, other, strength * unit, text)
