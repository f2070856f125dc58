"""All parts of a workbench, and the names that reach them."""

from typing import Any

from qwen3lab.widgets.workbench.parts.branches import BranchesPart
from qwen3lab.widgets.workbench.parts.capture import CapturePart
from qwen3lab.widgets.workbench.parts.comparison import ComparisonPart
from qwen3lab.widgets.workbench.parts.early_answers import EarlyAnswers
from qwen3lab.widgets.workbench.parts.experts import ExpertsPart
from qwen3lab.widgets.workbench.parts.explanation import ExplanationPart
from qwen3lab.widgets.workbench.parts.find import FindPart
from qwen3lab.widgets.workbench.parts.heads import HeadsPart
from qwen3lab.widgets.workbench.parts.interventions import InterventionsPart
from qwen3lab.widgets.workbench.parts.part import Part

PARTS: tuple[type[Part], ...] = (
    InterventionsPart,
    HeadsPart,
    ExpertsPart,
    EarlyAnswers,
    ExplanationPart,
    ComparisonPart,
    CapturePart,
    FindPart,
    BranchesPart,
)


class PartsOfBench:
    """The parts of a workbench under their names.

    Attributes:
        parts: by the name of the tab.
    """

    parts: dict[str, Part]

    @property
    def heads(self) -> HeadsPart:
        """The head scores of the attention view: `measure`."""
        return self._part(HeadsPart)

    @property
    def experts(self) -> ExpertsPart:
        """What the routing view does: `switch`, `switch_all_on`, `write`."""
        return self._part(ExpertsPart)

    @property
    def thinking(self) -> EarlyAnswers:
        """What the thinking view does: `stop_thinking`, `think_more`, `move`, `ask_everywhere`."""
        return self._part(EarlyAnswers)

    @property
    def why(self) -> ExplanationPart:
        """What the why view does: `explain`, `measure`, `take_away`, `patch`, `steer`."""
        return self._part(ExplanationPart)

    @property
    def compare(self) -> ComparisonPart:
        """What the compare view does: `start`, `show`, `alignment`, `difference`."""
        return self._part(ComparisonPart)

    @property
    def raw(self) -> CapturePart:
        """What the raw view does: `capture`."""
        return self._part(CapturePart)

    @property
    def interventions(self) -> InterventionsPart:
        """The changes in force: `add`, `remove`, `ask`."""
        return self._part(InterventionsPart)

    @property
    def find(self) -> FindPart:
        """Search in the text and jumps to the largest values: `go`, `clear`, `jump`."""
        return self._part(FindPart)

    @property
    def branches(self) -> BranchesPart:
        """Replies that go on from another token: `write`; `state.branch` is the one shown."""
        return self._part(BranchesPart)

    def _part(self, kind: type[Any]) -> Any:
        return self.parts[kind.name]
