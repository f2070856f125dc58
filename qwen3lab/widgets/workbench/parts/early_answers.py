"""Stops or extends the thinking, and asks for early answers, for the thinking view."""

import threading
from collections.abc import Sequence
from typing import Any

from qwen3lab.generation.reply import Chat
from qwen3lab.generation.thinking_control import Extension, Steering
from qwen3lab.thinking import Answer, answers_at
from qwen3lab.thinking.pieces import why_no_thinking
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.error_display import sentence, shows_drawing_errors, shows_errors
from qwen3lab.widgets.explorers.thinking_compute import (
    missing,
    place_of,
    steps_of,
    thoughts_of,
)
from qwen3lab.widgets.workbench.changes import edits_of, titles
from qwen3lab.widgets.workbench.parts.part import AskingBench, Part

MAX_AUTOMATIC_TOKENS = 300
"""Longest thinking for which all early answers are generated without a click."""

MAX_AUTOMATIC_SECONDS = 10.0
"""Longest time that they may take, as estimated from the run; else only the marker's is asked."""


UNEDITED = later(
    "early answers are given by the model as it is: remove the changes in force and ask again"
)


class EarlyAnswers(Part):
    """Steers the thinking during a run; afterwards, asks for the answer at any point of it.

    The same question without thinking is asked, too, for comparison.

    Attributes:
        steering: of the current run.
        requests: number of requests for early answers; only the latest one changes the state.
    """

    name = "thinking"

    def __init__(self, bench: AskingBench) -> None:
        super().__init__(bench)
        self.direct_worker, self.answer_worker = self._worker(), self._worker()
        self.steering = Steering()
        self.requests = self.refused = 0

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
        self.refused = state.refused + 1
        try:
            self.bench.ask_again()
        finally:
            self.refused = 0

    def move(self, marker: int) -> None:
        """Keep this many thinking tokens, and generate the answer there unless it is known."""
        state = self.state
        if state.current is None or not state.steps or marker == state.marker:
            return
        state.marker, state.answer_error = marker, ""
        state.token = place_of(state.steps, state.thoughts, marker)
        if marker != state.steps[-1].kept and self.bench.asks:  # There, it is that of the run.
            self.ask_here()

    @shows_drawing_errors
    def ask_here(self) -> None:
        """Generate the answer at the marker, instead of what is generated now."""
        state = self.state
        if state.current is None or not state.steps:
            raise ValueError(_no_thinking(state.current))
        if state.marker not in state.answers and state.marker != state.asking:
            self._answer_at(state.current, [state.marker])

    @shows_drawing_errors
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

    def options(self) -> dict[str, Any]:
        """The steering of the run, and how often it replaces the end of thinking."""
        self.steering = Steering()
        extend = Extension(times=self.refused) if self.refused else None
        return {"steering": self.steering, "extend": extend}

    def started(self) -> None:
        """Discard the thinking of the run before."""
        super().started()
        state = self.state
        state.steps, state.thoughts, state.answers, state.marker = (), (), {}, -1
        state.direct_reply, state.refused, state.answer_error = None, self.refused, ""
        state.answering, state.asking = False, -1

    def finished(self, chat: Chat | None, *, stopped: bool) -> None:
        """Split the thinking into steps; ask for early answers when the tab is shown."""
        steps = () if chat is None else tuple(steps_of(chat))
        if chat is not None and steps:
            self.state.thoughts = tuple(thoughts_of(chat, steps, self.bench.lab.tokenizer))
            self.state.marker = steps[-1].kept
            self.state.steps = steps
        self.needs = chat is not None and self.bench.asks and not stopped
        self.work_if_open()

    def work(self) -> None:
        """Ask without thinking, and for the early answers of a short thinking."""
        if self.state.asked_thinking:
            self._ask_without_thinking()
        else:
            self._ask_if_quick()

    def _ask_if_quick(self) -> None:
        with self.lock:  # No other run starts in between.
            chat = self.state.current
            if chat is not None and self.state.steps and self._is_quick(chat):
                self.ask_everywhere()

    def _ask_without_thinking(self) -> None:
        """Ask the same question without thinking, then for the early answers of a short thinking.

        If it was stopped, the reply is discarded, and nothing else is asked.
        """
        state = self.state
        run, question = state.run, state.asked
        options, changes = self.bench.asked_options | {"thinking": False}, state.asked_changes

        def job(cancel: threading.Event) -> None:
            edits = edits_of(self.lab, changes)
            found = self.bench.reply(question, cancel=cancel, **options, **edits)
            if not cancel.is_set():
                self._set(run, direct_reply=found)
                self._ask_if_quick()

        self._beside(self.direct_worker, job, lambda e: self._set(run, error=sentence(e)))

    def _is_quick(self, chat: Chat) -> bool:
        """True if the answers after all steps take little time."""
        steps = self.state.steps
        seconds = len(missing(steps, ())) * chat.answer_tokens * self.state.pace
        return steps[-1].kept <= MAX_AUTOMATIC_TOKENS and seconds <= MAX_AUTOMATIC_SECONDS

    def _answer_at(self, chat: Chat, points: Sequence[int]) -> None:
        """Generate answers in the background, and show them if no newer run has started."""
        if not points:
            return
        if self.state.asked_changes:
            self.state.answer_error = f"{tr(UNEDITED)} ({titles(self.state.asked_changes)})"
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
                self._set_latest(run, request, asking=rest[0])

        def job(cancel: threading.Event) -> None:
            try:
                if not cancel.is_set() and run == self.state.run:
                    answers_at(self.lab, chat, order, cancel=cancel, on_answer=show)
            except Exception as error:
                self._set_latest(run, request, answer_error=sentence(error))
            finally:
                self._set_latest(run, request, answering=False, asking=-1)

        self.answer_worker.start(job)

    def _set_latest(self, run: int, request: int, /, **values: Any) -> None:
        """Set values of a request for answers, unless there is a newer one."""
        with self.lock:
            if request == self.requests:
                self._set(run, **values)


def _no_thinking(chat: Chat | None) -> str:
    why = tr("run a question with “think first”") if chat is None else why_no_thinking(chat)
    return tr("this run has no thinking: {why}", why=why)
