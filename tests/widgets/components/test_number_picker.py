"""A number is picked by slider, field and buttons, which always show the same value."""

import pytest
import traitlets

from qwen3lab.widgets.components.number_picker import NumberPicker


def parts(picker: NumberPicker) -> tuple[int, int]:
    return picker.slider.value, picker.field.value


def test_slider_field_and_buttons_pick_any_of_94_layers() -> None:
    picker = NumberPicker("layer", range(94), "Layer that is shown")
    seen = []
    picker.observe(lambda change: seen.append(change["new"]), "value")
    picker.field.value = 57
    picker.later.click()
    picker.slider.value = 90
    picker.earlier.click()
    assert seen == [57, 58, 90, 89] and parts(picker) == (89, 89)


def test_buttons_end_at_the_first_and_the_last_value() -> None:
    picker = NumberPicker("layer", range(3), "Layer")
    assert picker.earlier.disabled and not picker.later.disabled
    picker.value = 2
    assert picker.later.disabled and not picker.earlier.disabled
    picker.step(1)
    assert picker.value == 2


def test_a_number_without_a_layer_picks_the_next_one_in_its_direction() -> None:
    picker = NumberPicker("layer", (1, 3, 7), "Layer with experts")
    picker.field.value = 2  # the arrow key up, at 1
    assert picker.value == 3 and parts(picker) == (3, 3)
    picker.field.value = 2  # the arrow key down, at 3
    assert picker.value == 1 and parts(picker) == (1, 1)
    picker.later.click()
    picker.later.click()
    assert picker.value == 7


def test_a_value_that_is_not_offered_is_refused() -> None:
    picker = NumberPicker("head", range(16), "Head")
    with pytest.raises(traitlets.TraitError, match="16 is none of the numbers 0 to 15"):
        picker.value = 16
    assert parts(picker) == (0, 0)


def test_every_part_has_a_name_for_screen_readers() -> None:
    picker = NumberPicker("layer", range(4), "Layer that is shown")
    assert picker.slider.description == "layer"
    tooltips = [
        part.tooltip for part in (picker.slider, picker.earlier, picker.field, picker.later)
    ]
    assert all("layer" in tooltip.lower() for tooltip in tooltips)
