"""The nursery without a kernel: tests press buttons and read widget values."""

import pytest

from qwen3lab.figures.theme import traces
from qwen3lab.tiny.growth import Growth
from qwen3lab.widgets import Nursery
from qwen3lab.widgets.components.layout import STYLE


@pytest.fixture
def nursery():
    """A nursery whose model has one snapshot and no training step yet."""
    nursery = Nursery(Growth(minutes=5, every=1))
    yield nursery
    nursery.close()
    Nursery.shown.clear()


def stop_after(nursery: Nursery, n_snapshots: int) -> None:
    """Stop the training after this many snapshots."""

    def handler(change) -> None:
        if change["new"] >= n_snapshots:
            nursery.stop()

    nursery.state.observe(handler, ["n_snapshots"])


def test_displaying_it_trains_the_model_and_plots_every_snapshot(nursery: Nursery) -> None:
    stop_after(nursery, 3)
    nursery._ipython_display_()
    history = nursery.wait()
    assert len(history) >= 3
    assert nursery.state.status == "idle"
    view = nursery.view
    assert view is not None
    assert all(len(trace.x) == len(history) for trace in traces(view.plots.shown))
    assert "paused" in view.note.value and f"step {history[-1].step}" in view.note.value


def test_the_page_contains_its_style_sheet(nursery: Nursery) -> None:
    stop_after(nursery, 2)
    nursery._ipython_display_()
    nursery.wait()
    assert nursery.view is not None
    style = nursery.view.root.children[0]
    assert ".q3-card" in STYLE and style.value == f"<style>{STYLE}</style>"


def test_train_continues_where_stop_paused(nursery: Nursery) -> None:
    stop_after(nursery, 2)
    nursery._ipython_display_()
    before = nursery.wait()[-1].step
    view = nursery.view
    assert view is not None
    assert not view.train.disabled and view.pause.disabled
    view.train.click()
    assert nursery.wait()[-1].step > before


def test_an_error_of_the_training_is_shown_escaped(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("the disk is <full>")

    monkeypatch.setattr(nursery.growth, "run", fails)
    nursery._ipython_display_()
    with pytest.raises(ValueError, match="the disk"):
        nursery.worker.wait()
    view = nursery.view
    assert view is not None
    assert "the disk is &lt;full&gt;" in view.alert.value
    assert nursery.state.status == "idle"


def test_displaying_another_nursery_closes_the_first(nursery: Nursery) -> None:
    stop_after(nursery, 2)
    nursery._ipython_display_()
    nursery.wait()
    other = Nursery(nursery.growth)
    other._ipython_display_()
    assert nursery.view is None and Nursery.shown == [other]
    other.close()


def test_without_a_training_it_shows_the_recorded_one_and_says_so() -> None:
    recorded = Nursery()
    recorded._ipython_display_()
    view = recorded.view
    assert view is not None
    history = recorded.wait()
    assert len(history) > 30 and history is recorded.growth.history
    assert all(len(trace.x) == len(history) for trace in traces(view.plots.shown))
    assert "recorded on 2026-" in view.note.value and "train_now=True" in view.note.value
    assert {view.train.layout.display, view.bar.layout.display} == {"none"}
    assert recorded.state.status == "idle"
    recorded.start()
    assert "this training was recorded" in recorded.state.error
    recorded.close()
    Nursery.shown.clear()


def test_train_now_is_a_training_of_three_minutes() -> None:
    live = Nursery(train_now=True)
    assert isinstance(live.growth, Growth) and live.growth.minutes == 3
    assert len(live.growth.history) == 1
    with pytest.raises(ValueError, match="give one of them"):
        Nursery(live.growth, train_now=True)


def test_a_training_of_some_steps_says_how_many() -> None:
    nursery = Nursery(Growth(steps=2, every=1))
    nursery._ipython_display_()
    nursery.wait()
    assert nursery.view is not None
    assert "done: step 2" in nursery.view.note.value and "of 2 steps" in nursery.view.note.value
    nursery.close()
    Nursery.shown.clear()
