"""Runs of the model: the part of `Workbench` that asks it, and shows what it answers."""

import threading
from collections.abc import Callable
from typing import Any, ClassVar

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.generation.reply import Chat
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr
from qwen3lab.widgets.components.error_display import sentence, shows_errors
from qwen3lab.widgets.components.transcript import Chip
from qwen3lab.widgets.components.worker import Worker
from qwen3lab.widgets.explorers.given_reply import check_reply, chips_of, question_of
from qwen3lab.widgets.explorers.kept_token import PickedToken, find_token, picked_token
from qwen3lab.widgets.workbench.asking import Asker
from qwen3lab.widgets.workbench.changes import edits_of
from qwen3lab.widgets.workbench.panel import BenchPanel
from qwen3lab.widgets.workbench.parts.all_parts import PartsOfBench
from qwen3lab.widgets.workbench.parts.experts import ExpertsPart
from qwen3lab.widgets.workbench.parts.part import Part
from qwen3lab.widgets.workbench.state import WorkbenchState


class Runs(PartsOfBench):
    """Asks the question of a workbench in the background, and shows each reply in all views.

    Attributes:
        worker: the thread of the run.
        lock: held while the state of a run is changed.
        asker: asks the model.
        picked: the token that was picked before the current run, to pick it again after.
        asked_options: options of the run.
        run_options: those with what the parts added; None for a reply that was given.
        closed: True once the workbench is closed, until it is asked or displayed again.
        is_showing: True while a reply is put into the state.
    """

    opens: ClassVar[str]
    state: WorkbenchState
    lab: Any
    examples: tuple[str, ...]
    view: BenchPanel | None
    worker: Worker[Chat]
    lock: Any
    asker: Asker
    picked: PickedToken | None
    asked_options: dict[str, Any]
    run_options: dict[str, Any] | None
    closed: bool
    is_showing: bool

    @property
    def name(self) -> str:
        """The model's name."""
        raise NotImplementedError

    @property
    def config(self) -> Qwen3Config:
        """The model's sizes."""
        raise NotImplementedError

    def run(self) -> Chat:
        """Ask the question in the box, and wait for the reply.

        A kernel interrupt stops the run and keeps the tokens generated so far.

        Raises:
            ValueError: the question cannot be asked; the workbench shows the message, too.
        """
        try:
            self.ask()
        except ValueError as error:
            self.state.error = sentence(error)
            raise
        chat = self.wait()
        assert chat is not None
        return chat

    def wait(self) -> Chat | None:
        """Wait for the run and all work beside it; return the latest reply, None without one."""
        chat = self.worker.wait() if self.worker.future is not None else self.state.chat
        for part in self.parts.values():
            part.wait()
        if self.view is not None:
            self.view.wait()
        return chat

    @shows_errors
    def start(self) -> None:
        """Ask the question in the box, in the background; stop the current run first."""
        self.ask()

    @shows_errors
    def stop(self) -> None:
        """Stop the run after its next token, and all work beside it; keep the tokens so far."""
        with self.lock:
            for part in self.parts.values():
                part.stop()
            if self.state.status == "running":
                self.state.status = "stopping"
                self.worker.stop()

    def ask_again(self) -> None:
        """Ask the question of the latest run again, in the background."""
        self.state.question = self.state.asked or self.state.question
        self.ask()

    def ask(self) -> None:
        """Ask the question in the box, in the background.

        Raises:
            ValueError: the question cannot be asked.
        """
        self._check()
        state = self.state
        with self.lock:
            self.worker.stop()
            state.error = state.drawing_error = state.pick_error = ""
            same = state.question == state.asked
            self.picked = picked_token(state.current, state.token) or self.picked if same else None
            state.token = -1
            state.run += 1
            self.closed = False
            state.asked, state.asked_thinking = state.question, state.thinking
            state.asked_budget, state.asked_changes = state.budget, state.changes
            self.asked_options = self.options()
            state.chips = ()
            for part in self._active():
                part.started()
            state.status = "running"
            self.worker.start(self._job())

    def begin(
        self, write: Callable[[int, threading.Event], Chat], chips: tuple[Chip, ...] = ()
    ) -> None:
        """Start a run of the same question and settings, whose reply `write` makes.

        Args:
            write: makes the reply, from the number of the run and the event that cancels it.
            chips: the tokens of the reply that are there already.
        """
        state = self.state
        with self.lock:
            self.worker.stop()
            state.error = state.drawing_error = state.pick_error = ""
            self.picked, state.token = None, -1
            state.run += 1
            self.closed, run, state.chips = False, state.run, chips
            for part in self._active():
                part.started()
            state.status = "running"
            self.worker.start(self._finishing(run, lambda cancel: write(run, cancel)))

    def show_reply(self, chat: Chat) -> None:
        """Show a finished reply to the same question, as a new run."""
        state = self.state
        state.token = -1
        state.run += 1
        state.chips = chips_of(chat)
        for part in self._active():
            part.started()
        self._show(state.run, chat, stopped=False)

    def options_of_run(self) -> dict[str, Any]:
        """The options of the latest reply, with the hooks and edits that the parts added."""
        found = self.run_options
        if found is None:  # A reply that was given.
            found = self._with_parts(self.asked_options)
        return found | {"steering": self.thinking.options()["steering"]}

    def options(self) -> dict[str, Any]:
        """Options of `reply`, from the settings."""
        return self.asker.options()

    def reply(self, question: str, *, temperature: float | None, **options: Any) -> Chat:
        """A reply, sampled as published for its mode, at a temperature; 0 is greedy."""
        return self.asker.reply(question, temperature=temperature, **options)

    def _active(self) -> list[Part]:
        """The parts whose view the model has: a dense one has no routing, unless asked for."""
        return [
            part
            for name, part in self.parts.items()
            if name != ExpertsPart.name or self.config.is_moe or self.opens == name
        ]

    def _take_reply(self, chat: Chat, question: str | None, thinking: bool) -> None:
        """Show a reply that was recorded before."""
        model = getattr(self.lab, "model", None)
        check_reply(chat, self.name, self.config, model)
        state = self.state
        self.run_options = None
        state.thinking = thinking if chat.thinking_asked is None else chat.thinking_asked
        state.question = question_of(chat) if question is None else question
        state.asked, state.asked_thinking = state.question, state.thinking
        state.asked_budget, state.asked_changes = state.budget, ()
        self.asked_options = self.options()
        self.show_reply(chat)
        head = chat.recording.head if chat.recording is not None else None
        if model is not None and head is not None and head.unembedding.dtype != model.dtype:
            self.interventions.note_dtype(head.unembedding.dtype, model.dtype)

    def _take_recording(self, recording: Recording) -> None:
        """Show a recording that has no reply."""
        if not recording.attention.layers:
            recording.attention.pattern(0)  # Raises an error that names the missing hook points.
        self.state.run, self.state.recording = 1, recording
        for part in self._active():
            part.finished(None, stopped=False)

    def _check(self) -> None:
        """Raise an error if the question cannot be asked."""
        if not self.state.question.strip():
            raise ValueError(
                tr(
                    "the question is empty: type a question, such as “{example}”",
                    example=self.examples[0],
                )
            )
        for part in self._active():
            part.check()

    def _job(self) -> Callable[[threading.Event], Chat]:
        run, question = self.state.run, self.state.question
        options = self.run_options = self._with_parts(self.asked_options)
        changes = self.state.asked_changes

        def write(cancel: threading.Event) -> Chat:
            return self.asker.ask(run, question, options | edits_of(self.lab, changes), cancel)

        return self._finishing(run, write)

    def _with_parts(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a reply, with those of the parts and the hooks that they record."""
        options, hooks = dict(options), list[str]()
        for part in self._active():
            options |= part.options()
            hooks += part.hooks()
        return options | {"record": tuple(dict.fromkeys(hooks)) or True}

    def _finishing(
        self, run: int, write: Callable[[threading.Event], Chat]
    ) -> Callable[[threading.Event], Chat]:
        """A job that writes the reply of a run, and shows it."""

        def job(cancel: threading.Event) -> Chat:
            try:
                chat = write(cancel)
            except Exception as error:
                self._finish(run, error=sentence(error))
                raise
            self._finish(run, chat, stopped=cancel.is_set())
            return chat

        return job

    def _finish(
        self, run: int, chat: Chat | None = None, *, stopped: bool = False, error: str = ""
    ) -> None:
        """Show the result of a run, unless a newer run has started."""
        with self.lock:
            if run != self.state.run:
                return
            self.state.error = error or self.state.error
            try:
                if chat is not None:
                    self._show(run, chat, stopped=stopped)
            finally:
                self.state.status = "idle"

    def _show(self, run: int, chat: Chat, *, stopped: bool) -> None:
        """Show a reply in all views."""
        state, self.is_showing = self.state, True
        state.chat_run, state.chat = run, chat
        state.recording = chat.recording  # The views follow this one.
        state.token = find_token(chat, self.picked)
        self.picked, self.is_showing = None, False
        for part in self._active():
            try:
                part.finished(chat, stopped=stopped)
            except Exception as error:  # Of one view: the others show the reply.
                state.error = sentence(error)
