"""The thinking explorer: stop or extend the thinking, and see the answer at each point of it."""

import threading
from collections.abc import MutableMapping, Sequence
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from qwen3lab.generation.reply import Chat
from qwen3lab.generation.thinking_control import Extension, Steering
from qwen3lab.lab import Lab
from qwen3lab.thinking import answers_at
from qwen3lab.thinking.pieces import why_no_thinking
from qwen3lab.widgets.components.error_display import sentence, shows_errors
from qwen3lab.widgets.components.worker import Worker
from qwen3lab.widgets.explorers.explorer import Explorer
from qwen3lab.widgets.explorers.state import ExplorerState
from qwen3lab.widgets.explorers.thinking_compute import steps_of
from qwen3lab.widgets.explorers.thinking_panel import ThinkingPanel
from qwen3lab.widgets.explorers.thinking_state import ThinkingState


class ThinkingExplorer(Explorer):
    """Asks a model a question, and shows its thinking and the answer at each point of it.

    Buttons stop the thinking early or extend it. After the run, a slider cuts the thinking at any
    token and shows the answer that the model gives there. The reply to the same question without
    thinking is shown for comparison.

    Args:
        lab: a model that can think.
        options: keyword arguments of `Explorer`.

    Attributes:
        state: the values shown, which can be read and set: `explorer.state.marker = 12`.
    """

    shown: ClassVar[MutableMapping[Any, Explorer]] = WeakValueDictionary()
    State: ClassVar[type[ExplorerState]] = ThinkingState
    lab: Lab
    state: ThinkingState

    def __init__(self, lab: Lab, **options: Any) -> None:
        super().__init__(lab, **options)
        self.steering = Steering()
        self.answer_worker: Worker[None] = Worker()

    @shows_errors
    def stop_thinking(self) -> None:
        """Insert the early-stop sentence after the current token; the answer follows."""
        self.steering.stop_thinking()

    @shows_errors
    def think_more(self) -> None:
        """Extend the thinking budget; after a run, ask again and replace one more `</think>`."""
        state = self.state
        if state.status == "running":
            extra = self.lab.suggested.more_thinking
            self.steering.think_more(extra)
            if state.asked_budget is not None:
                state.asked_budget += extra
            return
        state.question = state.asked or state.question
        self._start(refused=state.refused + 1)

    def move(self, marker: int) -> None:
        """Keep this many thinking tokens, and generate the answer there."""
        state, chat = self.state, self.state.current
        if chat is None or not state.steps or marker == state.marker:
            return
        state.marker = marker
        if marker not in state.answers:
            self._answer_at(chat, [marker])

    @shows_errors
    def ask_everywhere(self) -> None:
        """Generate the answer after every step of the thinking."""
        chat, steps = self.state.current, self.state.steps
        if chat is None or not steps:
            why = "run a question with “think first”" if chat is None else why_no_thinking(chat)
            raise ValueError(f"this run has no thinking: {why}")
        self._answer_at(chat, [0, *(step.kept for step in steps)])

    @shows_errors
    def stop(self) -> None:
        """Stop the run after its next token, and the early answers after the next one."""
        self.answer_worker.stop()
        super().stop()

    def close(self) -> None:
        """Stop all work, and remove the explorer from the page."""
        super().close()  # First, so that a run that ends now starts no early answers.
        self.answer_worker.stop()

    def wait(self) -> Chat | None:
        """Wait for the run and the early answers; return the reply."""
        chat = super().wait()
        self.answer_worker.wait()
        return chat

    def _view(self) -> ThinkingPanel:
        view = ThinkingPanel(self.lab.name, self.lab.config, self.state, self.examples)
        view.connect(
            stop_thinking=self.stop_thinking,
            think_more=self.think_more,
            move=self.move,
            everywhere=self.ask_everywhere,
        )
        return view

    def _start(self, refused: int = 0) -> None:
        self._check()
        with self.lock:
            self.answer_worker.stop()
            self.steering = Steering()
            state = self.state
            state.steps, state.answers, state.marker, state.direct_reply = (), {}, -1, None
            state.refused, state.answering = refused, False
            super()._start()

    def _options(self) -> dict[str, Any]:
        refused = self.state.refused
        extend = Extension(times=refused) if refused else None
        return super()._options() | {"steering": self.steering, "extend": extend}

    def _ask(
        self, run: int, question: str, options: dict[str, Any], cancel: threading.Event
    ) -> Chat:
        chat = super()._ask(run, question, options, cancel)
        if options["thinking"] and not cancel.is_set():
            self._ask_without_thinking(run, question, options, cancel)
        return chat

    def _ask_without_thinking(
        self, run: int, question: str, options: dict[str, Any], cancel: threading.Event
    ) -> None:
        """Ask the same question without thinking; discard the reply if it was stopped."""
        options = options | {"thinking": False, "steering": None, "extend": None}
        try:
            direct_reply = self._reply(question, cancel=cancel, **options)
        except Exception as error:
            self._set(run, error=sentence(error))
        else:
            if not cancel.is_set():
                self._set(run, direct_reply=direct_reply)

    def _finish(self, run: int, chat: Chat | None = None, *, error: str = "") -> None:
        with self.lock:
            super()._finish(run, chat, error=error)
            steps = () if chat is None else tuple(steps_of(chat))
            if run != self.state.run or not steps:
                return
            self.state.steps = steps
            self.state.marker = steps[-1].kept
            is_quick = steps[-1].kept <= self.lab.suggested.quick_thinking
            if is_quick and not self.worker.cancel.is_set():
                self.ask_everywhere()

    def _answer_at(self, chat: Chat, points: Sequence[int]) -> None:
        """Generate answers in the background, and show them if no newer run has started."""
        run = self.state.run

        def job(cancel: threading.Event) -> None:
            if cancel.is_set() or run != self.state.run:
                return
            self._set(run, answering=True)
            try:
                answers = answers_at(self.lab, chat, points, cancel=cancel)
            except Exception as error:
                self._set(run, error=sentence(error))
            else:
                self._set(run, answers={**self.state.answers, **answers})
            finally:
                self._set(run, answering=False)

        self.answer_worker.start(job)

    def _set(self, run: int, **values: Any) -> None:
        with self.lock:
            if run == self.state.run:
                for name, value in values.items():
                    setattr(self.state, name, value)
