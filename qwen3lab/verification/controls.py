"""Checks of the thinking controls: rendering, on, off, budget, and the soft switch."""

from typing import Any

import torch

from qwen3lab.device.grad_mode import without_grad
from qwen3lab.errors import ChatError
from qwen3lab.generation.reply import Chat
from qwen3lab.generation.sampling import Sampling
from qwen3lab.lab import Lab
from qwen3lab.text.chat_template import thinking_mode
from qwen3lab.verification.prompts import QUESTION
from qwen3lab.verification.report import ControlCheck
from qwen3lab.verification.rounding import FACTOR

BUDGET = 8
"""Thinking tokens of the reply that is cut."""
OPENING_TOKENS = 4
"""At most, of `<think>` and line breaks, which are no thinking tokens."""
SOFT_SWITCH = " /no_think"


def check_controls(lab: Lab, *, tokens: int) -> tuple[ControlCheck, ...]:
    """Run the thinking controls greedily, and check what must hold for any weights.

    Args:
        lab: the model.
        tokens: new tokens of each reply; the cut one has room for the early-stop sentence, too.
    """
    talk = [{"role": "user", "content": QUESTION}]
    try:
        rendering = _rendering(lab, talk)
    except ChatError as error:
        return (ControlCheck("thinking", None, str(error)),)
    if lab.marks.think is None:
        return (rendering, ControlCheck("thinking", None, "the tokenizer has no <think>"))
    if not thinking_mode(lab.tokenizer, talk, True):
        said = "the chat template does not make the model think"
        return (rendering, ControlCheck("thinking", None, said))
    on = _reply(lab, talk, tokens=tokens, thinking=True)
    return (
        rendering,
        _is_split("thinking on", on, lab),
        _off(lab, talk, tokens),
        _budget(lab, talk, on, tokens),
        _soft_switch(lab, tokens),
    )


def _reply(lab: Lab, talk: list[dict[str, str]], *, tokens: int, **options: Any) -> Chat:
    return lab.chat(talk, max_new_tokens=tokens, sampling=Sampling.greedy(), **options)


def _rendering(lab: Lab, talk: list[dict[str, str]]) -> ControlCheck:
    """Prompts are those of `apply_chat_template` of transformers."""
    wrong = []
    for thinking in (True, False, None):
        # Ours first: it renders in a process of its own, which a hostile template cannot leave.
        ours = lab.token_ids(talk, thinking=thinking)
        options = {} if thinking is None else {"enable_thinking": thinking}
        text = lab.tokenizer.apply_chat_template(
            talk, tokenize=False, add_generation_prompt=True, **options
        )
        if ours != lab.tokenizer.encode(text, add_special_tokens=False):
            wrong.append(f"thinking={thinking}")
    said = f"other tokens than apply_chat_template with {', '.join(wrong)}" if wrong else ""
    return ControlCheck("rendering", not wrong, said or "the tokens of apply_chat_template")


def _is_split(name: str, reply: Chat, lab: Lab) -> ControlCheck:
    """Thinking is what stands between the marks, and no mark is in either text."""
    marks, prompt = lab.marks, lab.tokenizer.decode(reply.prompt_ids)
    opened = prompt.rstrip().endswith("<think>") or marks.think in reply.token_ids
    texts = reply.thinking + reply.answer
    holds = "<think>" not in texts and "</think>" not in texts
    holds &= opened or reply.thinking_tokens == 0
    return ControlCheck(name, holds, _counts(reply))


def _off(lab: Lab, talk: list[dict[str, str]], tokens: int) -> ControlCheck:
    if thinking_mode(lab.tokenizer, talk, False):
        return ControlCheck("thinking off", None, "the chat template has no switch for thinking")
    reply = _reply(lab, talk, tokens=tokens, thinking=False)
    check = _is_split("thinking off", reply, lab)
    again = lab.marks.think in reply.token_ids
    holds = check.holds and (again or (reply.thinking, reply.thinking_tokens) == ("", 0))
    return ControlCheck(check.name, holds, check.said + (", thinks by itself" if again else ""))


def _budget(lab: Lab, talk: list[dict[str, str]], on: Chat, tokens: int) -> ControlCheck:
    """The reply without budget up to the cut, then the early-stop sentence and an answer."""
    stop = lab.marks.early_stop
    room = BUDGET + len(stop) + OPENING_TOKENS + tokens
    cut = _reply(lab, talk, tokens=room, thinking=True, budget=BUDGET)
    inserted = [t for t, forced in zip(cut.token_ids, cut.forced.tolist(), strict=True) if forced]
    first = cut.forced.tolist().index(True) if inserted else len(cut.token_ids)
    same = _same_start(lab, on, cut, min(first, len(on.token_ids)))
    if cut.thinking_tokens > BUDGET:
        return ControlCheck("budget", False, f"{_counts(cut)}, more than the budget of {BUDGET}")
    if inserted and tuple(inserted[-len(stop) :]) != stop:
        return ControlCheck("budget", False, "the early-stop sentence is not that of the model")
    if not same:
        said = "the reply differs from that without a budget, before the budget was used up"
        return ControlCheck("budget", False, said)
    how = "cut at" if inserted else "ended before"
    return ControlCheck("budget", True, f"{how} {BUDGET} thinking tokens: {_counts(cut)}")


@without_grad
def _same_start(lab: Lab, one: Chat, other: Chat, length: int) -> bool:
    """True if two replies have the same first tokens, up to a tie of two logits."""
    pairs = zip(one.token_ids[:length], other.token_ids[:length], strict=True)
    at = next((place for place, (a, b) in enumerate(pairs) if a != b), None)
    if at is None:
        return True
    ids = torch.tensor([[*one.prompt_ids, *one.token_ids[:at]]], device=lab.model.device)
    logits = lab.model(ids, last_only=True)[0, -1]
    gap = (logits[one.token_ids[at]] - logits[other.token_ids[at]]).abs()
    return bool(gap <= FACTOR * torch.finfo(logits.dtype).eps * logits.abs().max())


def _soft_switch(lab: Lab, tokens: int) -> ControlCheck:
    """The switch is text that the model reads; the rendering stays that of thinking."""
    talk = [{"role": "user", "content": QUESTION + SOFT_SWITCH}]
    reply = _reply(lab, talk, tokens=tokens, thinking=True)
    is_read = SOFT_SWITCH.strip() in lab.tokenizer.decode(reply.prompt_ids)
    check = _is_split("/no_think", reply, lab)
    follows = "does not think" if reply.thinking_tokens == 0 else "thinks all the same"
    return ControlCheck("/no_think", check.holds and is_read, f"the model {follows}: {check.said}")


def _counts(reply: Chat) -> str:
    return f"{reply.thinking_tokens} thinking and {reply.answer_tokens} answer tokens"
