"""The nursery: a training of a micro model in the notebook, recorded or live, and its plots."""

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import ipywidgets as w
import traitlets
from IPython.display import display

from qwen3lab import figures
from qwen3lab._moved import RenamedAttributes
from qwen3lab.tiny.growth import Growth, Snapshot
from qwen3lab.tiny.recorded_growth import RecordedGrowth, recorded_growth
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.error_display import sentence, shows_errors
from qwen3lab.widgets.components.layout import Alert, card, close_tree, heading, page
from qwen3lab.widgets.components.plot import Plot
from qwen3lab.widgets.components.worker import Worker

HINT = later("measured on held-out texts; grey: maximum over shuffled labels")


class NurseryState(RenamedAttributes, traitlets.HasTraits):
    """State of the nursery.

    Attributes:
        status: "idle", "running" or "stopping".
        n_snapshots: number of snapshots in the history.
        error: error message, or empty.
    """

    status = traitlets.Enum(["idle", "running", "stopping"], "idle")
    n_snapshots = traitlets.Int(0)
    error = traitlets.Unicode()


class Nursery:
    """Plots the training of a micro model: a recorded one, or one that runs in the notebook.

    The model is a small mixture of experts. The plots show the loss, the scores of attention
    heads, and the specialisation of experts, measured on held-out texts during training.

    Make it the last expression of a cell: the notebook displays it. A training in the notebook
    starts then, in a background thread, so other cells can run; Stop pauses it, and Train
    continues it.

    Args:
        growth: the training; if None, the recorded one that ships.
        train_now: train for three minutes instead; not together with `growth`.

    Attributes:
        growth: the training, with its history, and with the current model in `growth.lab`.
        state: the values shown.

    Raises:
        ValueError: both a training and `train_now` are given.
    """

    shown: ClassVar[list["Nursery"]] = []

    def __init__(
        self, growth: Growth | RecordedGrowth | None = None, *, train_now: bool = False
    ) -> None:
        self.growth = _chosen(growth, train_now)
        self.state = NurseryState(n_snapshots=len(self.growth.history))
        self.worker: Worker[list[Snapshot]] = Worker()
        self.lock = threading.RLock()
        self.view: NurseryPanel | None = None

    @shows_errors
    def start(self) -> None:
        """Start or continue the training in the background, until its time is used up.

        A recorded training is over: `state.error` says so.
        """
        if isinstance(self.growth, RecordedGrowth):
            raise ValueError(
                tr("this training was recorded: Nursery(train_now=True) trains a model here")
            )
        with self.lock:
            if self.state.status == "idle":
                self.state.error = ""
                self.state.status = "running"
                self.worker.start(self._job(self.growth))

    @shows_errors
    def stop(self) -> None:
        """Pause the training after the current step; `start` continues it."""
        with self.lock:
            if self.state.status == "running":
                self.state.status = "stopping"
                self.worker.stop()

    def wait(self) -> list[Snapshot]:
        """Start the training if necessary, wait for its end, and return its history.

        A kernel interrupt stops the training and keeps the history. A recorded training is over.
        """
        if isinstance(self.growth, RecordedGrowth):
            return self.growth.history
        if self.state.n_snapshots == 1:
            self.start()
        self.worker.wait()
        return self.growth.history

    def close(self) -> None:
        """Stop the training, and remove the nursery from the page."""
        self.worker.stop()
        if self.view is not None:
            self.view.close()
            self.view = None

    def _ipython_display_(self) -> None:
        for other in [*self.shown]:
            if other is not self:
                other.close()
                self.shown.remove(other)
        if self.view is not None:
            self.view.close()
        else:
            self.shown.append(self)
        self.view = NurseryPanel(self)
        display(self.view.root)
        if self.state.n_snapshots == 1:
            self.start()

    def _job(self, growth: Growth) -> Callable[[threading.Event], list[Snapshot]]:
        def on_snapshot(_: Snapshot) -> None:
            self.state.n_snapshots = len(growth.history)

        def job(cancel: threading.Event) -> list[Snapshot]:
            try:
                return growth.run(on_snapshot, cancel)
            except Exception as error:
                self.state.error = sentence(error)
                raise
            finally:
                with self.lock:
                    self.state.status = "idle"

        return job


