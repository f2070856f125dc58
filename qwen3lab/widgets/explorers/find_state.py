"""State of finding and of branches: what is searched, what a jump picked, which reply is shown."""

from dataclasses import dataclass
from typing import Any

import traitlets

from qwen3lab.generation.reply import Chat
from qwen3lab.translation import later, tr
from qwen3lab.widgets.explorers.state import ExplorerState

ORIGINAL = later("original")
"""Name of the reply that all branches come from."""


@dataclass(frozen=True, eq=False)
class Branch:
    """A reply to the question, and where it leaves the one that it comes from.

    Attributes:
        name: "original", or where it leaves and with which token.
        chat: the reply.
        position: of its chosen token in the conversation; -1 for the original.
        parent: index of the reply that it comes from; -1 for the original.
    """

    name: str
    chat: Chat
    position: int = -1
    parent: int = -1


class FindState(ExplorerState):
    """What is searched in the text, and the branches of the reply.

    Attributes:
        search: the text to find in the conversation; empty for none.
        hits: first and past-the-end token of each place where it is.
        hit: index of the place that was picked last; -1 for none.
        jumped: what the latest jump to a largest value has picked; empty after another pick.
        branches: the original reply and its branches, as `Branch`; empty without a branch.
        branch: index of the one that is shown.
    """

    search = traitlets.Unicode()
    hits = traitlets.Any(())
    hit = traitlets.Int(-1)
    jumped = traitlets.Unicode()
    branches = traitlets.Any(())
    branch = traitlets.Int(0)

    @traitlets.validate("hit")
    def _found(self, proposal: Any) -> int:
        value, n = proposal["value"], len(self.hits)
        if -1 <= value < n:
            return value
        there = tr("there are hits 0 to {last}", last=n - 1) if n else tr("nothing is found")
        raise traitlets.TraitError(
            tr("hit {value} does not exist: {there}", value=value, there=there)
        )

    @traitlets.validate("branch")
    def _written(self, proposal: Any) -> int:
        value, n = proposal["value"], len(self.branches)
        if n and value != self.branch and self.status != "idle":
            raise traitlets.TraitError(tr("a reply is being written: wait for it, or stop it"))
        if 0 <= value < max(n, 1):
            return value
        there = (
            tr("there are 0 (the original) to {last}", last=n - 1)
            if n
            else tr("there is only the original, 0")
        )
        raise traitlets.TraitError(
            tr("branch {value} does not exist: {there}", value=value, there=there)
        )
