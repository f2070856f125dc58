"""The thinking explorer: watch it think, stop it, and see what it would have answered."""

import threading
from collections.abc import MutableMapping, Sequence
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from qwen3lab.generation.reply import Chat
from qwen3lab.generation.thinking_control import Extension, Steering
from qwen3lab.lab import Lab
from qwen3lab.thinking import answers_at
from qwen3lab.widgets.components.error_display import sentence, shows_errors
from qwen3lab.widgets.components.worker import Worker
from qwen3lab.widgets.explorers.explorer import Explorer
from qwen3lab.widgets.explorers.state import ExplorerState
from qwen3lab.widgets.explorers.thinking_compute import steps_of
from qwen3lab.widgets.explorers.thinking_panel import ThinkingPanel
from qwen3lab.widgets.explorers.thinking_state import ThinkingState

MORE = 16
"""Thinking tokens that "Think more" adds to the budget."""

AT_ITSELF = 300
"""Up to so many thinking tokens, the answers along them are asked for without a click."""


class ThinkingExplorer(Explorer):
    """Asks a model, shows its thinking as it comes, and what it would answer at each point of it.

    While it thinks it can be stopped, or allowed more. Afterwards a marker along the thinking
    says what would have been answered there. The same question without thinking stands beside.

    Args:
        lab: a model that thinks.
        options: as of `Explorer`.

    Attributes:
        state: everything that is shown, to read or to set: `explorer.state.marker = 12`.
    """

    shown: ClassVar[MutableMapping[Any, Explorer]] = WeakValueDictionary()
    State: ClassVar[type[ExplorerState]] = ThinkingState
    lab: Lab
    state: ThinkingState

    def __init__(self, lab: Lab, **options: Any) -> None:
        super().__init__(lab, **options)
        self.steering = Steering()
        self.asking: Worker[None] = Worker()

    @shows_errors
    def stop_thinking(self) -> None:
        """End the thinking after the token in hand; the answer follows."""
        self.steering.stop_thinking()

    @shows_errors
    def think_more(self) -> None:
        """While it thinks: allow more. Afterwards: ask again, and refuse one `</think>` more."""
        state = self.state
        if state.status == "running":
            self.steering.think_more(MORE)
            if state.asked_budget is not None:
                state.asked_budget += MORE
            return
        state.question = state.asked or state.question
        self._start(refused=state.refused + 1)

    def move(self, marker: int) -> None:
        """Put the marker after so many thinking tokens, and ask for the answer there."""
        state, chat = self.state, self.state.current
        if chat is None or not state.steps or marker == state.marker:
            return
        state.marker = marker
        if marker not in state.answers:
            self._look(chat, [marker])

    @shows_errors
    def ask_everywhere(self) -> None:
        """Ask for the answer after every step of the thinking."""
        chat, steps = self.state.current, self.state.steps
        if chat is None or not steps:
            raise ValueError("there is no thinking to look at: run a question with “think first”")
        self._look(chat, [0, *(step.kept for step in steps)])

    @shows_errors
    def stop(self) -> None:
        """Stop the run after its next token, or what is asked for after its next answer."""
        self.asking.stop()
        super().stop()

    def close(self) -> None:
        """Stop, and take the explorer out of the page."""
        super().close()  # First: a run that ends from now on asks for no answers.
        self.asking.stop()

    def wait(self) -> Chat | None:
        """The reply of the run that is going on, or of the last one, all answers with it."""
        chat = super().wait()
        self.asking.wait()
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
            self.asking.stop()
            self.steering = Steering()
            state = self.state
            state.steps, state.answers, state.marker, state.at_once = (), {}, -1, None
            state.refused, state.looking = refused, False
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
            self._ask_at_once(run, question, options, cancel)
        return chat

    def _ask_at_once(
        self, run: int, question: str, options: dict[str, Any], cancel: threading.Event
    ) -> None:
        """The same question without thinking; a reply that was cut short stands nowhere."""
        options = options | {"thinking": False, "budget": None, "steering": None, "extend": None}
        try:
            at_once = self.lab.chat(question, cancel=cancel, **options)
        except Exception as error:
            self._set(run, error=sentence(error))
        else:
            if not cancel.is_set():
                self._set(run, at_once=at_once)

    def _finish(self, run: int, chat: Chat | None = None, *, error: str = "") -> None:
        with self.lock:
            super()._finish(run, chat, error=error)
            steps = () if chat is None else tuple(steps_of(chat))
            if run != self.state.run or not steps:
                return
            self.state.steps = steps
            self.state.marker = steps[-1].kept
            if steps[-1].kept <= AT_ITSELF and not self.worker.cancel.is_set():
                self.ask_everywhere()

    def _look(self, chat: Chat, points: Sequence[int]) -> None:
        """Ask for answers in the background, and show them if the run is still the same."""
        run = self.state.run

        def job(cancel: threading.Event) -> None:
            if cancel.is_set() or run != self.state.run:
                return
            self._set(run, looking=True)
            try:
                found = answers_at(self.lab, chat, points, cancel=cancel)
            except Exception as error:
                self._set(run, error=sentence(error))
            else:
                self._set(run, answers={**self.state.answers, **found})
            finally:
                self._set(run, looking=False)

        self.asking.start(job)

    def _set(self, run: int, **values: Any) -> None:
        with self.lock:
            if run == self.state.run:
                for name, value in values.items():
                    setattr(self.state, name, value)
