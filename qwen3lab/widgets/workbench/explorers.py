"""The workbench opened at one of its views, by the names of the explorers that it replaced."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

from qwen3lab.widgets.workbench.bench import Workbench
from qwen3lab.widgets.workbench.parts.early_answers import EarlyAnswers
from qwen3lab.widgets.workbench.parts.experts import ExpertsPart
from qwen3lab.widgets.workbench.parts.explanation import ExplanationPart
from qwen3lab.widgets.workbench.parts.heads import HeadsPart
from qwen3lab.widgets.workbench.parts.part import Part


def _verb(kind: type[Part], name: str) -> Callable[..., Any]:
    """A method that calls the one of a part of the workbench."""
    method = getattr(kind, name)

    @functools.wraps(method)
    def call(self: Workbench, *args: Any, **options: Any) -> Any:
        return getattr(self.parts[kind.name], name)(*args, **options)

    return call


class Explorer(Workbench):
    """The workbench opened at the text."""


class AttentionExplorer(Workbench):
    """The workbench opened at the attention of all heads, for a lab or for a recording."""

    opens: ClassVar[str] = "attention"
    measure = _verb(HeadsPart, "measure")


class RoutingExplorer(Workbench):
    """The workbench opened at the experts of each token; for a mixture of experts."""

    opens: ClassVar[str] = "routing"
    switch = _verb(ExpertsPart, "switch")
    switch_all_on = _verb(ExpertsPart, "switch_all_on")
    write = _verb(ExpertsPart, "write")


class ThinkingExplorer(Workbench):
    """The workbench opened at the thinking and the answers at each point of it."""

    opens: ClassVar[str] = "thinking"
    stop_thinking = _verb(EarlyAnswers, "stop_thinking")
    think_more = _verb(EarlyAnswers, "think_more")
    move = _verb(EarlyAnswers, "move")
    ask_here = _verb(EarlyAnswers, "ask_here")
    ask_everywhere = _verb(EarlyAnswers, "ask_everywhere")
    cancel_answers = _verb(EarlyAnswers, "cancel_answers")


class WhyExplorer(Workbench):
    """The workbench opened at the explanation of the picked token."""

    opens: ClassVar[str] = "why"
    explain = _verb(ExplanationPart, "explain")
    measure = _verb(ExplanationPart, "measure")
    take_away = _verb(ExplanationPart, "take_away")
    patch = _verb(ExplanationPart, "patch")
    steer = _verb(ExplanationPart, "steer")
    open_part = _verb(ExplanationPart, "open_part")
