"""Renders conversations with the tokenizer's chat template, and reads from the result if it thinks.

Whether a template has a switch for thinking is found by rendering with and without it. The soft
switches `/think` and `/no_think` in a message are text for the model; they do not change how a
conversation is rendered.

As in the published template, message text is not escaped: a message that contains `<|im_end|>`
ends its turn. Figures and widgets escape text when they display it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from qwen3lab.errors import ChatError
from qwen3lab.text.template_process import render_template
from qwen3lab.text.tokenizer import encode_text, end_ids, single_id
from qwen3lab.translation import tr

Message = Mapping[str, Any]
"""One turn: "role" (system, user, assistant or tool) and "content"; "tool_calls" may replace it."""

ROLES = ("system", "user", "assistant", "tool")
EARLY_STOP = (
    "Considering the limited time by the user, I have to give the solution based on the "
    "thinking directly now."
)
"""The early-stop sentence, inserted when the thinking budget is used up.

Source: arXiv 2505.09388, section 4.3.
"""


def as_messages(conversation: object) -> list[Message]:
    """A validated conversation; a string becomes one user message.

    Raises:
        ChatError: no messages, an unknown role, or a message without text or tool calls.
    """
    if isinstance(conversation, Mapping):
        raise ChatError(tr("the conversation is a dict: give a list of messages, or a question"))
    if isinstance(conversation, str):
        conversation = [{"role": "user", "content": conversation}] if conversation else []
    if conversation is None or not isinstance(conversation, Sequence):
        raise ChatError(
            tr(
                "the conversation is of type {kind}: give a list of messages, or a question",
                kind=type(conversation).__name__,
            )
        )
    if len(conversation) == 0:
        raise ChatError(tr("the conversation is empty: give a question, or a list of messages"))
    for number, message in enumerate(conversation):
        if isinstance(message, Mapping) and isinstance(message.get("content"), list | tuple):
            raise ChatError(
                tr(
                    "message {number} has a list of parts as its content: give one text",
                    number=number,
                )
            )
        if not isinstance(message, Mapping) or not _has_content(message):
            raise ChatError(
                tr(
                    "message {number} has no text: expected a dict with 'role' and 'content'",
                    number=number,
                )
            )
        if message.get("role") not in ROLES:
            raise ChatError(
                tr(
                    "message {number} has role {get!r}: expected one of {roles}",
                    number=number,
                    get=message.get("role"),
                    roles=", ".join(ROLES),
                )
            )
    return [message for message in conversation if isinstance(message, Mapping)]


def _has_content(message: Message) -> bool:
    calls_tools = message.get("role") == "assistant" and bool(message.get("tool_calls"))
    content = message.get("content")
    return isinstance(content, str) or (content is None and calls_tools)


def thinking_mode(
    tokenizer: Any, messages: Sequence[Message], thinking: bool | None = None
) -> bool:
    """True if the reply may start with thinking: what the rendered prompt says, not what was asked.

    A prompt that ends within a thinking block thinks; one that ends after it does not. Otherwise
    the model decides, unless `thinking=False` changes the prompt by other means, or the template
    does not treat thinking at all.

    Args:
        tokenizer: of the model.
        messages: validated by `as_messages`.
        thinking: passed to the template as `enable_thinking`; None leaves the template's default.
    """
    found = render_ids(tokenizer, messages, thinking=thinking, continue_reply=True)
    state = thinking_state(tokenizer, found)
    if state is not None:
        return state == "open"
    on, off = (
        found
        if mode is thinking
        else render_ids(tokenizer, messages, thinking=mode, continue_reply=True)
        for mode in (True, False)
    )
    return found != off if on != off else _treats_thinking(tokenizer)


def mode_note(messages: Sequence[Message], asked: bool | None, thinks: bool) -> str | None:
    """Why the mode of a prompt is not the one that was asked; None if it is.

    Args:
        messages: validated by `as_messages`.
        asked: the thinking mode that was asked.
        thinks: the mode of the prompt, from `thinking_mode`.
    """
    if asked is None or asked == thinks:
        return None
    if messages[-1].get("role") == "assistant":
        part = "thinking" if thinks else "answer"
        return tr(
            "the last message, which is continued, ends within its {part}: "
            "thinking={asked} does not change that",
            part=part,
            asked=asked,
        )
    if thinks:
        return tr(
            "the chat template has no switch for thinking: with thinking=False the "
            "model may think all the same, within the budget"
        )
    return tr("the chat template does not make the model think: thinking=True changes nothing")


def thinking_state(tokenizer: Any, token_ids: Sequence[int]) -> Literal["open", "closed"] | None:
    """Whether the last turn of a prompt has an open or a closed thinking block; None if none."""
    think, close = single_id(tokenizer, "<think>"), single_id(tokenizer, "</think>")
    ends = end_ids(tokenizer)
    for token in reversed(token_ids):
        if token in ends:
            return None
        if token in (think, close):
            return "open" if token == think else "closed"
    return None


def _treats_thinking(tokenizer: Any) -> bool:
    """True if the template has a switch, or removes the thinking of earlier replies."""
    asked, thought = {"role": "user", "content": "a"}, "<think>\nb\n</think>\n\nc"
    history = [asked, {"role": "assistant", "content": thought}, asked]
    try:
        on, off = (render(tokenizer, [asked], thinking=mode) for mode in (True, False))
        return on != off or thought not in render(tokenizer, history)
    except ChatError:
        return single_id(tokenizer, "<think>") is not None


def render(
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    thinking: bool | None = True,
    add_generation_prompt: bool = True,
    continue_reply: bool = False,
) -> str:
    """The conversation as text, rendered with the tokenizer's chat template.

    Args:
        tokenizer: of the model.
        messages: validated by `as_messages`.
        thinking: passed to the template as `enable_thinking`; in Qwen3's template, False inserts an
            empty thinking block before the reply. None leaves the template's default.
        add_generation_prompt: True appends the header of the assistant's reply.
        continue_reply: True leaves the last message, an assistant's, open at its end, as
            `continue_final_message` of transformers does.

    Raises:
        ChatError: the tokenizer has no chat template, the template refuses the conversation, or the
            last message cannot be continued.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ChatError(
            tr(
                "the tokenizer has no chat template, so this is a base model (or its "
                "tokenizer_config.json or chat_template.jinja is missing): use record or "
                "generate with text instead of messages"
            )
        )
    talk, switch = as_messages(messages), switch_of(thinking)
    if continue_reply:
        _check_continuation(talk[-1])
    options = {
        "add_generation_prompt": add_generation_prompt and not continue_reply,
        "continue_final_message": continue_reply,
        **switch,
    }
    return render_template(tokenizer, talk, options)


