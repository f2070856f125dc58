"""A conversation as it is written: one chip per token, thinking told apart from the answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import anywidget
import traitlets

from qwen3lab.figures.theme import visible
from qwen3lab.widgets.components.scripts import script

MARKS = ("<think>", "</think>", "<|im_end|>", "<|endoftext|>")


@dataclass(frozen=True)
class Chip:
    """One generated token as it is shown.

    Attributes:
        text: the token's text.
        part: "thinking" or "answer".
        entropy: of the distribution it was drawn from, in nats.
        logprob: its log-probability, in nats.
        forced: put there by an early stop, not drawn.
    """

    text: str
    part: str
    entropy: float
    logprob: float
    forced: bool

    @property
    def is_mark(self) -> bool:
        """True for a token that structures the reply and says nothing."""
        return self.text.strip() in ("", *MARKS)


@dataclass(frozen=True)
class Progress:
    """How far a run is: shown in the bar and the line under the conversation."""

    thinking_tokens: int = 0
    answer_tokens: int = 0
    budget: int | None = None
    thinks: bool = True
    is_running: bool = False
    note: str = ""


class Transcript(anywidget.AnyWidget):
    """Shows one question and the tokens of its reply; chips are added, never drawn again.

    Attributes:
        selected: the reply's token that was clicked, counted from its first; -1 for none,
            and again once `on_pick` has told of it.
        marked: the token that is outlined; set from Python.
    """

    _esm = script("transcript.js")
    reply = traitlets.Dict({"run": 0, "question": "", "chips": []}).tag(sync=True)
    progress = traitlets.Dict().tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)
    marked = traitlets.Int(-1).tag(sync=True)

    def show(self, run: int, question: str, chips: Sequence[Chip], progress: Progress) -> None:
        """Show the reply so far; `run` tells one reply from the next."""
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