def _chosen(growth: Growth | RecordedGrowth | None, train_now: bool) -> Growth | RecordedGrowth:
    if growth is not None and train_now:
        raise ValueError(tr("a training and train_now=True are both given: give one of them"))
    if train_now:
        return Growth()
    return recorded_growth() if growth is None else growth


class NurseryPanel:
    """Widgets of a nursery: four plots; of a training that runs, a progress bar and two buttons."""

    def __init__(self, nursery: Nursery) -> None:
        self.growth, self.state = nursery.growth, nursery.state
        self.lock = threading.RLock()
        self.train = w.Button(
            description=tr("Train"),
            icon="play",
            button_style="primary",
            tooltip=tr("Start or continue the training"),
        )
        self.pause = w.Button(
            description=tr("Stop"),
            icon="stop",
            tooltip=tr("Pause the training; Train continues it"),
        )
        self.train.on_click(lambda _: nursery.start())
        self.pause.on_click(lambda _: nursery.stop())
        self.bar = w.FloatProgress(max=1.0, layout=w.Layout(flex="1 1 160px"))
        self.note = w.HTML()
        self.alert = Alert()
        self.plots = Plot(figures.growth(self.growth.history))
        row = w.Layout(align_items="center", grid_gap="8px", flex_flow="row wrap")
        recorded = isinstance(self.growth, RecordedGrowth)
        for control in (self.train, self.pause, self.bar):
            control.layout.display = "none" if recorded else None
        self.root = page(
            heading(self.growth.name, self.growth.config, title=tr("Qwen3 nursery")),
            w.Box([self.train, self.pause, self.bar, self.note], layout=row),
            self.alert,
            card(tr("During training"), tr(HINT), self.plots),
        )
        self.watched = [
            (self._draw_plots, ["n_snapshots"]),
            (self._draw_status, ["n_snapshots", "status"]),
            (self._draw_error, ["error"]),
        ]
        for handler, names in self.watched:
            nursery.state.observe(handler, names)
            handler()

    def close(self) -> None:
        """Close all widgets."""
        for handler, names in self.watched:
            self.state.unobserve(handler, names)
        close_tree(self.root)

    def _draw_plots(self, _: Any = None) -> None:
        with self.lock:
            self.plots.show(figures.growth(self.growth.history), kind="growth")

    def _draw_status(self, _: Any = None) -> None:
        if isinstance(self.growth, RecordedGrowth):
            self._say(_facts_of(self.growth))
            return
        done, last = self.growth.share_done, self.growth.history[-1]
        with self.lock:
            self.bar.value = done
            self.train.disabled = self.state.status != "idle" or done >= 1
            self.pause.disabled = self.state.status != "running"
            texts = {"running": tr("training"), "stopping": tr("stopping"), "idle": tr("paused")}
            is_done = self.state.status == "idle" and done >= 1
            status = tr("done") if is_done else texts[self.state.status]
            pace = last.tokens / last.seconds if last.seconds else 0
            speed = tr(", {pace:,.0f} tokens/s", pace=pace) if last.seconds else ""
            text = tr(
                "{status}: step {step:,}, {tokens:,} tokens, {time}{speed}",
                status=status,
                step=last.step,
                tokens=last.tokens,
                time=_time_of(self.growth, last),
                speed=speed,
            )
            self._say(text)

    def _say(self, text: str) -> None:
        self.note.value = f'<span class="q3-hint">{text}</span>'

    def _draw_error(self, _: Any = None) -> None:
        self.alert.say(self.state.error)


def _time_of(growth: Growth, last: Snapshot) -> str:
    """How much of the training has passed, in the unit of its limit."""
    if growth.minutes is None:
        steps = growth.trainer.recipe.steps
        return tr("{seconds:.0f} s, of {steps:,} steps", seconds=last.seconds, steps=steps)
    seconds, limit = last.seconds, 60 * growth.minutes
    return tr("{seconds:.0f} of {all:.0f} s", seconds=seconds, all=limit)


def _facts_of(growth: RecordedGrowth) -> str:
    made, last = growth.making, growth.history[-1]
    return tr(
        "recorded on {day}, seed {seed}, torch {torch}: {steps:,} steps, {tokens:,} tokens. "
        "Nursery(train_now=True) trains a model here.",
        day=made.made_on,
        seed=made.seed,
        torch=made.torch,
        steps=last.step,
        tokens=last.tokens,
    )
