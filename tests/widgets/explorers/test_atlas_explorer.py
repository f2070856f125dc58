"""The atlas explorer shows the expert that is picked, and goes to its neighbours."""

from dataclasses import replace

import pytest

from qwen3lab.analysis.atlas import Example
from qwen3lab.widgets import AtlasExplorer
from qwen3lab.widgets.explorers.atlas_compute import entry_html
from tests.analysis.test_atlas import ATLAS, EMPTY, ENTRY


@pytest.fixture
def explorer():
    found = AtlasExplorer(ATLAS)
    yield found
    found.close()


def test_a_click_shows_what_the_expert_does(explorer):
    assert "associated with none" in explorer._about.value
    explorer._map.selected = [0, 1]
    assert explorer.picked == (2, 1)
    assert explorer._map.framed == [0, 1, 0, 1]
    assert "digit" in explorer._about.value
    assert "1+<mark>7</mark>=?" in explorer._about.value
    explorer._map.selected = [0, 9]  # Of a map that was replaced meanwhile.
    assert explorer.picked == (2, 1)


def test_a_button_goes_to_the_neighbour(explorer):
    explorer.picked = (2, 1)
    (button,) = explorer._together.children[1:]
    assert button.description == "layer 2, expert 0 (50%)"
    button.click()
    assert explorer.picked == (2, 0)
    assert explorer._together.children == ()


def test_the_map_shows_the_labels_that_are_chosen(explorer):
    assert explorer._map.heatmap.values[0, 1] == pytest.approx(0.25)
    explorer._columns.value = "kind"
    assert explorer._map.heatmap.values[0, 1] == pytest.approx(0.5)
    assert "kind" in explorer._map.heatmap.title


def test_text_of_examples_is_escaped():
    example = Example(0.5, 0, "<b>", "<i>", "</script>")
    shown = entry_html(replace(ENTRY, examples=(example,), tokens=(("<u>", 1.0),)))
    assert not [tag for tag in ("<b>&lt;", "<i>", "<u>", "</script>") if tag in shown]


def test_an_atlas_without_experts_or_labels_is_refused():
    with pytest.raises(ValueError, match="no experts or no labels"):
        AtlasExplorer(replace(ATLAS, columns=()))
    assert "associated with none" in entry_html(EMPTY)
