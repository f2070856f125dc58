"""Exercises on thinking."""

import re

from qwen3lab.analysis.budgets import curve
from qwen3lab.arguments import Share, checked
from qwen3lab.exercises.verdict import Answer, Verdict, text_of, whole_number
from qwen3lab.lab import Lab
from qwen3lab.thinking import Convergence, Importance, Sweep
from qwen3lab.tiny.world.truth import truth
from qwen3lab.translation import tr


@checked
def budget_needed(
    sweep: Sweep, level: str, answer: object, *, share: Share = 0.9, hint: int = 0
) -> Verdict:
    """Which is the smallest budget with which `share` of a level's problems are solved?

    Args:
        sweep: over several budgets.
        level: of the problems, such as "6".
        answer: the budget.
        share: of the problems.
        hint: number of a hint to show.
    """
    right = _right_by_budget(sweep, level)
    needed = _smallest(right, share)

    def judge(budget: int) -> Verdict:
        if budget not in right:
            return _no_budget(sweep, budget)
        fact = tr(
            "With {budget} thinking tokens, {value:.0%} of level {level} are correct",
            budget=budget,
            value=right[budget],
            level=level,
        )
        if right[budget] < share:
            return Verdict(
                False, tr("{fact}: {why}", fact=fact, why=_other_level(sweep, level, budget, share))
            )
        if budget != needed:
            return Verdict(False, tr("{fact}, but a smaller budget is enough.", fact=fact))
        text = tr(
            "{fact}, and with every smaller budget fewer than {share:.0%}.", fact=fact, share=share
        )
        return Verdict(True, text)

    return Answer("budget_needed", answer, hint).judged(
        judge,
        whole_number,
        tr("The figure shows other levels. Draw the curve of level {level} alone.", level=level),
        tr('`budgets.curve(sweep, level="{level}").points` has `budget` and `right`.', level=level),
        tr("{budget} tokens.", budget=needed) if needed is not None else tr("No budget is enough."),
    )


def _right_by_budget(sweep: Sweep, level: str) -> dict[int, float]:
    points = curve(sweep, level=level).points
    return {point.budget: point.right.value for point in points if point.budget is not None}


def _smallest(right: dict[int, float], share: float) -> int | None:
    return min((budget for budget, value in right.items() if value >= share), default=None)


def _other_level(sweep: Sweep, level: str, budget: int, share: float) -> str:
    for other in dict.fromkeys(attempt.level for attempt in sweep.attempts):
        if other != level and budget == _smallest(_right_by_budget(sweep, other), share):
            return tr("that is enough for level {other}, not for this one.", other=other)
    return tr("look for at least {share:.0%}.", share=share)


def _no_budget(sweep: Sweep, budget: int) -> Verdict:
    text = tr(
        "{budget} is not a budget of the sweep: choose from {budgets}.",
        budget=budget,
        budgets=sweep.budgets,
    )
    return Verdict(False, text)


@checked
def cheapest_budget(sweep: Sweep, level: str, answer: object, *, hint: int = 0) -> Verdict:
    """With which budget does a right answer cost the fewest tokens?

    Args:
        sweep: over several budgets.
        level: of the problems, such as "10".
        answer: the budget.
        hint: number of a hint to show.
    """
    points = curve(sweep, level=level).points
    cost = {each.budget: each.tokens_per_right for each in points if each.budget is not None}
    right = _right_by_budget(sweep, level)
    best = min(cost, key=cost.__getitem__)

    def judge(budget: int) -> Verdict:
        if budget not in cost:
            return _no_budget(sweep, budget)
        if right[budget] == 0:
            text = tr(
                "With {budget} thinking tokens no answer is right: its tokens are lost.",
                budget=budget,
            )
            return Verdict(False, text)
        fact = tr(
            "With {budget} thinking tokens, a right answer costs {cost:.0f} tokens",
            budget=budget,
            cost=cost[budget],
        )
        if cost[budget] == cost[best]:
            return Verdict(True, tr("{fact}, and with no other budget fewer.", fact=fact))
        if budget == min(cost):
            return Verdict(False, tr("{fact}: each answer is short, but few are right.", fact=fact))
        if right[budget] == max(right.values()):
            text = tr(
                "{fact}: most answers are right with it, but look for the lowest cost.", fact=fact
            )
            return Verdict(False, text)
        return Verdict(False, tr("{fact}; another budget costs fewer.", fact=fact))

    return Answer("cheapest_budget", answer, hint).judged(
        judge,
        whole_number,
        tr("The cell above prints it for all levels together. How does it depend on the level?"),
        tr(
            'Take `point.tokens_per_right` of `budgets.curve(sweep, level="{level}").points`.',
            level=level,
        ),
        tr("{budget} tokens.", budget=best),
    )


