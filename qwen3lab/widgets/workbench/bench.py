"""The workbench: asks a model a question, and shows one run in every view, on one screen."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import ipywidgets as w
from IPython.display import display

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.generation.reply import Chat
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets.classroom.sharing import Sharing
from qwen3lab.widgets.components.worker import Worker
from qwen3lab.widgets.explorers.kept_token import PickedToken
from qwen3lab.widgets.workbench import cells
from qwen3lab.widgets.workbench.asking import Asker, first_state
from qwen3lab.widgets.workbench.changing import Changing
from qwen3lab.widgets.workbench.keep.keeping import Keeping
from qwen3lab.widgets.workbench.panel import BenchPanel
from qwen3lab.widgets.workbench.parts.all_parts import PARTS
from qwen3lab.widgets.workbench.parts.part import Part
from qwen3lab.widgets.workbench.recorded import ChatModel, RecordedModel, other_models, sources
from qwen3lab.widgets.workbench.runs import Runs
from qwen3lab.widgets.workbench.state import TABS, link_picks
from qwen3lab.widgets.workbench.views.heads_pane import is_large


class Workbench(Runs, Changing, Keeping, Sharing):
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
