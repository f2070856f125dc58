"""A reply that is given to a workbench, in place of one that it asks for."""

import torch

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.generation.reply import Chat
from qwen3lab.model.transformer import Qwen3
from qwen3lab.translation import tr
from qwen3lab.widgets.components.transcript import Chip

CLOSE = "</think>"


def check_reply(chat: Chat, name: str, config: Qwen3Config, model: Qwen3 | None = None) -> None:
    """Check that a workbench of a model can show a reply.

    Args:
        chat: the reply.
        name: of the model.
        config: of the model.
        model: whose weights are compared with those that the recording knows; None for no check.

    Raises:
        ValueError: it was not recorded, or it is of another model.
        RecordingError: it was recorded without attention.
    """
    recording = chat.recording
    if recording is None:
        raise ValueError(
            tr(
                "the reply was not recorded: ask with lab.chat(question, record=True), "
                "and give that"
            )
        )
    if recording.config != config:
        raise ValueError(
            tr(
                "the reply is of {model_name}, whose sizes differ from those of {name}: "
                "give the lab that wrote it",
                model_name=recording.model_name,
                name=name,
            )
        )
    if model is not None and recording.head is not None and not recording.head.is_of(model):
        raise ValueError(
            tr(
                "the reply of {model_name} was recorded with other weights than {name} has here, "
                "so what is asked next would not compare with it: give the lab that wrote it",
                model_name=recording.model_name,
                name=name,
            )
        )
    if len(recording) and not recording.attention.layers:
        recording.attention.pattern(0)  # Raises an error that names the missing hook points.


def about_dtype(dtype: torch.dtype, runs_in: torch.dtype) -> str:
    """What to know of a recording in a dtype that is shown with a lab that runs in another one."""
    name, other = (str(each).removeprefix("torch.") for each in (dtype, runs_in))
    return tr(
        "This run was recorded in {name}, and the lab runs in {runs_in}: the recording is shown "
        "as it is; what is asked or measured from now on is in {runs_in}, where numbers differ.",
        name=name,
        runs_in=other,
    )


def question_of(chat: Chat) -> str:
    """The last message before the reply; empty without one."""
    return str(chat.messages[-1]["content"]) if chat.messages else ""


def chips_of(chat: Chat) -> tuple[Chip, ...]:
    """The tokens of a finished reply, as a run shows them."""
    answers_from = _first_after_thinking(chat)
    entropies, logprobs, forced = (
        each.tolist() for each in (chat.entropy, chat.logprobs, chat.forced)
    )
    return tuple(
        Chip(text, "thinking" if at < answers_from else "answer", *values, chosen=at in chat.chosen)
        for at, (text, *values) in enumerate(
            zip(chat.tokens, entropies, logprobs, forced, strict=True)
        )
    )


def _first_after_thinking(chat: Chat) -> int:
    """Index in the reply of the first token after `</think>`; all tokens, if it is still open."""
    closed = [at for at, text in enumerate(chat.tokens) if text == CLOSE]
    if closed:
        return closed[-1] + 1
    return len(chat.tokens) if chat.thinking else 0
