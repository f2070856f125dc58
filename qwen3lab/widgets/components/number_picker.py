"""Picks one of many numbers, such as a layer: slider, number field, and two step buttons."""

from collections.abc import Sequence

import anywidget
import traitlets

from qwen3lab.translation import tr
from qwen3lab.widgets.components.scripts import script


class NumberPicker(anywidget.AnyWidget):
    """A slider for a rough choice; a field for typing, with arrow keys; buttons for one step.

    At 94 layers, a step of a slider is one pixel: field and buttons pick a layer exactly. All parts
    are one widget: a pick is one message to Python, and none back.

    Args:
        name: what is picked, such as "layer".
        values: the numbers, in ascending order; they can have gaps.
        tooltip: of the slider.

    Attributes:
        value: the number that is picked.
        values: the numbers that can be picked.
        name: shown before the slider.
        hints: what each part is, for the pointer and for screen readers.
    """

    _esm = script("number_picker.js")
    value = traitlets.Int().tag(sync=True, echo_update=False)
    values = traitlets.List(traitlets.Int()).tag(sync=True)
    name = traitlets.Unicode().tag(sync=True)
    hints: "traitlets.Dict[str, str]" = traitlets.Dict().tag(sync=True)

    def __init__(self, name: str, values: Sequence[int], tooltip: str) -> None:
        numbers = [*values]
        hints = {
            "slider": tooltip,
            "field": tr("Type the {name}; the arrow keys change it by one", name=name),
            "earlier": tr("Previous {name}", name=name),
            "later": tr("Next {name}", name=name),
        }
        super().__init__(name=name, values=numbers, value=numbers[0], hints=hints)
        self.add_class("q3-number")

    @property
    def options(self) -> tuple[tuple[str, int], ...]:
        """Text and value of each number."""
        return tuple((str(number), number) for number in self.values)

    @traitlets.validate("value")
    def _known(self, proposal: dict) -> int:
        if proposal["value"] not in self.values:
            raise traitlets.TraitError(
                tr(
                    "{value} is none of the numbers {least} to {most}",
                    value=proposal["value"],
                    least=self.values[0],
                    most=self.values[-1],
                )
            )
        return proposal["value"]
