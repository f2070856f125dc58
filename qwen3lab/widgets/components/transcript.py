"""A conversation during generation: one chip per token, thinking and answer separated."""

from collections.abc import Sequence
from dataclasses import dataclass

import anywidget
import traitlets

from qwen3lab.figures.theme import visible
from qwen3lab.widgets.components.scripts import script

MARKS = ("<think>", "</think>", "<|im_end|>", "<|endoftext|>")
"""Tokens that structure a reply and are not part of its text."""


@dataclass(frozen=True)
class Chip:
    """One generated token.

    Attributes:
        text: the token's text.
        part: "thinking" or "answer".
        entropy: entropy of the next-token distribution, in nats.
        logprob: log-probability of the token, in nats.
        forced: True if an early stop inserted the token, False if the model generated it.
    """

    text: str
    part: str
    entropy: float
    logprob: float
    forced: bool

    @property
    def is_mark(self) -> bool:
        """True for white space and for tokens that only structure the reply."""
        return self.text.strip() in ("", *MARKS)


@dataclass(frozen=True)
class Progress:
    """Progress of a run, for the bar and the status line below the conversation.

    Attributes:
        thinking_tokens: thinking tokens generated so far.
        answer_tokens: answer tokens generated so far.
        budget: thinking tokens allowed; None for no limit.
        thinks: True if the model thinks before it answers.
        is_running: True until the run has ended.
        note: why the run ended, or what it is doing.
    """

    thinking_tokens: int = 0
    answer_tokens: int = 0
    budget: int | None = None
    thinks: bool = True
    is_running: bool = False
    note: str = ""


class Transcript(anywidget.AnyWidget):
    """Shows one question and the tokens of its reply; new tokens are appended.

    Attributes:
        reply: number of the run, the question, and the tokens of the reply.
        progress: the fields of `Progress`.
        selected: index of the clicked token in the reply; -1 for none. `on_pick` resets it to -1
            after each pick.
        marked: index of the outlined token; -1 for none; set from Python.
    """

    _esm = script("transcript.js")
    reply = traitlets.Dict({"run": 0, "question": "", "chips": []}).tag(sync=True)
    progress = traitlets.Dict().tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)
    marked = traitlets.Int(-1).tag(sync=True)

    def show(self, run: int, question: str, chips: Sequence[Chip], progress: Progress) -> None:
        """Show the reply so far.

        Args:
            run: number of the run; a new number starts a new reply.
            question: the question, as text.
            chips: all tokens generated so far.
            progress: progress of the run.
        """
        with self.hold_sync():
            self.reply = {
                "run": run,
                "question": question,
                "chips": [[c.text, visible(c.text), c.part, _hint(c), _kind(c)] for c in chips],
            }
            self.progress = vars(progress)


def _kind(chip: Chip) -> str:
    if chip.forced:
        return "forced"
    return "mark" if chip.is_mark else ""


def _hint(chip: Chip) -> str:
    if chip.forced:
        return f"{chip.part}, inserted by the early stop"
    return f"{chip.part}, entropy {chip.entropy:.3f} nats, log-probability {chip.logprob:.3f} nats"
