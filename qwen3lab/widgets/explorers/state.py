"""What an explorer is showing: plain values that anything can watch."""

import traitlets

from qwen3lab.generation.reply import Chat


class ExplorerState(traitlets.HasTraits):
    """The question, how to ask it, what came back, and which part of it is looked at.

    Attributes:
        question: to be asked next.
        thinking: whether to think first.
        budget: thinking tokens before an early stop; None for no limit.
        greedy: the most likely token each time; else sampled with `temperature` and `seed`.
        status: "idle", "running" or "stopping".
        run: number of the run that is shown; 0 before the first.
        asked: the question of that run, and how it was asked.
        chips: its tokens so far, as `Chip`s.
        chat: the last finished run, as a `Chat` with its recording; what the plots show.
        chat_run: its number; less than `run` while another goes on or after one that failed.
        error: one sentence on a run or on what was asked for, or nothing.
        undrawn: one sentence on what could not be drawn, or nothing; the next pick clears it.
        layer, head: whose attention is shown.
        routing_layer: whose routing is shown.
        token: picked position in the conversation; -1 for none.
    """

    question = traitlets.Unicode()
    thinking = traitlets.Bool(True)
    budget = traitlets.Int(None, allow_none=True)
    greedy = traitlets.Bool(True)
    temperature = traitlets.Float(0.6)
    seed = traitlets.Int(0)

    status = traitlets.Enum(["idle", "running", "stopping"], "idle")
    run = traitlets.Int(0)
    asked = traitlets.Unicode()
    asked_thinking = traitlets.Bool(True)
    asked_budget = traitlets.Int(None, allow_none=True)
    chips = traitlets.Any(())
    chat = traitlets.Any(None)
    chat_run = traitlets.Int(-1)
    error = traitlets.Unicode()
    undrawn = traitlets.Unicode()

    layer = traitlets.Int(0)
    head = traitlets.Int(0)
    routing_layer = traitlets.Int(0)
    token = traitlets.Int(-1)

    @property
    def can_stop(self) -> bool:
        """Whether there is something that Stop ends."""
        return self.status == "running"

    @property
    def current(self) -> Chat | None:
        """The finished chat, if it is of the run that is shown."""
        return self.chat if self.chat_run == self.run else None
