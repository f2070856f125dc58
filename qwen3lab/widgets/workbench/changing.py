"""Changes of the model from Python: the part of `Workbench` that puts them in force."""

from typing import Any

from qwen3lab.widgets.workbench.changes import Change, in_force
from qwen3lab.widgets.workbench.own_vector import OWN, own_vector
from qwen3lab.widgets.workbench.parts.interventions import InterventionsPart
from qwen3lab.widgets.workbench.state import WorkbenchState


class Changing:
    """Puts changes of the model in force, for the next run of a workbench."""

    state: WorkbenchState
    lab: Any

    @property
    def interventions(self) -> InterventionsPart:
        """The changes in force."""
        raise NotImplementedError

    @property
    def edits(self) -> list[Any]:
        """The edits of the changes in force, as `lab.record` and `lab.chat` take them."""
        return in_force(self.lab, self.state.changes) or []

    def change(self, *changes: Change) -> None:
        """Put changes of the model in force, each in place of one of the same part.

        Raises:
            ValueError: the model has no such part.
        """
        for change in changes:
            if not self.interventions.add(change):
                raise ValueError(self.state.change_error)

    def steer(
        self, vector: Any, layer: int, *, by: float = 1.0, first: int = 0, name: str = OWN
    ) -> None:
        """Put a steering vector of your own in force: it is added after a layer, in the next run.

        Args:
            vector: a `steering.Vector` with a direction at the layer, or d_model numbers.
            layer: after which it is added.
            by: the factor.
            first: first position where it is added.
            name: an identifier, which names it in the list of changes and in the code.

        Raises:
            HookError: a `steering.Vector` has no direction at the layer.
            ValueError: the model has no such layer, or it is no vector of the model's size.
        """
        self.change(own_vector(vector, layer, by=by, first=first, name=name))
