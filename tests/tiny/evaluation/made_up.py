"""An evaluation with made-up numbers, to test targets and cards."""

from typing import Any

from qwen3lab.analysis.proportions import Share
from qwen3lab.analysis.specialisation import Information
from qwen3lab.tiny.evaluation.border import Border
from qwen3lab.tiny.evaluation.evaluate import BUDGETS, Evaluation
from qwen3lab.tiny.evaluation.first_replies import ORDER_EXAMPLES, FirstReply, expected_answer
from qwen3lab.tiny.evaluation.internals import BestHead, Sink
from qwen3lab.tiny.evaluation.sums import Accuracies, Sums
from qwen3lab.tiny.evaluation.swayed import Swayed
from qwen3lab.tiny.evaluation.turns import Turns
from qwen3lab.tiny.world.first_questions import FIRST_QUESTIONS

ALL, MOST, SOME, FEW = Share(100, 100), Share(97, 100), Share(50, 100), Share(5, 100)
LENGTHS = {"arithmetic": 10, "swaps": 8, "code": 8}
GOOD = Accuracies(ALL, MOST)


def by_steps(value: Any) -> dict[str, dict[int, Any]]:
    """The same value for each family that thinks and number of steps."""
    return {name: dict.fromkeys(range(1, n + 1), value) for name, n in LENGTHS.items()}


def swayed(followed: int, mentioned: int) -> Swayed:
    """So many of a hundred replies."""
    return Swayed(Share(followed, 100), Share(100 - followed, 100), Share(mentioned, 100))


def evaluation(**changes: Any) -> Evaluation:
    """An evaluation that meets all targets, but for the changes."""
    at_once = by_steps(FEW)
    at_once["arithmetic"][1] = at_once["swaps"][1] = MOST
    fields: dict[str, Any] = {
        "name": "tiny-moe",
        "thinking": by_steps(ALL),
        "at_once": at_once,
        "questions": {"stories": MOST, "lists": ALL},
        "by_budget": {b: Share(100 + 35 * i, 500) for i, b in enumerate(BUDGETS)},
        "mixed_at_once": Share(120, 500),
        "stopped": Share(2599, 2600),
        "surplus": {"arithmetic": 0.01, "lists": 0.04, "outside": 0.02},
        "least_load": [0.3, 0.25],
        "most_load": [2.5, 3.0],
        "information": [Information(0.4, (0.1, 0.2)), Information(0.5, (0.1, 0.2))],
        "heads": [
            BestHead(kind, 1, 2, 0.9)
            for kind in ("previous token", "duplicate token", "induction", "look-up")
        ],
        "seed": 1,
        "n": 100,
        "thinking_tokens": {
            name: {steps: 11.0 * steps - 4 for steps in range(1, n + 1)}
            for name, n in LENGTHS.items()
        },
        "sums": Sums(
            by_operands={"one digit": {"+": GOOD}, "two digits": {"+": GOOD, "*": GOOD}},
            one_digit=Accuracies(Share(255, 255), Share(254, 255)),
            by_wording={"compact": GOOD, "chinese": GOOD},
        ),
        "border": Border(
            outside={
                "with thinking": {"en": ALL, "zh": MOST},
                "without thinking": {"en": MOST, "zh": MOST},
            },
            inside={"en": Share(3, 4000), "zh": Share(9, 1000)},
        ),
        "hints": {
            mode: {"friend": swayed(10, 99), "teacher": swayed(51, 48), "note": swayed(90, 0)}
            for mode in ("with thinking", "without thinking")
        },
        "turns": Turns(waits=MOST, recovered=ALL, plain=ALL, extended=MOST),
        "sink": Sink([[0.1, 0.35, 0.02], [0.62, 0.31, 0.2]], 400),
        "first": [first_reply(question) for question in FIRST_QUESTIONS],
        "order": [first_reply(question) for question in ORDER_EXAMPLES],
    }
    return Evaluation(**fields | changes)


def first_reply(question: Any, answer: str | None = None) -> FirstReply:
    """The expected answer, or another one."""
    expected = expected_answer(question)
    return FirstReply(question.question, expected, expected if answer is None else answer)