def switch_of(thinking: object) -> dict[str, bool]:
    """The template's argument for a thinking mode; none leaves the template's default.

    Raises:
        ChatError: neither a boolean nor None; a template takes 0 for true.
    """
    if thinking is None:
        return {}
    if not isinstance(thinking, bool):
        raise ChatError(
            tr("thinking is {thinking!r}: expected True, False or None", thinking=thinking)
        )
    return {"enable_thinking": thinking}


def _check_continuation(message: Message) -> None:
    if message.get("tool_calls"):
        raise ChatError(
            tr("the conversation ends with tool calls: add the tool's result as a 'tool' message")
        )
    if not message.get("content", "").strip():
        raise ChatError(
            tr("the last message, an assistant's, is empty: leave it out, or give text to continue")
        )


def render_ids(
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    thinking: bool | None = True,
    continue_reply: bool = False,
) -> list[int]:
    """The conversation as token ids, including the header of the assistant's reply.

    A conversation that ends with an assistant message gets no such header. `continue_reply` leaves
    such a message open at its end; otherwise it is closed.
    """
    needs_reply = messages[-1].get("role") != "assistant" if messages else True
    text = render(
        tokenizer,
        messages,
        thinking=thinking,
        add_generation_prompt=needs_reply,
        continue_reply=continue_reply and not needs_reply,
    )
    _check_control_tokens(tokenizer, text)
    return encode_text(tokenizer, text)


def _check_control_tokens(tokenizer: Any, text: str) -> None:
    """Refuse a prompt whose turns are not marked by single tokens, as the model knows them."""
    for mark in ("<|im_start|>", "<|im_end|>"):
        is_used = mark in text and mark in str(tokenizer.chat_template)
        if is_used and len(encode_text(tokenizer, mark)) != 1:
            raise ChatError(
                tr(
                    "the tokenizer splits {mark}, which its chat template writes, into "
                    "several tokens: its files lack the added tokens (tokenizer.json or "
                    "added_tokens.json), or set split_special_tokens",
                    mark=mark,
                )
            )


def early_stop_text(tokenizer: Any) -> str:
    """Text inserted when the thinking budget is used up; embedded models have their own.

    The published sentence follows a blank line, as in Qwen's documentation.
    """
    sentence = tokenizer.init_kwargs.get("thinking_early_stop") or f"\n\n{EARLY_STOP}"
    return f"{sentence}\n</think>\n\n"
