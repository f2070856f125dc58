"""The explorer: asks a model a question, and shows the reply and the model's internals."""

import threading
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable
from weakref import WeakValueDictionary

import ipywidgets as w
from IPython.display import display

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.generation.reply import Chat, ChatStep
from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.suggested import Suggested
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.widgets.components.error_display import sentence, shows_errors
from qwen3lab.widgets.components.transcript import Chip
from qwen3lab.widgets.components.worker import Throttle, Worker
from qwen3lab.widgets.explorers.chat_compute import chip
from qwen3lab.widgets.explorers.controls import Controls
from qwen3lab.widgets.explorers.explorer_panel import ExplorerPanel
from qwen3lab.widgets.explorers.given_reply import check_reply, chips_of, question_of
from qwen3lab.widgets.explorers.kept_token import PickedToken, find_token, picked_token
from qwen3lab.widgets.explorers.state import ExplorerState

SECONDS_BETWEEN_UPDATES = 0.08
"""Shortest time between two updates of the page during a run."""


@runtime_checkable
class ChatModel(Protocol):
    """The part of `qwen3lab.Lab` that an explorer uses."""

    name: str
    tokenizer: Any

    @property
    def config(self) -> Qwen3Config:
        """The model's sizes."""
        ...

    def chat(self, messages: str, **options: Any) -> Chat:
        """Reply to a question."""
        ...

    @property
    def suggested(self) -> Suggested:
        """Questions and lengths that fit the model."""
        ...

    def chat_sampling(self, messages: str, *, thinking: bool | None = None) -> Sampling:
        """The sampling that `chat` uses unless one is given."""
        ...


@runtime_checkable
class ExplorerView(Protocol):
    """The widgets of an explorer, such as `ExplorerPanel`."""

    controls: Controls
    root: w.VBox

    def close(self) -> None:
        """Close all widgets."""
        ...


