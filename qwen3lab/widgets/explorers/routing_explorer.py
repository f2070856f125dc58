"""The routing explorer: from a token to its experts, from an expert to its tokens, and back."""

import threading
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from qwen3lab.analysis.expert_output import OUT, SCALE, expert_writing
from qwen3lab.analysis.vocabulary import served_vocabulary
from qwen3lab.generation.reply import Chat
from qwen3lab.lab import Lab
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets.components.error_display import sentence, shows_errors
from qwen3lab.widgets.components.worker import Worker
from qwen3lab.widgets.explorers.explorer import Explorer
from qwen3lab.widgets.explorers.routing_compute import chips_html, writing_html
from qwen3lab.widgets.explorers.routing_panel import RoutingPanel
from qwen3lab.widgets.explorers.routing_state import COMPARE, RoutingState, rerouted
from qwen3lab.widgets.explorers.state import ExplorerState

READING = '<span class="q3-hint">The run is read once more …</span>'
CUT = "stopped before every reply was whole: nothing is compared"


class RoutingExplorer(Explorer):
    """Asks a mixture of experts, and shows which experts serve which token.

    Click a token to see its experts in every layer; click an expert to see the tokens that
    choose it, what it writes, and a switch that turns it off and asks again. Another mode or
    another question can be run beside it.

    Args:
        lab: a mixture of experts.
        question: asked first; one that the model was made for if None.
        thinking: whether it thinks first.
        corpus: recordings of the same model, in which the tokens of an expert are looked up too.
        options: as of `Explorer`.

    Attributes:
        state: everything that is shown, to read or to set: `explorer.state.expert = 5`.
    """

    shown: ClassVar[MutableMapping[Any, Explorer]] = WeakValueDictionary()
    State: ClassVar[type[ExplorerState]] = RoutingState
    lab: Lab
    state: RoutingState

    def __init__(
        self,
        lab: Lab,
        *,
        question: str | None = None,
        thinking: bool = True,
        corpus: Sequence[Recording] = (),
        **options: Any,
    ) -> None:
        super().__init__(lab, question=question, thinking=thinking, **options)
        self.corpus = list(corpus)
        self.state.other_question = self.examples[-1]
        self.beside: dict[int, dict[str, Any]] = {}
        self.reading: Worker[None] = Worker()

    @shows_errors
    def switch(self) -> None:
        """Turn the picked expert off, or on again, and ask the same question once more."""
        state = self.state
        if state.expert < 0:
            raise ValueError("no expert is picked: click one in a plot first")
        state.switch(state.routing_layer, state.expert)
        state.question = state.asked or state.question
        self._start()

    @shows_errors
    def switch_all_on(self) -> None:
        """Turn every expert on, and ask the same question once more."""
        self.state.off = ()
        self.state.question = self.state.asked or self.state.question
        self._start()

    @shows_errors
    def write(self) -> None:
        """Say what the picked expert writes, on the tokens of this run that it serves."""
        view, state, chat = self.view, self.state, self.state.current
        if (
            not isinstance(view, RoutingPanel)
            or chat is None
            or chat.recording is None
            or state.expert < 0
        ):
            raise ValueError("there is nothing to read yet: run a question and pick an expert")
        view.writing.value = READING
        self.reading.start(self._read(view, chat.recording))

    def wait(self) -> Chat | None:
        """The reply of the run that is going on, or of the last one; what it writes is read."""
        chat = super().wait()
        self.reading.wait()
        return chat

    def close(self) -> None:
        """Stop, and take the explorer out of the page."""
        self.reading.stop()
        super().close()

    def served_in_corpus(self, layer: int, expert: int, *, most: int = 12) -> str:
        """The corpus' tokens that an expert serves most surely, as HTML."""
        if not self.corpus:
            return '<span class="q3-hint">no corpus was given</span>'
        often = served_vocabulary(self.corpus, layer, expert, at_least=3)[:most]
        return chips_html([(None, one.text, one.served / one.seen) for one in often])

    def _read(self, view: RoutingPanel, recording: Recording) -> Callable[[threading.Event], None]:
        """Find what the picked expert writes; shown while it is still the one that is picked."""
        state, edits = self.state, rerouted(self.state.asked_off)
        layer, expert = state.routing_layer, state.expert
        picked = (state.run, layer, expert)

        def show(text: str, error: str) -> None:
            with view.lock:
                if picked == (state.run, state.routing_layer, state.expert):
                    view.writing.value = text
                    state.error = error or state.error

        def job(cancel: threading.Event) -> None:
            if cancel.is_set():
                return
            try:
                again = self.lab.record(
                    recording.token_ids.tolist(), capture=[OUT.format(layer), SCALE], edits=edits
                )
                show(writing_html(expert_writing(self.lab, [again], layer, expert)), "")
            except Exception as error:
                show("", sentence(error))

        return job

    def _view(self) -> RoutingPanel:
        view = RoutingPanel(self.lab.name, self.lab.config, self.state, self.examples)
        view.look_up = self.served_in_corpus
        view.connect(switch=self.switch, all_on=self.switch_all_on, write=self.write)
        return view

    def _check(self) -> None:
        if not self.lab.config.is_moe:
            raise ValueError(
                f"{self.lab.name} is dense: it has no experts to look at; load a mixture of "
                "experts, such as tiny-moe"
            )
        super()._check()

    def _start(self) -> None:
        self._check()
        with self.lock:
            self.state.asked_off = self.state.off
            super()._start()

    def _job(self) -> Callable[[threading.Event], Chat]:
        run, state = self.state.run, self.state
        question, off, compare = state.question, state.off, state.compare
        options, other_question = self._options(), state.other_question
        ask = super()._job()

        def job(cancel: threading.Event) -> Chat:
            try:
                self.beside[run] = {}
                if off:
                    whole = self.lab.chat(question, record=True, cancel=cancel, **options)
                    self.beside[run]["whole"] = whole
                if compare != COMPARE[0] and not cancel.is_set():
                    self.beside[run] |= self._other(
                        compare, question, other_question, options, cancel
                    )
            except Exception as error:
                self._finish(run, error=sentence(error))
                raise
            return ask(cancel)

        return job

    def _other(
        self,
        compare: str,
        question: str,
        other_question: str,
        options: dict[str, Any],
        cancel: threading.Event,
    ) -> dict[str, Any]:
        """The run beside, with every expert on."""
        if compare == COMPARE[1]:
            thinks = not options["thinking"]
            options = options | {"thinking": thinks, "budget": None}
            name = "thinking" if thinks else "answering at once"
        else:
            question, name = other_question, other_question
            if not question.strip():
                raise ValueError("the other question is empty: type one, or compare with nothing")
        chat = self.lab.chat(question, record=True, cancel=cancel, **options)
        return {"other": chat, "other_name": name}

    def _ask(
        self, run: int, question: str, options: dict[str, Any], cancel: threading.Event
    ) -> Chat:
        edits = rerouted(self.state.asked_off)
        return super()._ask(run, question, options | {"edits": edits}, cancel)

    def _finish(self, run: int, chat: Chat | None = None, *, error: str = "") -> None:
        beside = self.beside.pop(run, {})
        with self.lock:
            if run == self.state.run and chat is not None:
                if beside and self.worker.cancel.is_set():
                    beside, error = {}, CUT
                self.state.whole = beside.get("whole")
                self.state.other = beside.get("other")
                self.state.other_name = beside.get("other_name", "")
            super()._finish(run, chat, error=error)
