"""A number is picked in the browser by slider, field and buttons, and in Python as a trait."""

import pytest
import traitlets

from qwen3lab.widgets.components.number_picker import NumberPicker


def test_a_picker_starts_at_the_first_number() -> None:
    picker = NumberPicker("layer", (1, 3, 7), "Layer with experts")
    assert picker.value == 1 and picker.options == (("1", 1), ("3", 3), ("7", 7))


def test_a_value_that_is_not_offered_is_refused() -> None:
    picker = NumberPicker("head", range(16), "Head")
    with pytest.raises(traitlets.TraitError, match="16 is none of the numbers 0 to 15"):
        picker.value = 16
    assert picker.value == 0


def test_every_part_has_a_name_for_screen_readers() -> None:
    picker = NumberPicker("layer", range(4), "Layer that is shown")
    assert set(picker.hints) == {"slider", "field", "earlier", "later"}
    assert all("layer" in hint.lower() for hint in picker.hints.values())
