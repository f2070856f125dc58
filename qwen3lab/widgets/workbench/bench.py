"""The workbench: asks a model a question, and shows one run in every view, on one screen."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import ipywidgets as w
from IPython.display import display

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.generation.reply import Chat
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr
from qwen3lab.widgets.classroom.sharing import Sharing
from qwen3lab.widgets.components.error_display import sentence, shows_errors
from qwen3lab.widgets.components.transcript import Chip
from qwen3lab.widgets.components.worker import Worker
from qwen3lab.widgets.explorers.given_reply import check_reply, chips_of, question_of
from qwen3lab.widgets.explorers.kept_token import PickedToken, find_token, picked_token
from qwen3lab.widgets.workbench import cells
from qwen3lab.widgets.workbench.asking import Asker, first_state
from qwen3lab.widgets.workbench.changes import Change, edits_of, in_force
from qwen3lab.widgets.workbench.keep.keeping import Keeping
from qwen3lab.widgets.workbench.own_vector import OWN, own_vector
from qwen3lab.widgets.workbench.panel import BenchPanel
from qwen3lab.widgets.workbench.parts.all_parts import PARTS, PartsOfBench
from qwen3lab.widgets.workbench.parts.experts import ExpertsPart
from qwen3lab.widgets.workbench.parts.part import Part
from qwen3lab.widgets.workbench.recorded import ChatModel, RecordedModel, other_models, sources
from qwen3lab.widgets.workbench.state import TABS, link_picks
from qwen3lab.widgets.workbench.views.heads_pane import is_large


class Workbench(PartsOfBench, Keeping, Sharing):
    """One run of a model with all of its views: text, attention, routing, thinking, why, and more.

    Make it the last expression of a cell: the notebook displays it and asks the first question.
    The model runs in a background thread, so other cells can run and Stop works. What is picked in
    one view (a token, a layer, a head, an expert) is picked in all of them.

    Args:
        source: a lab to ask questions, a recorded reply, or a recording with attention. Of a list
            of labs, the first one is asked, and the others are there to compare with.
        lab: the model of a reply or a recording that is given as `source`; it can then be asked.
        chat: a recorded reply of the model to show at first, in place of asking a question.
        question: the first question; an example question for this model if None.
        thinking: True to think before the answer.
        budget: thinking tokens before the early stop; None for no limit, "suggested" for that of
            `lab.suggested`. It holds without thinking, too: a model may think all the same.
        max_new_tokens: maximum length of the reply, in tokens; None for `recorded_tokens` of
            `lab.suggested`.
        corpus: recordings of the same model, in which an expert's tokens are listed, too.
        tab: the view to open: "text", "attention", "routing", "thinking", "why", "compare", "raw".
        link: another workbench, whose picks this one shares; of the same lab, also its runs.

    Attributes:
        state: question, settings, run and picks, which can be read and set:
            `bench.state.layer = 2`.
        lab: the model, or what stands in for it.
        others: further models to compare with, by name.
        asks: True if questions can be asked.
        parts: the work of the views beside the run, by the name of the tab.
        view: the widgets while the workbench is displayed, else None.

    Raises:
        ValueError: the reply was not recorded, or it is of another model.
        RecordingError: the recording has no attention.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab.widgets import Workbench
        >>> lab = qwen3lab.load("tiny-moe")
        >>> bench = Workbench(lab, question="3+4=?", thinking=False)
        >>> bench.run().stop
        'natural'
        >>> bench.state.layer, bench.state.tab = 5, "attention"
        >>> bench.close()
    """

    opens: ClassVar[str] = TABS[0]
    """The tab to open unless another one is given."""

    def __init__(
        self,
        source: ChatModel | Recording | Chat | Sequence[Any],
        *,
        lab: ChatModel | None = None,
        chat: Chat | None = None,
        question: str | None = None,
        thinking: bool = True,
        budget: int | Literal["suggested"] | None = "suggested",
        max_new_tokens: int | None = None,
        corpus: Sequence[Recording] = (),
        tab: str | None = None,
        link: "Workbench | None" = None,
    ) -> None:
        model, chat, recording = sources(source, lab, chat)
        self.asks = not isinstance(model, RecordedModel)
        self.lab, suggested = model, model.suggested
        self.others = other_models(source)
        self.max_new_tokens = max_new_tokens or suggested.recorded_tokens
        self.examples = suggested.questions
        self.state = first_state(
            model,
            self.max_new_tokens,
            question=self.examples[0] if question is None else question,
            thinking=thinking,
            budget=suggested.budget if budget == "suggested" else budget,
            tab=tab or self.opens,
            hook=f"blocks.{model.config.n_layers // 2}.hook_resid_post",
            pane="scores" if is_large(model.config) else "thumbnails",
        )
        self.worker: Worker[Chat] = Worker()
        self.lock = threading.RLock()  # A run can end while the Stop callback runs.
        self.asker = Asker(model, self.state, self.lock, self.max_new_tokens)
        self.view: BenchPanel | None = None
        self.picked: PickedToken | None = None  # Before the current run, to pick it again after.
        self.asked_options: dict[str, Any] = self.options()
        self.run_options: dict[str, Any] | None = None  # With what the parts added, of a run.
        self.closed = self.is_showing = False
        self.parts: dict[str, Part] = {kind.name: kind(self) for kind in PARTS}
        self.experts.corpus = list(corpus)
        self.state.observe(lambda _: self._open_tab(), ["tab"])
        self._unlinks: list[Callable[[], None]] = []
        if chat is not None:
            self._take_reply(chat, question, thinking)
        elif recording is not None:
            self._take_recording(recording)
        if link is not None:
            self._link(link, shares_run=chat is None and recording is None and question is None)

    @property
    def config(self) -> Qwen3Config:
        """The model's sizes."""
        return self.lab.config

    @property
    def name(self) -> str:
        """The model's name."""
        return self.lab.name

    @property
    def edits(self) -> list[Any]:
        """The edits of the changes in force, as `lab.record` and `lab.chat` take them."""
        return in_force(self.lab, self.state.changes) or []

    def change(self, *changes: Change) -> None:
        """Put changes of the model in force, each in place of one of the same part.

        Raises:
            ValueError: the model has no such part.
        """
        for change in changes:
            if not self.interventions.add(change):
                raise ValueError(self.state.change_error)

    def steer(
        self, vector: Any, layer: int, *, by: float = 1.0, first: int = 0, name: str = OWN
    ) -> None:
        """Put a steering vector of your own in force: it is added after a layer, in the next run.

        Args:
            vector: a `steering.Vector` with a direction at the layer, or d_model numbers.
            layer: after which it is added.
            by: the factor.
            first: first position where it is added.
            name: an identifier, which names it in the list of changes and in the code.

        Raises:
            HookError: a `steering.Vector` has no direction at the layer.
            ValueError: the model has no such layer, or it is no vector of the model's size.
        """
        self.change(own_vector(vector, layer, by=by, first=first, name=name))

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

    def close(self) -> None:
        """Stop all work, end its threads, and remove it from the page and from old outputs."""
        with self.lock:
            self.closed = True
            self.worker.close()
            for part in self.parts.values():
                part.close()
        for unlink in self._unlinks:
            unlink()
        self._unlinks.clear()
        if self.view is not None:
            self.view.close()
            self.view = None
        cells.forget(self)

    def open(self) -> w.Widget:
        """Make the widgets, and return the one that holds all; `close` removes them."""
        if self.view is not None:
            self.view.close()
        self.closed = False
        self.view = BenchPanel(self)
        self._open_tab()
        return self.view.root

    def _ipython_display_(self) -> None:
        cells.displayed(self)
        display(self.open())
        if self.view is not None:
            self.view.picture.show()
        if self.asks and self.state.run == 0:
            self.start()

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

    def _open_tab(self) -> None:
        part = self.parts.get(self.state.tab)
        if part is not None:
            part.work_if_open()

    def _link(self, other: "Workbench", *, shares_run: bool) -> None:
        """Share the picks of another workbench, and its runs."""
        if shares_run and other.lab is self.lab:

            def take(_: Any = None) -> None:
                chat = other.state.current
                if chat is not None and chat is not self.state.current and not self.closed:
                    self._take_reply(chat, other.state.asked, other.state.asked_thinking)
                    self.run_options = other.run_options

            take()
            other.state.observe(take, ["chat"])
            self._unlinks.append(lambda: other.state.unobserve(take, ["chat"]))
        self._unlinks.append(link_picks(self.state, other.state))

    def _take_reply(self, chat: Chat, question: str | None, thinking: bool) -> None:
        """Show a reply that was recorded before."""
        check_reply(chat, self.name, self.config)
        state = self.state
        self.run_options = None
        state.thinking = thinking if chat.thinking_asked is None else chat.thinking_asked
        state.question = question_of(chat) if question is None else question
        state.asked, state.asked_thinking = state.question, state.thinking
        state.asked_budget, state.asked_changes = state.budget, ()
        self.asked_options = self.options()
        self.show_reply(chat)

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