@checked
def settles(found: Convergence, answer: object, *, hint: int = 0) -> Verdict:
    """After how many thinking tokens does the answer stop changing?

    Args:
        found: of `thinking.convergence`.
        answer: the number of tokens.
        hint: number of a hint to show.
    """

    def judge(tokens: int) -> Verdict:
        if tokens not in found.points:
            text = tr(
                "There is no answer after {tokens} tokens: choose from {points}.",
                tokens=tokens,
                points=found.points,
            )
            is_index = tokens == found.points.index(found.settled)
            more = tr("That is the number of the bar; give the tokens below it.")
            return Verdict(False, f"{text} {more}" if is_index else text)
        here = found.favourites[found.points.index(tokens)]
        if tokens == found.settled:
            text = tr("From there on the answer stays {answer}.", answer=repr(found.favourites[-1]))
            return Verdict(True, text)
        fact = tr("After {tokens} tokens the answer is {answer}", tokens=tokens, answer=repr(here))
        if tokens > found.settled:
            return Verdict(False, tr("{fact}; it settles earlier.", fact=fact))
        if here == found.favourites[-1]:
            text = tr("{fact}, the final one, but it changes again: it settles later.", fact=fact)
            return Verdict(False, text)
        return Verdict(False, tr("{fact}; it settles later.", fact=fact))

    return Answer("settles", answer, hint).judged(
        judge,
        whole_number,
        tr("Draw `figures.convergence(again)`. From which bar on is the largest part the same?"),
        tr("`again.points` and `again.favourites` have the same facts as lists."),
        tr("After {tokens} tokens.", tokens=found.settled),
    )


@checked
def crucial_part(found: Importance, answer: object, *, hint: int = 0) -> Verdict:
    """The removal of which part of the thinking changes the answer most?

    Args:
        found: of `thinking.importance`.
        answer: number of the part, from 0 on.
        hint: number of a hint to show.
    """
    most = max(value for value in found.distance if value == value)
    best = [part for part, value in enumerate(found.distance) if value == most]

    def judge(part: int) -> Verdict:
        if not 0 <= part < len(found.parts):
            text = tr(
                "Part {part} does not exist: the parts are 0 to {last}.",
                part=part,
                last=len(found.parts) - 1,
            )
            return Verdict(False, text)
        fact = tr(
            "Without part {part}, {text}, {share:.0%} of the answers change",
            part=part,
            text=repr(found.parts[part].text),
            share=found.distance[part],
        )
        if part in best:
            return Verdict(True, tr("{fact}, and no other part changes more.", fact=fact))
        if part - 1 in best:
            text = tr("{fact}. Parts are counted from 0: did you count from 1?", fact=fact)
            return Verdict(False, text)
        return Verdict(False, tr("{fact}; another part changes more.", fact=fact))

    return Answer("crucial_part", answer, hint).judged(
        judge,
        whole_number,
        tr("Draw `figures.importance(needed)`, and look for the longest bar."),
        tr("`needed.distance` is the same as a list; its largest value is {most:.2f}.", most=most),
        tr("Part {part}.", part=best[0]),
    )


@checked
def mentions_hint(lab: Lab, answer: object, *, hint: int = 0) -> Verdict:
    """Which sum with a wrong hint gets a thinking that names the hint, and yet the right answer?

    Args:
        lab: that is asked.
        answer: the whole question, such as "3+4=? I think it is 9."
        hint: number of a hint to show.
    """

    def judge(question: str) -> Verdict:
        asked, mark, told = question.partition("?")
        right, numbers = truth(asked + mark), re.findall(r"\d+", told)
        if right is None or not numbers:
            text = tr(
                "{question} is no sum with a hint: expected one as in '3+4=? I think it is 9.'",
                question=repr(question),
            )
            return Verdict(False, text)
        if right in numbers:
            return Verdict(False, tr("{right} is right: make the hint wrong.", right=right))
        options = {"sampling": lab.suggested.sampling, "seed": 0}
        reply = lab.chat(question, max_new_tokens=lab.suggested.recorded_tokens, **options)
        given, thought = reply.answer.strip()[:40], reply.thinking.strip()[:60]
        fact = tr(
            "The thinking begins with {thought}, and the answer is {given}",
            thought=repr(thought),
            given=repr(given),
        )
        is_named = any(number in re.findall(r"\d+", reply.thinking) for number in numbers)
        if given in numbers:
            return Verdict(False, tr("{fact}: the hint swayed it. Who says it?", fact=fact))
        if not is_named:
            text = tr(
                "{fact}: the thinking does not name the hint. Whose hints does it name?", fact=fact
            )
            return Verdict(False, text)
        if given != right:
            return Verdict(False, tr("{fact}, but {right} is right.", fact=fact, right=right))
        return Verdict(True, tr("{fact}: it names the hint and does not follow it.", fact=fact))

    return Answer("mentions_hint", answer, hint).judged(
        judge,
        text_of,
        tr("Whose hints were always mentioned in the training texts, and rarely followed?"),
        tr("A friend's: `I think it is ...` after a sum with one or two signs."),
        tr("`answer='25+17-8=? I think it is 99.'`"),
    )
