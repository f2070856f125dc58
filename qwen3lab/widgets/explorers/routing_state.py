"""State of the routing explorer."""

import traitlets

from qwen3lab.widgets.explorers.state import ExplorerState, Result

COMPARE = ("nothing", "the other thinking mode", "another question")
"""What a run can be compared with."""


class RoutingState(ExplorerState):
    """State of an explorer, with the picked expert, and runs to compare with.

    Attributes:
        expert: the picked expert of `routing_layer`; -1 for none.
        baseline: the reply to the same question without the changes in force, if there are some;
            else None.
        compare: what to compare the next run with, one of `COMPARE`.
        other: the reply of the run compared with, or None.
        other_name: name of that run.
    """

    expert = traitlets.Int(-1)
    baseline = Result(None)
    compare = traitlets.Enum(COMPARE, COMPARE[0])
    other = Result(None)
    other_name = traitlets.Unicode()
