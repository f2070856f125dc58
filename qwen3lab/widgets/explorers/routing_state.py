"""State of the routing view."""

import traitlets

from qwen3lab.widgets.explorers.state import ExplorerState, Result


class RoutingState(ExplorerState):
    """State of an explorer, with the picked expert.

    Attributes:
        expert: the picked expert of `routing_layer`; -1 for none.
        asking_baseline: True while that reply is generated.
        baseline: the reply to the same question without the changes in force, if there are some;
            else None.
    """

    expert = traitlets.Int(-1)
    baseline = Result(None)
    asking_baseline = traitlets.Bool(False)
