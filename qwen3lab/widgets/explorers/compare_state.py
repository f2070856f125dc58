"""State of the compare view."""

import traitlets

from qwen3lab.translation import later
from qwen3lab.widgets.explorers.state import ExplorerState, Result

NOTHING = later("nothing")
OTHER_MODE = later("the other thinking mode")
OTHER_BUDGET = later("another budget")
OTHER_QUESTION = later("another question")
WITHOUT_CHANGES = later("without the changes")
OTHER_MODEL = later("another model")
COMPARE = (NOTHING, OTHER_MODE, OTHER_BUDGET, OTHER_QUESTION, WITHOUT_CHANGES, OTHER_MODEL)
"""What a run can be compared with."""

NEEDED = {
    OTHER_BUDGET: "compare_budget",
    OTHER_QUESTION: "other_question",
    OTHER_MODEL: "compare_model",
}
"""The trait that says more about it."""

ATTENTION, ROUTING, PREDICTION = (
    later("attention of a head"),
    later("routing of a layer"),
    later("surprisal and KL"),
)
COMPARED = (ATTENTION, ROUTING, PREDICTION)
"""What the map shows the difference of."""

BY_TOKENS, BY_SPANS = later("tokens"), later("spans")


class CompareState(ExplorerState):
    """State of an explorer that compares its run with a second one.

    Attributes:
        compare: what to compare the run with, one of `COMPARE`.
        compare_budget: thinking tokens of the second run, for `OTHER_BUDGET`.
        compare_model: name of the model of the second run, for `OTHER_MODEL`.
        compared: what the map shows the difference of, one of `COMPARED`.
        align: "tokens" or "spans", as in `analysis.alignment`.
        comparing: True while the second run goes on.
        compared_tokens: number of tokens of the second run so far.
        other: the reply of the second run, or None.
        other_name: name of the second run.
        this_name: name of the run beside it.
        compare_problem: why there is no second run, or empty.
    """

    compare = traitlets.Enum(COMPARE, NOTHING)
    compare_budget = traitlets.Int(8, min=0)
    compare_model = traitlets.Unicode()
    compared = traitlets.Enum(COMPARED, ATTENTION)
    align = traitlets.Enum((BY_TOKENS, BY_SPANS), BY_TOKENS)
    comparing = traitlets.Bool(False)
    compared_tokens = traitlets.Int(0)
    other = Result(None)
    other_name = traitlets.Unicode()
    this_name = traitlets.Unicode()
    compare_problem = traitlets.Unicode()