class Explorer:
    """Asks a model questions in a notebook, and shows its reply, attention, routing and entropy.

    Make it the last expression of a cell: the notebook displays it and asks the first question.
    The model runs in a background thread, so other cells can run and Stop works.

    Args:
        lab: the model.
        question: the first question; an example question for this model if None.
        thinking: True to think before the answer.
        budget: thinking tokens before the early stop; None for no limit, "suggested" for that of
            `lab.suggested`. It holds without thinking, too: a model may think all the same.
        max_new_tokens: maximum length of the reply, in tokens; None for `recorded_tokens` of
            `lab.suggested`.
        chat: a recorded reply of this model to show at first, in place of asking a question.

    Attributes:
        state: the values shown, which can be read and set: `explorer.state.layer = 2`.
        key: identifies the model shown: name and weights of the lab. Displaying an explorer
            closes the displayed explorer of the same class and key, so that running a cell again
            does not keep old models in memory.

    Raises:
        ValueError: the reply was not recorded, or it is of another model.
    """

    shown: ClassVar[MutableMapping[Any, "Explorer"]] = WeakValueDictionary()
    State: ClassVar[type[ExplorerState]] = ExplorerState

    def __init__(
        self,
        lab: ChatModel,
        *,
        question: str | None = None,
        thinking: bool = True,
        budget: int | Literal["suggested"] | None = "suggested",
        max_new_tokens: int | None = None,
        chat: Chat | None = None,
    ) -> None:
        self.lab, suggested = lab, lab.suggested
        self.max_new_tokens = max_new_tokens or suggested.recorded_tokens
        self.examples = suggested.questions
        layers = lab.config.moe_layers
        temperature = suggested.temperatures[thinking]
        self.state = self.State(
            question=self.examples[0] if question is None else question,
            thinking=thinking,
            budget=suggested.budget if budget == "suggested" else budget,
            longest_budget=self.max_new_tokens,
            greedy=suggested.sampling is not None or temperature == 0,
            **({"temperature": temperature} if temperature else {}),
            layer=lab.config.n_layers // 2,
            routing_layer=layers[len(layers) // 2] if layers else 0,
        )
        self.state.observe(self._follow_mode, ["thinking"])
        self.worker: Worker[Chat] = Worker()
        self.lock = threading.RLock()  # A run can end while the Stop callback runs.
        self.view: ExplorerView | None = None
        self.picked: PickedToken | None = None  # Before the current run, to pick it again after.
        self.closed = False
        self.key: tuple[object, ...] = ("lab", lab.name, getattr(lab, "weights", ""))
        if chat is not None:
            self._take_reply(chat, question, thinking)

    def run(self) -> Chat:
        """Ask the question in the box, and wait for the reply.

        A kernel interrupt stops the run and keeps the tokens generated so far.

        Raises:
            ValueError: the question cannot be asked; the explorer shows the message, too.
        """
        try:
            self._start()
        except ValueError as error:
            self.state.error = sentence(error)
            raise
        chat = self.wait()
        assert chat is not None
        return chat

    def wait(self) -> Chat | None:
        """Wait for the current run, and return the latest reply; None before the first run."""
        return self.worker.wait() if self.worker.future is not None else self.state.chat

    @shows_errors
    def start(self) -> None:
        """Ask the question in the box, in the background; stop the current run first."""
        self._start()

    @shows_errors
    def stop(self) -> None:
        """Stop the run after its next token, and keep the tokens generated so far."""
        with self.lock:
            if self.state.status == "running":
                self.state.status = "stopping"
                self.worker.stop()

    def close(self) -> None:
        """Stop the run, and remove the explorer from the page."""
        with self.lock:
            self.closed = True
            self.worker.stop()
        if self.shown.get(self.key) is self:
            del self.shown[self.key]
        if self.view is not None:
            self.view.close()
            self.view = None

    def _ipython_display_(self) -> None:
        predecessor = self.shown.get(self.key)
        if predecessor is self and self.view is not None:
            self.view.close()
        elif predecessor is not None:
            predecessor.close()
        self.shown[self.key] = self
        display(self.open())
        if self.state.run == 0:
            self.start()

    def open(self) -> w.VBox:
        """Make the widgets, and return the one that holds all; `close` removes them."""
        self.closed = False
        self.view = self._view()
        self.view.controls.connect(run=self.start, stop=self.stop)
        return self.view.root

    def _take_reply(self, chat: Chat, question: str | None, thinking: bool) -> None:
        """Show a reply that was recorded before."""
        check_reply(chat, self.lab.name, self.lab.config, self._recorded())
        state = self.state
        state.thinking = thinking if chat.thinking_asked is None else chat.thinking_asked
        state.question = question_of(chat) if question is None else question
        state.run, state.asked, state.asked_thinking = 1, state.question, state.thinking
        state.asked_budget = state.budget
        state.chips = chips_of(chat)
        state.chat_run, state.chat = 1, chat

    def _recorded(self) -> bool | tuple[str, ...]:
        """What a reply is recorded with: True for attention and routing, or further hooks."""
        return True

    def _view(self) -> ExplorerView:
        return ExplorerPanel(self.lab.name, self.lab.config, self.state, self.examples)

    def _check(self) -> None:
        """Raise an error if the question cannot be asked."""
        if not self.state.question.strip():
            raise ValueError(
                f"the question is empty: type a question, such as “{self.examples[0]}”"
            )

    def _start(self) -> None:
        self._check()
        state = self.state
        with self.lock:
            self.worker.stop()
            state.error = state.drawing_error = ""
            same = state.question == state.asked
            self.picked = picked_token(state.current, state.token) or self.picked if same else None
            state.token = -1
            state.run += 1
            self.closed = False
            state.asked, state.asked_thinking = state.question, state.thinking
            state.asked_budget = state.budget
            state.chips = ()
            state.status = "running"
            self.worker.start(self._job())

    def _job(self) -> Callable[[threading.Event], Chat]:
        run, question, options = self.state.run, self.state.question, self._options()

        def job(cancel: threading.Event) -> Chat:
            try:
                chat = self._ask(run, question, options, cancel)
            except Exception as error:
                self._finish(run, error=sentence(error))
                raise
            self._finish(run, chat)
            return chat

        return job

    def _follow_mode(self, change: Any) -> None:
        """Take the temperature published for the new mode, unless another one was chosen."""
        published = self.lab.suggested.temperatures
        if self.state.temperature == published[change["old"]] and published[change["new"]]:
            self.state.temperature = published[change["new"]]

    def _options(self) -> dict[str, Any]:
        """Options of `_reply`. The budget holds in both modes: a model may think unasked."""
        state = self.state
        is_published = state.temperature == self.lab.suggested.temperatures[state.thinking]
        return {
            "thinking": state.thinking,
            "budget": state.budget,
            "temperature": 0.0 if state.greedy else None if is_published else state.temperature,
            "seed": state.seed,
            "max_new_tokens": self.max_new_tokens,
        }

    def _reply(self, question: str, *, temperature: float | None, **options: Any) -> Chat:
        """A reply, sampled as published for its mode, at a temperature.

        0 is greedy, and None the published temperature, which differs between the modes.
        """
        sampling = Sampling.greedy()
        if temperature != 0:
            sampling = self.lab.chat_sampling(question, thinking=options["thinking"])
        if temperature:
            sampling = replace(sampling, temperature=temperature)
        return self.lab.chat(question, sampling=sampling, **options)

    def _ask(
        self, run: int, question: str, options: dict[str, Any], cancel: threading.Event
    ) -> Chat:
        chips: list[Chip] = []
        throttle = Throttle(SECONDS_BETWEEN_UPDATES)

        def on_step(step: ChatStep) -> None:
            (text,) = token_texts(self.lab.tokenizer, [step.token_id])
            chips.append(chip(step, text))
            if throttle.ready():
                self._stream(run, chips)

        try:
            recorded = self._recorded()
            return self._reply(question, record=recorded, on_step=on_step, cancel=cancel, **options)
        finally:
            self._stream(run, chips)

    def _stream(self, run: int, chips: list[Chip]) -> None:
        with self.lock:
            if run == self.state.run:
                self.state.chips = tuple(chips)

    def _finish(self, run: int, chat: Chat | None = None, *, error: str = "") -> None:
        """Show the result of a run, unless a newer run has started."""
        with self.lock:
            if run != self.state.run:
                return
            if chat is not None:
                self.state.chat_run = run
                self.state.chat = chat
                self.state.token = find_token(chat, self.picked)
                self.picked = None
            self.state.error = error or self.state.error
            self.state.status = "idle"
