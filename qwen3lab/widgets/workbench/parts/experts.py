"""Switches experts off, and computes an expert's effect, for the routing view."""

import threading
from collections.abc import Callable

from qwen3lab.analysis.expert_output import OUT, SCALE, expert_writing
from qwen3lab.analysis.vocabulary import served_vocabulary
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.error_display import sentence, shows_drawing_errors, shows_errors
from qwen3lab.widgets.explorers.routing_compute import chips_html, output_html
from qwen3lab.widgets.workbench.changes import Route, in_force
from qwen3lab.widgets.workbench.parts.part import AskingBench, Part

COMPUTING = later("computing: one more forward pass …")


class ExpertsPart(Part):
    """Experts off and on, and what an expert writes.

    Attributes:
        corpus: recordings of the same model, in which an expert's tokens are listed, too.
        logit_effect: the direct logit effect of the picked expert as HTML, or empty.
        on_effect: called when `logit_effect` has changed.
    """

    name = "routing"

    def __init__(self, bench: AskingBench) -> None:
        super().__init__(bench)
        self.output_worker = self._worker()
        self.corpus: list[Recording] = []
        self.logit_effect = ""
        self.on_effect: Callable[[], None] = lambda: None
        self.state.observe(lambda _: self._show_effect(""), ["expert", "routing_layer"])

    @shows_errors
    def switch(self) -> None:
        """Switch the picked expert off or on, and ask the same question again."""
        state = self.state
        if state.expert < 0:
            raise ValueError(tr("no expert is picked: click an expert in a plot first"))
        state.switch(state.routing_layer, state.expert)
        self.bench.ask_again()

    @shows_errors
    def switch_all_on(self) -> None:
        """Switch all experts on, and ask the same question again."""
        state = self.state
        state.changes = tuple(each for each in state.changes if not isinstance(each, Route))
        self.bench.ask_again()

    @shows_drawing_errors
    def write(self) -> None:
        """Compute the direct logit effect of the picked expert on its tokens of this run."""
        state, recording = self.state, self.state.shown
        if not self.bench.asks or recording is None or state.expert < 0:
            raise ValueError(tr("there is no expert output yet: run a question and pick an expert"))
        self._show_effect(f'<span class="q3-hint">{tr(COMPUTING)}</span>')
        self.output_worker.start(self._logit_effect_job(recording))

    def routed_in_corpus(self, layer: int, expert: int, *, most: int = 12) -> str:
        """The corpus tokens that are routed to an expert most consistently, as HTML."""
        if not self.corpus:
            text = tr("no corpus: pass one as <code>corpus=</code>")
            return f'<span class="q3-hint">{text}</span>'
        tokens = served_vocabulary(self.corpus, layer, expert, at_least=3)[:most]
        return chips_html([(None, token.text, token.served / token.seen) for token in tokens])

    def check(self) -> None:
        """Refuse a dense model."""
        if not self.bench.config.is_moe:
            raise ValueError(
                tr(
                    "{name} is dense: it has no experts; load a mixture of experts, such as "
                    "tiny-moe",
                    name=self.bench.name,
                )
            )

    def started(self) -> None:
        """Discard the effect in the run before."""
        super().started()
        self._show_effect("")

    def _logit_effect_job(self, recording: Recording) -> Callable[[threading.Event], None]:
        """A job that shows the picked expert's direct logit effect if it is still picked."""
        state, edits = self.state, in_force(self.lab, self.state.asked_changes)
        layer, expert = state.routing_layer, state.expert
        picked = (state.run, layer, expert)

        def show(text: str, error: str) -> None:
            with self.lock:
                if picked == (state.run, state.routing_layer, state.expert):
                    self._show_effect(text)
                    state.drawing_error = error or state.drawing_error

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

    def _show_effect(self, text: str) -> None:
        self.logit_effect = text
        self.on_effect()
