"""The thinking explorer: stop or extend the thinking, and see the answer at each point of it."""

import threading
import time
from collections.abc import MutableMapping, Sequence
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from qwen3lab.generation.reply import Chat
from qwen3lab.generation.thinking_control import Extension, Steering
from qwen3lab.lab import Lab
from qwen3lab.thinking import Answer, answers_at
from qwen3lab.thinking.pieces import why_no_thinking
from qwen3lab.widgets.components.error_display import sentence, shows_errors
from qwen3lab.widgets.components.worker import Worker
from qwen3lab.widgets.explorers.explorer import Explorer
from qwen3lab.widgets.explorers.state import ExplorerState
from qwen3lab.widgets.explorers.thinking_compute import missing, steps_of, thoughts_of
from qwen3lab.widgets.explorers.thinking_panel import ThinkingPanel
from qwen3lab.widgets.explorers.thinking_state import ThinkingState

MAX_AUTOMATIC_TOKENS = 300
"""Longest thinking for which all early answers are generated without a click."""

MAX_AUTOMATIC_SECONDS = 10.0
"""Longest time that they may take, as estimated from the run; else only the marker's is asked."""


class ThinkingExplorer(Explorer):
    """Asks a model a question, and shows its thinking and the answer at each point of it.

    Buttons stop the thinking early or extend it. After the run, a marker cuts the thinking at any
    token, and the model is asked what it would answer there: at every step of a short thinking, of
    a long one only where the marker is moved. The reply to the same question without thinking is
    shown for comparison.

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
        self.requests = 0  # Of early answers; only the latest one changes `asking`.

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
        """Keep this many thinking tokens, and generate the answer there unless it is known."""
        state = self.state
        if state.current is None or not state.steps or marker == state.marker:
            return
        state.marker, state.answer_error = marker, ""
        if marker != state.steps[-1].kept:  # There, the answer is that of the run.
            self.ask_here()

    @shows_errors
    def ask_here(self) -> None:
        """Generate the answer at the marker, instead of what is generated now."""
        state = self.state
        if state.current is None or not state.steps:
            raise ValueError(_no_thinking(state.current))
        if state.marker not in state.answers and state.marker != state.asking:
            self._answer_at(state.current, [state.marker])

    @shows_errors
    def ask_everywhere(self) -> None:
        """Generate the answer after every step of the thinking that has none yet."""
        chat, steps = self.state.current, self.state.steps
        if chat is None or not steps:
            raise ValueError(_no_thinking(chat))
        self._answer_at(chat, missing(steps, self.state.answers))

    @shows_errors
    def cancel_answers(self) -> None:
        """Stop the early answers after the next token; complete ones are kept."""
        self.answer_worker.stop()

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
            ask=self.ask_here,
            everywhere=self.ask_everywhere,
            cancel=self.cancel_answers,
        )
        return view

    def _start(self, refused: int = 0) -> None:
        self._check()
        with self.lock:
            self.answer_worker.stop()
            self.steering = Steering()
            state = self.state
            state.steps, state.thoughts, state.answers, state.marker = (), (), {}, -1
            state.direct_reply, state.refused, state.answer_error = None, refused, ""
            state.answering, state.asking = False, -1
            super()._start()

    def _options(self) -> dict[str, Any]:
        refused = self.state.refused
        extend = Extension(times=refused) if refused else None
        return super()._options() | {"steering": self.steering, "extend": extend}

    def _ask(
        self, run: int, question: str, options: dict[str, Any], cancel: threading.Event
    ) -> Chat:
        start = time.monotonic()
        chat = super()._ask(run, question, options, cancel)
        self._set(run, pace=(time.monotonic() - start) / max(1, len(chat.tokens)))
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
            if chat is None or run != self.state.run or not steps:
                return
            self.state.thoughts = tuple(thoughts_of(chat, steps, self.lab.tokenizer))
            self.state.marker = steps[-1].kept
            self.state.steps = steps
            if self._is_quick(chat) and not self.worker.cancel.is_set():
                self.ask_everywhere()

    def _is_quick(self, chat: Chat) -> bool:
        """True if the answers after all steps take little time."""
        steps = self.state.steps
        seconds = len(missing(steps, ())) * chat.answer_tokens * self.state.pace
        return steps[-1].kept <= MAX_AUTOMATIC_TOKENS and seconds <= MAX_AUTOMATIC_SECONDS

    def _answer_at(self, chat: Chat, points: Sequence[int]) -> None:
        """Generate answers in the background, and show them if no newer run has started."""
        if not points:
            return
        run, order = self.state.run, sorted(points, reverse=True)
        with self.lock:
            self.requests += 1
            request = self.requests
            self._set(run, answering=True, asking=order[0], answer_error="")

        def show(point: int, answer: Answer) -> None:
            self._set(run, answers={**self.state.answers, point: answer})
            rest = order[order.index(point) + 1 :]
            if rest:
                self._set(run, request, asking=rest[0])

        def job(cancel: threading.Event) -> None:
            try:
                if not cancel.is_set() and run == self.state.run:
                    answers_at(self.lab, chat, order, cancel=cancel, on_answer=show)
            except Exception as error:
                self._set(run, request, answer_error=sentence(error))
            finally:
                self._set(run, request, answering=False, asking=-1)

        self.answer_worker.start(job)

    def _set(self, run: int, request: int | None = None, /, **values: Any) -> None:
        """Set values of a run, or of a request for answers, unless there is a newer one."""
        with self.lock:
            if run == self.state.run and request in (None, self.requests):
                for name, value in values.items():
                    setattr(self.state, name, value)


def _no_thinking(chat: Chat | None) -> str:
    why = "run a question with “think first”" if chat is None else why_no_thinking(chat)
    return f"this run has no thinking: {why}"
