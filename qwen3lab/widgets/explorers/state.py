"""State of an explorer: plain values that widgets observe."""

import traitlets

from qwen3lab._moved import RenamedAttributes
from qwen3lab.generation.reply import Chat
from qwen3lab.recording.recording import Recording


class Result(traitlets.Any):
    """A trait whose observers are called for every new object, also for one that is equal."""

    def set(self, obj: traitlets.HasTraits, value: object) -> None:
        """Set the value, and notify of an equal one, too: a run may repeat an earlier one."""
        assert self.name is not None, "a trait of a class has a name"
        old = obj._trait_values.get(self.name, self.default_value)
        super().set(obj, value)
        if value is not old and bool(old == value):
            obj._notify_trait(self.name, old, value)


class ExplorerState(RenamedAttributes, traitlets.HasTraits):
    """Question and settings, result of the run, and the layer, head and token shown.

    Attributes:
        question: the next question.
        thinking: True to think before the answer.
        budget: thinking tokens before the early stop; None for no limit.
        longest_budget: largest budget that the slider offers.
        greedy: True for greedy decoding; False to sample with `temperature` and `seed`.
        temperature: sampling temperature.
        seed: sampling seed.
        status: "idle", "running" or "stopping".
        run: number of the latest run; 0 before the first.
        asked: question of the latest run.
        asked_thinking: `thinking` of the latest run.
        asked_budget: `budget` of the latest run.
        chips: tokens of the latest run so far, as `Chip`s.
        chat: the last finished run, as a `Chat` with its recording; the plots show it.
        chat_run: number of that run; less than `run` while a run goes on or after it failed.
        recording: the recording shown: of the last finished run, or one that was given.
        beside: number of replies that are generated beside the run, to compare with it.
        error: error message about a run or a request, or empty.
        drawing_error: error message about a plot, or empty; the next pick clears it.
        other_question: a question to compare with; its run is put in place by patching, too.
        layer: layer whose attention is shown.
        head: query head whose attention is shown.
        routing_layer: layer whose routing is shown.
        token: picked position in the conversation; -1 for none.
    """

    question = traitlets.Unicode()
    thinking = traitlets.Bool(True)
    budget = traitlets.Int(None, allow_none=True)
    longest_budget = traitlets.Int(1024)
    greedy = traitlets.Bool(True)
    temperature = traitlets.Float(0.6)
    seed = traitlets.Int(0)

    status = traitlets.Enum(["idle", "running", "stopping"], "idle")
    run = traitlets.Int(0)
    asked = traitlets.Unicode()
    asked_thinking = traitlets.Bool(True)
    asked_budget = traitlets.Int(None, allow_none=True)
    chips = traitlets.Any(())
    chat = Result(None)
    chat_run = traitlets.Int(-1)
    recording = Result(None)
    beside = traitlets.Int(0)
    error = traitlets.Unicode()
    drawing_error = traitlets.Unicode()

    layer = traitlets.Int(0)
    head = traitlets.Int(0)
    routing_layer = traitlets.Int(0)
    token = traitlets.Int(-1)
    other_question = traitlets.Unicode()

    @property
    def can_stop(self) -> bool:
        """True if Stop has an effect."""
        return self.status == "running" or self.beside > 0

    @property
    def current(self) -> Chat | None:
        """The finished chat of the latest run; None if that run has not finished."""
        return self.chat if self.chat_run == self.run else None

    @property
    def shown(self) -> Recording | None:
        """The recording whose tokens can be picked; None while a run goes on or after it failed."""
        return self.recording if self.chat is None or self.current is not None else None
