"""The first lines of a model card: which questions work, with the model's replies."""

from collections.abc import Mapping, Sequence

from qwen3lab.analysis.proportions import Share
from qwen3lab.tiny.evaluation.evaluate import Evaluation
from qwen3lab.tiny.evaluation.first_replies import FirstReply
from qwen3lab.tiny.world import arithmetic, programs, stories, swaps
from qwen3lab.tiny.world.lists import MAX_STEPS, MIN_STEPS
from qwen3lab.tiny.world.outside import ANSWERS
from qwen3lab.tiny.world.settings import WORLDS, Language

EXAMPLES: Mapping[str, Sequence[str]] = {
    "sums": (
        "3+4=?",
        "25 + 17 = ?",
        "What is 7 times 8?",
        "12乘3等于多少？",
        "7*8-6=?",
        "1+2+3+4+5+6+7+8+9=?",
    ),
    "swaps": (
        "Ann has the key. Ben has the ball. Eva has the cup. Ann and Ben swap. What does Ben have?",
    ),
    "programs": ("a = 5\nb = a + 2\nprint(b)",),
    "stories": ("Ann has a red cat. Ben has a black dog. Who has the red cat?",),
    "lists": ("ball 7, key 3, cup 5. key?", "tree king moon. Backwards?"),
    "outside": ("hello", "What is the capital of France?", "What is 10 divided by 2?", "你好"),
}
"""First questions that the card shows as examples."""

MAX_SHOWN = 80
"""Maximum number of characters of an answer that the card shows."""

TEXT = """\
The questions of its world, in English and Chinese. What stands after an arrow is the answer of this
model; the shares of right answers are those of held-out questions:

- **Sums** with {steps} operations out of plus, minus and times, in symbols (with or without
  spaces), words or brackets. The first number has at most three digits, the others two; one factor
  of a product has one digit; every value on the way lies between 0 and {largest}. A sum is read
  **from left to right**, as by a pocket calculator, so {left_to_right}, and brackets that say
  another order are outside: {brackets}.
  {sums} Right: {right_sums}.
- **Swaps**: three people hold three objects, and pairs of them swap up to {swaps_most} times.
  {swaps} Right: {right_swaps}.
  Names: {names}. Objects: {objects}.
- **Programs** of assignments (`+`, `-`, `*`) and calls of functions of one line, which print one
  variable. Up to {code_most} lines after the first, values between 0 and {code_largest}. {programs}
  Right: {right_programs}.
- **Stories** of two people and their animals, with up to {stories_most} events and a question: who
  has an animal, what it eats, where it is. {stories} Right: {right_stories}.
  Animals: {animals}.
- **Lists** of {lists_least} to {lists_most} words or of words with digits, to look a value up, to
  repeat or to reverse. {lists} Right: {right_lists}.
- **Anything else** gets “{english}” or “{chinese}”. {outside}
  Right: {right_outside}.
"""


def questions_that_work(found: Evaluation) -> str:
    """Which questions work, with examples and replies; empty if none were asked."""
    if not found.first or not found.order:
        return ""
    by_question = {reply.question: reply for reply in found.first}
    shown = {
        kind: "; ".join(shown_reply(by_question[question]) for question in questions) + "."
        for kind, questions in EXAMPLES.items()
    }
    left_to_right, brackets = found.order
    return TEXT.format(
        **shown,
        **_right(found),
        steps=f"1 to {arithmetic.MAX_STEPS}",
        largest=arithmetic.MAX_VALUE,
        left_to_right=shown_reply(left_to_right),
        brackets=shown_reply(brackets),
        swaps_most=swaps.MAX_STEPS,
        code_most=programs.MAX_STEPS,
        code_largest=programs.MAX_VALUE,
        stories_most=stories.MAX_STEPS,
        lists_least=MIN_STEPS,
        lists_most=MAX_STEPS,
        names=_words("names"),
        objects=_words("objects"),
        animals=_words("animals"),
        english=ANSWERS["en"],
        chinese=ANSWERS["zh"],
    )


def _right(found: Evaluation) -> dict[str, str]:
    """The shares of right answers by kind of question, as text."""
    by_kind = {
        kind: f"with thinking {_ends(found.thinking[name])}; without {_ends(found.at_once[name])}"
        for kind, name in (("sums", "arithmetic"), ("swaps", "swaps"), ("programs", "code"))
    }
    by_kind |= {name: f"{found.questions[name].value:.2f}" for name in ("stories", "lists")}
    border = found.border
    by_kind["outside"] = (
        ", ".join(
            f"{border.outside_in(language).value:.2f} ({language})" for language in border.inside
        )
        if border is not None
        else "not measured"
    )
    return {f"right_{kind}": text for kind, text in by_kind.items()}


def _ends(by_steps: Mapping[int, Share]) -> str:
    """The shares of the shortest and the longest problems."""
    least, most = min(by_steps), max(by_steps)
    return f"{by_steps[least].value:.2f} ({least} step) to {by_steps[most].value:.2f} ({most})"


def shown_reply(reply: FirstReply) -> str:
    """A question and the given answer; an answer that is wrong has the expected one, too."""
    given = f"{in_code(reply.question)} → {shown_answer(reply.answer)}"
    return given if reply.right else f"{given} (wrong: {shown_answer(reply.expected)} is expected)"


def shown_answer(answer: str) -> str:
    """An answer for a card; the reply for questions from outside by a short name."""
    for language, text in ANSWERS.items():
        if answer == text:
            return f"*outside* ({language})"
    short = answer if len(answer) <= MAX_SHOWN else f"{answer[:MAX_SHOWN]}…"
    return in_code(short) if short else "*nothing*"


def in_code(text: str) -> str:
    """A text as code in one line of Markdown, also inside of a table."""
    line = text.replace("\n", " ⏎ ").replace("`", "'").replace("|", "\\|")
    return f"`{line}`"


def _words(kind: str) -> str:
    """The words of a kind in both languages."""
    languages: tuple[Language, ...] = ("en", "zh")
    return "; ".join(" ".join(getattr(WORLDS[language], kind)) for language in languages)
