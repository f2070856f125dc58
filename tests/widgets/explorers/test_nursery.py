"""The nursery's wiring, without a kernel: buttons are pressed, widgets are read."""

import pytest

from qwen3lab.figures.theme import traces
from qwen3lab.tiny.growth import Growth
from qwen3lab.widgets import Nursery
from qwen3lab.widgets.components.layout import STYLE


@pytest.fixture
def nursery():
    """A nursery on the screen, of a model that was looked at once and has not begun to train."""
    nursery = Nursery(Growth(minutes=5, every=1))
    yield nursery
    nursery.close()
    Nursery.shown.clear()


def stops_at(nursery: Nursery, looks: int) -> None:
    """Press Stop at the look of this number."""

    def handler(change) -> None:
        if change["new"] >= looks:
            nursery.stop()

    nursery.state.observe(handler, ["looks"])


def test_showing_it_trains_and_draws_every_look(nursery: Nursery) -> None:
    stops_at(nursery, 3)
    nursery._ipython_display_()
    history = nursery.wait()
    assert len(history) >= 3
    assert nursery.state.status == "idle"
    view = nursery.view
    assert view is not None
    assert all(len(trace.x) == len(history) for trace in traces(view.plots.shown))
    assert "paused" in view.note.value and f"step {history[-1].step}" in view.note.value


def test_a_page_brings_its_style(nursery: Nursery) -> None:
    stops_at(nursery, 2)
    nursery._ipython_display_()
    nursery.wait()
    assert nursery.view is not None
    style = nursery.view.root.children[0]
    assert ".q3-card" in STYLE and style.value == f"<style>{STYLE}</style>"


def test_train_goes_on_where_stop_left_it(nursery: Nursery) -> None:
    stops_at(nursery, 2)
    nursery._ipython_display_()
    before = nursery.wait()[-1].step
    view = nursery.view
    assert view is not None
    assert not view.train.disabled and view.pause.disabled
    view.train.click()
    assert nursery.wait()[-1].step > before


def test_an_error_shows_where_the_person_is_looking(
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


def test_showing_another_closes_the_one_before(nursery: Nursery) -> None:
    stops_at(nursery, 2)
    nursery._ipython_display_()
    nursery.wait()
    other = Nursery(nursery.growth)
    other._ipython_display_()
    assert nursery.view is None and Nursery.shown == [other]
    other.close()
