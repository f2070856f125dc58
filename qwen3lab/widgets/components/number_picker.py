"""Picks one of many numbers, such as a layer: slider, number field, and two step buttons."""

from collections.abc import Sequence

import ipywidgets as w
import traitlets

from qwen3lab.translation import tr

SLIDER_WIDTH, FIELD_WIDTH, BUTTON_WIDTH = "150px", "56px", "28px"


class NumberPicker(w.HBox):
    """A slider for a rough choice; a field for typing, with arrow keys; buttons for one step.

    At 94 layers, a step of a slider is one pixel: field and buttons pick a layer exactly.

    Args:
        name: what is picked, such as "layer".
        values: the numbers, in ascending order; they can have gaps.
        tooltip: of the slider.

    Attributes:
        value: the number that is picked.
        options: text and value of each number.
    """

    value = traitlets.Int()

    def __init__(self, name: str, values: Sequence[int], tooltip: str) -> None:
        self.values = tuple(values)
        self.options = tuple((str(number), number) for number in self.values)
        self.slider = w.SelectionSlider(
            options=self.options,
            description=name,
            tooltip=tooltip,
            readout=False,
            style={"description_width": "initial"},
            layout=w.Layout(width=SLIDER_WIDTH),
        )
        self.field = w.BoundedIntText(
            min=self.values[0],
            max=self.values[-1],
            tooltip=tr("Type the {name}; the arrow keys change it by one", name=name),
            layout=w.Layout(width=FIELD_WIDTH),
        )
        self.earlier = self._button("angle-left", tr("Previous {name}", name=name))
        self.later = self._button("angle-right", tr("Next {name}", name=name))
        children = [self.slider, self.earlier, self.field, self.later]
        super().__init__(children, layout=w.Layout(align_items="center"))
        self.add_class("q3-number")
        self.value = self.values[0]
        self._show()
        self.observe(lambda _: self._show(), "value")
        self.slider.observe(lambda change: self.pick(change["new"]), "value")
        self.field.observe(lambda change: self.pick(change["new"]), "value")
        self.earlier.on_click(lambda _: self.step(-1))
        self.later.on_click(lambda _: self.step(1))

    def pick(self, number: int) -> None:
        """Pick a number; one between two of the values picks the next one in its direction."""
        if number in self.values:
            self.value = number
            return
        beyond = [each for each in self.values if (each > number) == (number > self.value)]
        nearest = min(beyond or self.values, key=lambda each: abs(each - number))
        self.value = nearest
        self._show()

    def step(self, by: int) -> None:
        """Pick the value `by` places further, if there is one."""
        place = self.values.index(self.value) + by
        if 0 <= place < len(self.values):
            self.value = self.values[place]

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

    def _show(self) -> None:
        self.slider.value = self.field.value = self.value
        self.earlier.disabled = self.value == self.values[0]
        self.later.disabled = self.value == self.values[-1]

    def _button(self, icon: str, tooltip: str) -> w.Button:
        return w.Button(icon=icon, tooltip=tooltip, layout=w.Layout(width=BUTTON_WIDTH))
