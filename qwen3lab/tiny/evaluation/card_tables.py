"""The tables of a model card, as Markdown; empty for what was not measured."""

from collections.abc import Iterable, Mapping, Sequence

from qwen3lab.tiny.evaluation.card_examples import in_code, shown_answer
from qwen3lab.tiny.evaluation.evaluate import Evaluation
from qwen3lab.tiny.evaluation.lengths import tokens_per_step
from qwen3lab.tiny.evaluation.sums import WORDED_STEPS, Accuracies
from qwen3lab.tiny.evaluation.targets import LANGUAGES, targets
from qwen3lab.tiny.world.hints import FOLLOWS, MENTIONS

SUMS = """
Sums of one step, by the digits of the longer operand. The sums of a row are all different; there
are few held-out ones of one digit. “All” are all {one_digit} sums of two numbers of one digit,
most of which occur in the training data:

{by_operands}

Arithmetic of {steps} steps, by wording:

{by_wording}
"""

BORDER = """
Share of questions that get the reply for questions from outside, in the language of the question.
Templates *and* topics of the questions from outside are held out. The questions of the world are
all held-out problems of the tables by steps, with and without thinking:

{rows}
"""

HINTS = """
Held-out arithmetic of 1 to 3 steps with a **wrong hint**: a friend's guess, a teacher's word, or a
note. The training data follow and mention hints with a probability by source. Replies are sampled
at temperature 1 without filters, with seeds, because greedy decoding turns a probability of 0.5
into 0 or 1:

{rows}
"""

TURNS = """
Wrong turns, in held-out arithmetic of 2 to 6 steps. After a thinking that was cut after a step with
a wrong result, the model goes on with “Wait” in {waits} and answers right in {recovered}. With
“Wait” put in place of the first `</think>` the answer is right in {extended}, without it in {plain}
of the same problems.
"""

SINK = """
Attention sink: mean attention from later tokens to the first one, over {texts} chats with thinking.
Highest: {score:.2f} (layer {layer}, head {head}); heads above 0.3: {above}, above 0.5: {far_above}
of {heads}. (Published models have many such heads: arXiv 2410.10781 counts those above 0.3.)
"""

FIRST = """
## Fifty first questions

Questions that a student types in the first ten minutes. They were written down before the training,
and no training text asks them. With thinking, greedy decoding; {right} of {total} are answered as
expected. *outside* is the reply for questions from outside.

{rows}
"""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def targets_table(found: Evaluation) -> str:
    """The targets, and whether each is met."""
    return table(
        ("behaviour", "measure", "measured", "target", "met"),
        (
            (t.behaviour, t.measure, t.found, t.target, "yes" if t.met else "no")
            for t in targets(found)
        ),
    )


def budget_table(found: Evaluation) -> str:
    """The accuracy within each thinking budget."""
    rows = [("no thinking", found.mixed_at_once), *found.by_budget.items()]
    return table(("thinking budget (tokens)", "accuracy"), rows)


def step_sentence(found: Evaluation) -> str:
    """How many thinking tokens a step of arithmetic takes."""
    by_steps = found.thinking_tokens.get("arithmetic", {})
    if len(by_steps) < 2:
        return ""
    least, most = min(by_steps), max(by_steps)
    return (
        f" A step takes {tokens_per_step(by_steps):.1f} thinking tokens on average: "
        f"{by_steps[least]:.1f} in problems of {least} step, {by_steps[most]:.1f} in problems of "
        f"{most}."
    )


def length_tables(found: Evaluation) -> str:
    """A table for each family that thinks: accuracy by steps."""
    return "".join(f"\n{_lengths(found, family)}\n" for family in found.thinking)


def _lengths(found: Evaluation, family: str) -> str:
    tokens = found.thinking_tokens.get(family, {})
    header = [f"{family}: steps", "with thinking", "without thinking"]
    rows = [
        [steps, share, found.at_once[family][steps], *_mean(tokens, steps)]
        for steps, share in found.thinking[family].items()
    ]
    return table([*header, *(["thinking tokens"] if tokens else [])], rows)


def _mean(tokens: Mapping[int, float], steps: int) -> list[str]:
    return [f"{tokens[steps]:.1f}"] if tokens else []


def sums_tables(found: Evaluation) -> str:
    """Short arithmetic, by operands and sign, and by wording."""
    if found.sums is None:
        return ""
    rows = [
        _both(f"{digits}, `{sign}`", pair)
        for digits, by_sign in found.sums.by_operands.items()
        for sign, pair in by_sign.items()
    ]
    header = ("operands", "sums", "with thinking", "without thinking")
    worded = (_both(wording, pair) for wording, pair in found.sums.by_wording.items())
    return SUMS.format(
        one_digit=found.sums.one_digit.thinking.total,
        by_operands=table(header, [_both("one digit, all", found.sums.one_digit), *rows]),
        steps=WORDED_STEPS,
        by_wording=table(("wording", "problems", *header[2:]), worded),
    )


def _both(name: str, pair: Accuracies) -> tuple[object, ...]:
    return name, pair.thinking.total, pair.thinking, pair.at_once


def border_table(found: Evaluation) -> str:
    """Questions from outside, and questions of the world with the same reply."""
    if found.border is None:
        return ""
    rows = [
        (f"from outside, {mode}", *(by_language[language] for language in LANGUAGES))
        for mode, by_language in found.border.outside.items()
    ]
    inside = ("of the world", *(found.border.inside[language] for language in LANGUAGES))
    return BORDER.format(rows=table(("questions", *LANGUAGES.values()), [*rows, inside]))


def hints_table(found: Evaluation) -> str:
    """Followed and mentioned hints, beside the generator's probabilities."""
    if not found.hints:
        return ""
    rows = [
        (
            f"{source}, {mode}",
            swayed.followed,
            f"{FOLLOWS[source]:.1f}",
            swayed.right,
            *(
                (swayed.mentioned, f"{MENTIONS[source]:.1f}")
                if mode == "with thinking"
                else ("–", "–")
            ),
        )
        for mode, by_source in found.hints.items()
        for source, swayed in by_source.items()
    ]
    header = (
        "source",
        "answer is the hint",
        "generator",
        "answer is right",
        "thinking mentions it",
    )
    return HINTS.format(rows=table((*header, "generator"), rows))


def turns_text(found: Evaluation) -> str:
    """What follows a wrong step, and "Wait"."""
    turns = found.turns
    if turns is None:
        return ""
    return TURNS.format(
        waits=turns.waits,
        recovered=turns.recovered,
        extended=turns.extended,
        plain=turns.plain,
    )


def sink_text(found: Evaluation) -> str:
    """The attention to the first token."""
    sink = found.sink
    if sink is None:
        return ""
    return SINK.format(
        texts=sink.texts,
        score=sink.best.score,
        layer=sink.best.layer,
        head=sink.best.head,
        above=sink.above(0.3),
        far_above=sink.above(0.5),
        heads=sum(len(layer) for layer in sink.by_head),
    )


def first_table(found: Evaluation) -> str:
    """The fifty first questions with the replies."""
    if not found.first:
        return ""
    rows = [
        (
            in_code(reply.question),
            shown_answer(reply.answer),
            shown_answer(reply.expected),
            "yes" if reply.right else "**no**",
        )
        for reply in found.first
    ]
    return FIRST.format(
        right=sum(reply.right for reply in found.first),
        total=len(found.first),
        rows=table(("question", "answer", "expected", "right"), rows),
    )
