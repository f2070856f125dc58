"""A conversation during generation: one chip per token, thinking and answer separated."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import anywidget
import traitlets

from qwen3lab.figures.theme import visible
from qwen3lab.translation import tr
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
        chosen: True if it was chosen in a branch, in place of the generated one; it is forced, too.
    """

    text: str
    part: str
    entropy: float
    logprob: float
    forced: bool
    chosen: bool = False

    @property
    def is_inserted(self) -> bool:
        """True for a token of an early stop."""
        return self.forced and not self.chosen

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

    A change of `reply` is sent as a message with the new tokens only: a reply of 2,000 tokens has
    250 kB, and is updated 12 times a second. The page asks for what it misses, such as after it
    was loaded.

    Attributes:
        reply: number of the run, the question, and the tokens of the reply.
        progress: the fields of `Progress`.
        selected: index of the clicked token in the reply; -1 for none. `on_pick` resets it to -1
            after each pick.
        marked: index of the outlined token; -1 for none; set from Python.
    """

    _esm = script("closed_comms.js", "token_blocks.js", "transcript.js")
    reply: "traitlets.Dict[str, Any]" = traitlets.Dict({"run": 0, "question": "", "chips": []}).tag(
        sync=True
    )
    progress = traitlets.Dict().tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True, echo_update=False)
    marked = traitlets.Int(-1).tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        self.sent = (0, 0)  # Number of the run and its tokens that the page has.
        super().__init__(**traits)
        self.on_msg(lambda _, content, __: self.answer(content))

    def answer(self, content: dict[str, object]) -> None:
        """Send the tokens that the page misses."""
        run, tokens = content.get("run"), content.get("tokens")
        if content.get("kind") == "have" and isinstance(run, int) and isinstance(tokens, int):
            same = run == self.reply["run"] and 0 <= tokens <= len(self.reply["chips"])
            if not same or tokens < len(self.reply["chips"]):
                self._send_chips(tokens if same else 0)

    def send_state(self, key: str | Iterable[str] | None = None) -> None:
        """Send traits to the page; of a reply, the tokens that the page does not have yet."""
        if key is None:
            super().send_state()
            return
        names = {key} if isinstance(key, str) else set(key)
        if "reply" in names:
            run, tokens = self.sent
            self._send_chips(tokens if run == self.reply["run"] else 0)
        if names - {"reply"}:
            super().send_state(names - {"reply"})

    def _send_chips(self, first: int) -> None:
        reply = self.reply
        self.sent = (reply["run"], len(reply["chips"]))
        new = {"first": first, "chips": reply["chips"][first:]}
        self.send({"kind": "chips", **reply, **new})

    def show(self, run: int, question: str, chips: Sequence[Chip], progress: Progress) -> None:
        """Show the reply so far.

        Args:
            run: number of the run; a new number starts a new reply.
            question: the question, as text.
            chips: all tokens generated so far.
            progress: progress of the run.
        """
        old = self.reply["chips"] if run == self.reply["run"] else []
        old = old[: len(chips)]
        with self.hold_sync():
            self.reply = {
                "run": run,
                "question": question,
                "chips": [*old, *(_row(chip) for chip in chips[len(old) :])],
            }
            self.progress = vars(progress)


def _row(chip: Chip) -> list[str]:
    return [chip.text, visible(chip.text), chip.part, _hint(chip), _kind(chip)]


def _kind(chip: Chip) -> str:
    if chip.chosen:
        return "chosen"
    if chip.forced:
        return "forced"
    return "mark" if chip.is_mark else ""


def _hint(chip: Chip) -> str:
    if chip.is_inserted:
        return tr("{part}, inserted by the early stop", part=tr(chip.part))
    how = tr(", chosen in a branch") if chip.chosen else ""
    values = tr(
        "entropy {entropy:.3f} nats, log-probability {logprob:.3f} nats",
        entropy=chip.entropy,
        logprob=chip.logprob,
    )
    return f"{tr(chip.part)}{how}{tr(', ')}{values}"
