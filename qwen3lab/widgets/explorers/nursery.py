"""The nursery: a micro model is trained in the notebook, and its inside is drawn as it grows."""

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import ipywidgets as w
import traitlets
from IPython.display import display

from qwen3lab import figures
from qwen3lab.tiny.growth import Growth, Snapshot
from qwen3lab.widgets.components.error_display import sentence, shows_errors
from qwen3lab.widgets.components.layout import Alert, card, close_tree, heading, page
from qwen3lab.widgets.components.plot import Plot
from qwen3lab.widgets.components.worker import Worker

HINT = "the same held-out texts at every look; grey: the most that shuffled labels gave"


class NurseryState(traitlets.HasTraits):
    """What the nursery is showing.

    Attributes:
        status: "idle", "running" or "stopping".
        looks: how often the model has been looked at.
        error: one sentence, or nothing.
    """

    status = traitlets.Enum(["idle", "running", "stopping"], "idle")
    looks = traitlets.Int(0)
    error = traitlets.Unicode()


class Nursery:
    """Trains a micro mixture of experts in a notebook, and shows what forms in it.

    The last expression of a cell shows it, and the training starts. It runs in a thread of its
    own, so the notebook stays usable; Stop pauses it, and Train goes on where it stood.

    Args:
        growth: the training; three minutes if None.

    Attributes:
        growth: with its history, and the model as it is now in `growth.lab`.
        state: what is shown.
    """

    shown: ClassVar[list["Nursery"]] = []

    def __init__(self, growth: Growth | None = None) -> None:
        self.growth = Growth() if growth is None else growth
        self.state = NurseryState(looks=len(self.growth.history))
        self.worker: Worker[list[Snapshot]] = Worker()
        self.lock = threading.RLock()
        self.view: NurseryPanel | None = None

    @shows_errors
    def start(self) -> None:
        """Train on, in the background, until the minutes are over."""
        with self.lock:
            if self.state.status == "idle":
                self.state.error = ""
                self.state.status = "running"
                self.worker.start(self._job())

    @shows_errors
    def stop(self) -> None:
        """Pause after the step that it is at; nothing is lost."""
        with self.lock:
            if self.state.status == "running":
                self.state.status = "stopping"
                self.worker.stop()

    def wait(self) -> list[Snapshot]:
        """The history, once the training has ended or was stopped; starts it if it has not begun.

        An interrupt of the kernel stops the training and keeps what has been seen.
        """
        if self.state.looks == 1:
            self.start()
        self.worker.wait()
        return self.growth.history

    def close(self) -> None:
        """Stop, and take the nursery out of the page."""
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
        if self.state.looks == 1:
            self.start()

    def _job(self) -> Callable[[threading.Event], list[Snapshot]]:
        def on_look(_: Snapshot) -> None:
            self.state.looks = len(self.growth.history)

        def job(cancel: threading.Event) -> list[Snapshot]:
            try:
                return self.growth.run(on_look, cancel)
            except Exception as error:
                self.state.error = sentence(error)
                raise
            finally:
                with self.lock:
                    self.state.status = "idle"

        return job


class NurseryPanel:
    """Widgets that show a nursery: a bar, two buttons, and the four plots."""

    def __init__(self, nursery: Nursery) -> None:
        self.growth, self.state = nursery.growth, nursery.state
        self.lock = threading.RLock()
        self.train = w.Button(description="Train", icon="play", button_style="primary")
        self.pause = w.Button(description="Stop", icon="stop", tooltip="pause; nothing is lost")
        self.train.on_click(lambda _: nursery.start())
        self.pause.on_click(lambda _: nursery.stop())
        self.bar = w.FloatProgress(max=1.0, layout=w.Layout(flex="1 1 160px"))
        self.note = w.HTML()
        self.alert = Alert()
        self.plots = Plot(figures.growth(self.growth.history))
        model = nursery.growth.trainer
        row = w.Layout(align_items="center", grid_gap="8px", flex_flow="row wrap")
        self.root = page(
            heading(model.recipe.name, model.recipe.config, title="Qwen3 nursery"),
            w.Box([self.train, self.pause, self.bar, self.note], layout=row),
            self.alert,
            card("As it grows", HINT, self.plots),
        )
        self.watched = [(self._draw_plots, ["looks"]), (self._draw_status, ["looks", "status"])]
        self.watched.append((self._draw_error, ["error"]))
        for handler, names in self.watched:
            nursery.state.observe(handler, names)
            handler()

    def close(self) -> None:
        """Take every widget out of the page and out of memory."""
        for handler, names in self.watched:
            self.state.unobserve(handler, names)
        close_tree(self.root)

    def _draw_plots(self, _: Any = None) -> None:
        with self.lock:
            self.plots.show(figures.growth(self.growth.history), kind="growth")

    def _draw_status(self, _: Any = None) -> None:
        done, last = self.growth.share_done, self.growth.history[-1]
        with self.lock:
            self.bar.value = done
            self.train.disabled = self.state.status != "idle" or done >= 1
            self.pause.disabled = self.state.status != "running"
            said = {"running": "training", "stopping": "stopping", "idle": "paused"}
            status = (
                "done" if self.state.status == "idle" and done >= 1 else said[self.state.status]
            )
            speed = f", {last.tokens / last.seconds:,.0f} tokens/s" if last.seconds else ""
            self.note.value = (
                f'<span class="q3-hint">{status}: step {last.step:,}, {last.tokens:,} tokens, '
                f"{last.seconds:.0f} of {60 * self.growth.minutes:.0f} s{speed}</span>"
            )

    def _draw_error(self, _: Any = None) -> None:
        self.alert.say(self.state.error)
