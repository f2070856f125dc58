"""Makes the second run that the compare view shows beside the run."""

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qwen3lab.analysis.alignment import Alignment, alignment
from qwen3lab.analysis.differences import Difference
from qwen3lab.generation.reply import Chat
from qwen3lab.recording.rendered_logits import logits_hook
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.error_display import sentence
from qwen3lab.widgets.components.worker import Throttle
from qwen3lab.widgets.explorers.compare_compute import difference, one_vocabulary, page_of
from qwen3lab.widgets.explorers.compare_state import (
    BY_SPANS,
    NEEDED,
    NOTHING,
    OTHER_BUDGET,
    OTHER_MODE,
    OTHER_MODEL,
    OTHER_QUESTION,
    WITHOUT_CHANGES,
)
from qwen3lab.widgets.explorers.replies import mode_name
from qwen3lab.widgets.workbench.asking import reply_of
from qwen3lab.widgets.workbench.changes import Change, edits_of
from qwen3lab.widgets.workbench.parts.largest_change import LargestChanges
from qwen3lab.widgets.workbench.parts.part import AskingBench, Part
from qwen3lab.widgets.workbench.timing import SECONDS_BETWEEN_UPDATES

WITH_CHANGES = later("with the changes")
STOPPED = later("stopped before the second run was complete: press Run the other")
NO_CHANGES = later("the run has no changes to leave out: change the model and ask again first")
NO_SECOND = later("there is no second run yet: choose what to compare the run with")
NO_OTHER_MODEL = later(
    "there is no other model: create the workbench with several, as in Workbench([lab, other])"
)


@dataclass(frozen=True)
class Request:
    """A second run: what differs in it.

    Attributes:
        this_name: of the run.
        other_name: of the second run; its reply can change it.
        question: to ask.
        options: of the reply.
        changes: in force in it.
        lab: the model that is asked; None for the workbench's own.
    """

    this_name: str
    other_name: Callable[[Chat], str]
    question: str
    options: dict[str, Any]
    changes: tuple[Change, ...] = ()
    lab: Any = None


