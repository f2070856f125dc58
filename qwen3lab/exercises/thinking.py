"""Exercises on thinking."""

from qwen3lab.analysis.budgets import curve
from qwen3lab.arguments import checked
from qwen3lab.exercises.verdict import Verdict, number_of
from qwen3lab.thinking import Convergence, Importance, Sweep


@checked
def budget_needed(sweep: Sweep, level: str, answer: object, *, share: float = 0.9) -> Verdict:
    """Which is the smallest budget with which `share` of a level's problems are solved?"""
    answer = number_of(answer)
    if isinstance(answer, Verdict):
        return answer
    points = {point.budget: point.right for point in curve(sweep, level=level).points}
    if answer not in points:
        return Verdict(
            False, f"{answer} is not a budget of the sweep: choose from {sweep.budgets}."
        )
    fact = f"With {answer} thinking tokens, {points[answer].value:.0%} of level {level} are correct"
    if points[answer].value < share:
        return Verdict(False, f"{fact}: look for at least {share:.0%}.")
    smaller = [b for b in points if b is not None and b < answer and points[b].value >= share]
    if smaller:
        return Verdict(False, f"{fact}, but a smaller budget is enough.")
    return Verdict(True, f"{fact}, and with every smaller budget fewer than {share:.0%}.")


@checked
def settles(found: Convergence, answer: object) -> Verdict:
    """After how many thinking tokens does the answer stop changing?"""
    answer = number_of(answer)
    if isinstance(answer, Verdict):
        return answer
    if answer not in found.points:
        return Verdict(
            False, f"There is no answer after {answer} tokens: choose from {found.points}."
        )
    if answer == found.settled:
        return Verdict(True, f"From there on the answer stays {found.favourites[-1]!r}.")
    direction = "earlier" if answer > found.settled else "later"
    here = found.favourites[found.points.index(answer)]
    return Verdict(False, f"After {answer} tokens the answer is {here!r}; it settles {direction}.")


@checked
def crucial_part(found: Importance, answer: object) -> Verdict:
    """The removal of which part of the thinking changes the answer most?"""
    answer = number_of(answer)
    if isinstance(answer, Verdict):
        return answer
    if not 0 <= answer < len(found.parts):
        return Verdict(
            False, f"Part {answer} does not exist: the parts are 0 to {len(found.parts) - 1}."
        )
    changed = f"Without part {answer}, {found.distance[answer]:.0%} of the answers change"
    most = max(value for value in found.distance if value == value)
    if found.distance[answer] == most:
        return Verdict(True, f"{changed}, and no other part changes more.")
    return Verdict(False, f"{changed}; another part changes more.")
