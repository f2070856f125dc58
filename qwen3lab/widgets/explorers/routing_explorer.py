"""The routing explorer: the experts of each token, and the tokens routed to each expert."""

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
from qwen3lab.widgets.explorers.replies import mode_name
from qwen3lab.widgets.explorers.routing_compute import chips_html, output_html
from qwen3lab.widgets.explorers.routing_panel import RoutingPanel
from qwen3lab.widgets.explorers.routing_state import COMPARE, RoutingState, switched_off
from qwen3lab.widgets.explorers.state import ExplorerState

COMPUTING = '<span class="q3-hint">computing: one more forward pass …</span>'
COMPARISON_STOPPED = "stopped before all replies were complete: there is no comparison"


class RoutingExplorer(Explorer):
    """Asks a mixture of experts a question, and shows which tokens are routed to which experts.

    Click a token to see its experts in every layer. Click an expert to see the tokens routed to
    it and its direct logit effect, or to switch it off and ask again. The run can be compared
    with the other thinking mode or with another question.

    Args:
        lab: a mixture of experts.
        question: the first question; an example question for this model if None.
        thinking: True to think before the answer.
        corpus: recordings of the same model; the explorer lists an expert's tokens in them, too.
        options: keyword arguments of `Explorer`.

    Attributes:
        state: the values shown, which can be read and set: `explorer.state.expert = 5`.
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
        self.comparisons: dict[int, dict[str, Any]] = {}
        self.output_worker: Worker[None] = Worker()

    @shows_errors
    def switch(self) -> None:
        """Switch the picked expert off or on, and ask the same question again."""
        state = self.state
        if state.expert < 0:
            raise ValueError("no expert is picked: click an expert in a plot first")
        state.switch(state.routing_layer, state.expert)
        state.question = state.asked or state.question
        self._start()

    @shows_errors
    def switch_all_on(self) -> None:
        """Switch all experts on, and ask the same question again."""
        self.state.off = ()
        self.state.question = self.state.asked or self.state.question
        self._start()

    @shows_errors
    def write(self) -> None:
        """Compute the direct logit effect of the picked expert on its tokens of this run."""
        view, state, chat = self.view, self.state, self.state.current
        if (
            not isinstance(view, RoutingPanel)
            or chat is None
            or chat.recording is None
            or state.expert < 0
        ):
            raise ValueError("there is no expert output yet: run a question and pick an expert")
        view.logit_effect.value = COMPUTING
        self.output_worker.start(self._logit_effect_job(view, chat.recording))

    def wait(self) -> Chat | None:
        """Wait for the run and the direct logit effect; return the reply."""
        chat = super().wait()
        self.output_worker.wait()
        return chat

    def close(self) -> None:
        """Stop all work, and remove the explorer from the page."""
        self.output_worker.stop()
        super().close()

    def routed_in_corpus(self, layer: int, expert: int, *, most: int = 12) -> str:
        """The corpus tokens that are routed to an expert most consistently, as HTML."""
        if not self.corpus:
            return '<span class="q3-hint">no corpus: pass one as <code>corpus=</code></span>'
        tokens = served_vocabulary(self.corpus, layer, expert, at_least=3)[:most]
        return chips_html([(None, token.text, token.served / token.seen) for token in tokens])

    def _logit_effect_job(
        self, view: RoutingPanel, recording: Recording
    ) -> Callable[[threading.Event], None]:
        """A job that shows the picked expert's direct logit effect if it is still picked."""
        state, edits = self.state, switched_off(self.state.asked_off)
        layer, expert = state.routing_layer, state.expert
        picked = (state.run, layer, expert)

        def show(text: str, error: str) -> None:
            with view.lock:
                if picked == (state.run, state.routing_layer, state.expert):
                    view.logit_effect.value = text
                    state.error = error or state.error

        def job(cancel: threading.Event) -> None:
            if cancel.is_set():
                return
            try:
                again = self.lab.record(
                    recording.token_ids.tolist(), capture=[OUT.format(layer), SCALE], edits=edits
                )
                show(output_html(expert_writing(self.lab, [again], layer, expert)), "")
            except Exception as error:
                show("", sentence(error))

        return job

    def _view(self) -> RoutingPanel:
        view = RoutingPanel(self.lab.name, self.lab.config, self.state, self.examples)
        view.corpus_tokens = self.routed_in_corpus
        view.draw_expert()
        view.connect(switch=self.switch, all_on=self.switch_all_on, write=self.write)
        return view

    def _check(self) -> None:
        if not self.lab.config.is_moe:
            raise ValueError(
                f"{self.lab.name} is dense: it has no experts; load a mixture of experts, such as "
                "tiny-moe"
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
                self.comparisons[run] = {}
                if off:
                    baseline = self._reply(question, record=True, cancel=cancel, **options)
                    self.comparisons[run]["baseline"] = baseline
                if compare != COMPARE[0] and not cancel.is_set():
                    self.comparisons[run] |= self._other(
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
        """The reply to compare with, and its name; all experts are on."""
        if compare == COMPARE[1]:
            options = options | {"thinking": not options["thinking"]}
            chat = self._reply(question, record=True, cancel=cancel, **options)
            return {"other": chat, "other_name": mode_name(chat, asked=options["thinking"])}
        if not other_question.strip():
            raise ValueError(
                "the other question is empty: type a question, or compare with nothing"
            )
        chat = self._reply(other_question, record=True, cancel=cancel, **options)
        return {"other": chat, "other_name": other_question}

    def _ask(
        self, run: int, question: str, options: dict[str, Any], cancel: threading.Event
    ) -> Chat:
        edits = switched_off(self.state.asked_off)
        return super()._ask(run, question, options | {"edits": edits}, cancel)

    def _finish(self, run: int, chat: Chat | None = None, *, error: str = "") -> None:
        replies = self.comparisons.pop(run, {})
        with self.lock:
            if run == self.state.run and chat is not None:
                if replies and self.worker.cancel.is_set():
                    replies, error = {}, COMPARISON_STOPPED
                self.state.baseline = replies.get("baseline")
                self.state.other = replies.get("other")
                self.state.other_name = replies.get("other_name", "")
            super()._finish(run, chat, error=error)