class ComparisonPart(Part):
    """A second run in which one thing differs, and how it is aligned with the run.

    The second run is made in the background when the tab is shown, and again after each run.
    """

    name = "compare"

    def __init__(self, bench: AskingBench) -> None:
        super().__init__(bench)
        self.worker = self._worker()
        self.ticket = 0  # Of the second run that is wanted: the result of another one is dropped.
        self.same_vocabulary: bool | None = None  # Of the run and the second one; None if unknown.
        self._aligned: tuple[tuple[Any, ...], Alignment] | None = None
        self.changes = LargestChanges(self.state)
        self.waits = False  # For the run without the changes, which another part makes.
        if bench.others:
            self.state.compare_model = next(iter(bench.others))
        self.state.observe(self._chosen, ["compare", *NEEDED.values()])
        self.state.observe(lambda _: self._take_baseline(), ["asking_baseline"])

    def start(self) -> None:
        """Make the second run, or make it again; the tab shows why if it cannot be made."""
        with self.lock:
            self._discard()
            self.needs = False
            try:
                if self.state.current is None:
                    raise ValueError(tr("there is no run to compare with: ask a question first"))
                if not self._has_baseline():
                    self._start(self._request())
            except ValueError as error:
                self.state.compare_problem = sentence(error)

    def jump(self) -> None:
        """Pick the token whose prediction differs most in the second run; again, the next one."""
        state = self.state
        try:
            aligned = self.alignment()
            if aligned is None:
                raise ValueError(tr(NO_SECOND))
            state.changed_most = self.changes.jump(aligned)
        except Exception as error:
            state.compare_problem = sentence(error)

    def show(self, chat: Chat, name: str, *, this_name: str = "") -> None:
        """Compare the run with a recorded reply, in place of making a second run.

        Args:
            chat: the reply.
            name: of the reply.
            this_name: of the run; "this run" if it is empty.

        Raises:
            ValueError: the reply was not recorded.
        """
        if chat.recording is None:
            raise ValueError(
                tr(
                    "the reply was not recorded: ask with lab.chat(question, record=True), "
                    "and give that"
                )
            )
        with self.lock:
            self._discard()
            self.needs = False
            self._show(chat, this_name or tr("this run"), name)

    def alignment(self) -> Alignment | None:
        """The run and the second one, aligned by `state.align`; None without a second run.

        Raises:
            ValueError: they cannot be aligned.
        """
        state, one, other = self.state, self.state.recording, self.state.other
        if state.shown is None or other is None or other.recording is None:
            return None
        names = (state.this_name, state.other_name)
        key = (id(one), id(other.recording), state.align, names)  # Both are kept with it.
        if self._aligned is None or self._aligned[0] != key:
            found = alignment(
                one,
                other.recording,
                by="spans" if state.align == BY_SPANS else "tokens",
                names=names,
                same_vocabulary=self.same_vocabulary,
            )
            self._aligned = key, found
        return self._aligned[1]

    def difference(self) -> Difference | None:
        """What the map shows: `state.compared`, at the page of the picked token.

        Raises:
            ValueError: the two runs cannot be compared so.
        """
        aligned = self.alignment()
        if aligned is None:
            return None
        page = aligned.part(*page_of(aligned, self.state.token))
        state = self.state
        return difference(page, state.compared, state.layer, state.head, state.routing_layer)

    def hooks(self) -> Sequence[str]:
        """What logits are computed from."""
        return (logits_hook(self.bench.config),)

    def started(self) -> None:
        """Discard the second run that belongs to the run before."""
        super().started()
        self._discard()

    def finished(self, chat: Chat | None, *, stopped: bool) -> None:
        """Make the second run when the tab is shown."""
        with self.lock:
            self.needs = chat is not None and self.bench.asks and self.state.compare != NOTHING
            if self.needs and stopped:
                self.needs, self.state.compare_problem = False, tr(STOPPED)
            self.work_if_open()

    def work(self) -> None:
        """Make the second run, if it is known what differs in it."""
        if self.state.compare != OTHER_QUESTION or self.state.other_question.strip():
            self.start()

    def stop(self) -> None:
        """Stop the second run; what it has written is not shown."""
        with self.lock:
            is_going = self.state.comparing
            self.cancel()
            if is_going:
                self.state.compare_problem = tr(STOPPED)

    def cancel(self) -> None:
        """Cancel the second run."""
        super().cancel()
        self.ticket += 1
        self.waits = self.state.comparing = False

    def close(self) -> None:
        """Cancel the second run, and end its thread."""
        self.cancel()
        super().close()

    def _chosen(self, change: Any) -> None:
        """Make another second run, if what differs in it has changed."""
        state = self.state
        if change["name"] not in ("compare", NEEDED.get(state.compare)):
            return
        with self.lock:
            self._discard()
            self.needs = state.current is not None and self.bench.asks and state.compare != NOTHING
            self.work_if_open()

    def _has_baseline(self) -> bool:
        """True if the run without the changes is there already, or is on its way.

        The card of changes has asked for it; it is shown as soon as it is complete.
        """
        state, found = self.state, self.state.baseline
        if state.compare != WITHOUT_CHANGES or not state.asked_changes:
            return False
        if found is not None and found.recording is not None:
            self.same_vocabulary = True
            self._show(found, tr(WITH_CHANGES), tr(WITHOUT_CHANGES))
            return True
        self.waits = state.comparing = state.asking_baseline
        return self.waits

    def _take_baseline(self) -> None:
        """Start the comparison once the run without the changes has ended."""
        with self.lock:
            if self.waits and not self.state.asking_baseline:
                self.start()

    def _discard(self) -> None:
        self.cancel()
        self.changes.clear()
        state = self.state
        self._aligned = self.same_vocabulary = None
        state.other, state.other_name, state.this_name = None, "", ""
        state.compare_problem, state.compared_tokens = "", 0

    def _show(self, chat: Chat, this_name: str, other_name: str) -> None:
        self.state.this_name, self.state.other_name = this_name, other_name
        self.state.other = chat  # The view follows this one.

    def _request(self) -> Request:
        """What differs in the second run.

        Raises:
            ValueError: it cannot be made.
        """
        state, options = self.state, dict(self.bench.asked_options)
        if not self.bench.asks:
            raise ValueError(tr("there is no model to ask: create the workbench with a lab"))
        make = {
            OTHER_MODE: self._other_mode,
            OTHER_BUDGET: self._other_budget,
            OTHER_QUESTION: self._other_question,
            WITHOUT_CHANGES: self._without_changes,
            OTHER_MODEL: self._other_model,
        }
        if state.compare not in make:
            raise ValueError(tr("choose what to compare the run with"))
        return make[state.compare](options)

    def _other_mode(self, options: dict[str, Any]) -> Request:
        thinking, chat = not options["thinking"], self.state.current
        assert chat is not None
        return Request(
            mode_name(chat, asked=options["thinking"]),
            lambda other: mode_name(other, asked=thinking),
            self.state.asked,
            options | {"thinking": thinking},
            self.state.asked_changes,
        )

    def _other_budget(self, options: dict[str, Any]) -> Request:
        budget, before = self.state.compare_budget, options["budget"]
        if budget == before:
            raise ValueError(
                tr("the run has the budget {budget} already: choose another number", budget=budget)
            )
        return Request(
            tr("no limit") if before is None else tr("budget {budget}", budget=before),
            lambda _: tr("budget {budget}", budget=budget),
            self.state.asked,
            options | {"budget": budget},
            self.state.asked_changes,
        )

    def _other_question(self, options: dict[str, Any]) -> Request:
        question = self.state.other_question
        if not question.strip():
            raise ValueError(tr("the other question is empty: type a question and press Enter"))
        if question == self.state.asked:
            raise ValueError(tr("this is the question of the run: type another one"))
        changes = self.state.asked_changes
        return Request(self.state.asked, lambda _: question, question, options, changes)

    def _without_changes(self, options: dict[str, Any]) -> Request:
        if not self.state.asked_changes:
            raise ValueError(tr(NO_CHANGES))
        return Request(tr(WITH_CHANGES), lambda _: tr(WITHOUT_CHANGES), self.state.asked, options)

    def _other_model(self, options: dict[str, Any]) -> Request:
        name = self.state.compare_model
        if not self.bench.others:
            raise ValueError(tr(NO_OTHER_MODEL))
        if name not in self.bench.others:
            known = ", ".join(self.bench.others)
            raise ValueError(
                tr(
                    "the workbench has no model {name!r}: choose from {known}",
                    name=name,
                    known=known,
                )
            )
        # Without changes: they are of layers, heads and experts of the run's model.
        lab = self.bench.others[name]
        return Request(self.bench.name, lambda _: name, self.state.asked, options, lab=lab)

    def _start(self, request: Request) -> None:
        run, ticket, state = self.state.run, self.ticket, self.state
        throttle, written = Throttle(SECONDS_BETWEEN_UPDATES), itertools.count(1)

        def is_wanted() -> bool:
            return (run, ticket) == (state.run, self.ticket)

        def on_step(step: Any) -> None:
            n = next(written)
            if throttle.ready() and is_wanted():
                state.compared_tokens = n

        def job(cancel: threading.Event) -> None:
            lab = request.lab or self.lab
            chat = reply_of(
                lab,
                request.question,
                record=(logits_hook(lab.config),),
                cancel=cancel,
                on_step=on_step,
                **request.options,
                **edits_of(lab, request.changes),
            )
            same = request.lab is None or one_vocabulary(self.lab, request.lab)
            with self.lock:
                if is_wanted():
                    state.comparing, self.same_vocabulary = False, same
                    self._show(chat, request.this_name, request.other_name(chat))

        def failed(error: Exception) -> None:
            with self.lock:
                if is_wanted():
                    state.comparing, state.compare_problem = False, sentence(error)

        state.comparing = True
        self._beside(self.worker, job, failed)
