"""Exercises on why a token was written."""

from qwen3lab.arguments import checked
from qwen3lab.attribution import DirectAttribution
from qwen3lab.exercises.verdict import NO_ANSWER, Verdict, head_of, number_of
from qwen3lab.lenses import Lens
from qwen3lab.metrics.metric import Token
from qwen3lab.patching import Swept


@checked
def first_layer(lens: Lens, token: Token, answer: object) -> Verdict:
    """From which layer on is a token the most probable one after the last position?

    Args:
        lens: of one row for each layer.
        token: text of one token, or its id.
        answer: number of the layer.
    """
    answer = number_of(answer)
    if isinstance(answer, Verdict):
        return answer
    n = len(lens.places)
    if not 0 <= answer < n:
        return Verdict(False, f"Layer {answer} does not exist: the model has layers 0 to {n - 1}.")
    leads = (lens.rank(token)[:, -1] == 0).tolist()
    if not leads[-1]:
        return Verdict(False, "The token never leads at the end: look at another token.")
    settled = max((layer for layer in range(n) if not leads[layer]), default=-1) + 1
    if answer == settled:
        return Verdict(True, f"From layer {answer} on, it is the most probable next token.")
    if not leads[answer]:
        return Verdict(False, f"After layer {answer} another token is more probable.")
    if answer > settled:
        return Verdict(False, f"After layer {answer} it leads, but it leads earlier already.")
    return Verdict(False, f"After layer {answer} it leads, but not after every later layer.")


@checked
def strongest_head(parts: DirectAttribution, answer: object) -> Verdict:
    """Which head, as (layer, head), adds most to the logit difference?

    Args:
        parts: of `attribution.direct`.
        answer: layer and head.
    """
    answer = head_of(answer)
    if isinstance(answer, Verdict):
        return answer
    values = {(p.layer, p.index): p.value for p in parts.parts if p.kind == "head"}
    if answer not in values:
        return Verdict(False, f"Layer {answer[0]}, head {answer[1]} does not exist.")
    fact = f"Head {answer[1]} of layer {answer[0]} adds {values[answer]:+.2f} to {parts.label}"
    if values[answer] == max(values.values()):
        return Verdict(True, f"{fact}, and no head adds more.")
    return Verdict(False, f"{fact}; another head adds more.")


@checked
def decisive_cell(found: Swept, answer: object, *, least: float = 0.5) -> Verdict:
    """Which patch, as (layer, column), has one of the largest effects?

    Args:
        found: of `patching.patch` or `patching.ablate`, with two axes.
        answer: layer, and head or position of the token.
        least: share of the largest effect that is enough.
    """
    answer = head_of(answer)
    if isinstance(answer, Verdict):
        return answer
    columns = list(found.positions) if found.axes[1] == "token" else range(found.values.shape[1])
    layer, column = answer
    if layer not in found.layers or column not in columns:
        return Verdict(False, f"Layer {layer}, {found.axes[1]} {column} is not in the map.")
    effects = found.effects.abs().nan_to_num()
    size = float(effects[found.layers.index(layer), list(columns).index(column)])
    share = size / max(float(effects.max()), 1e-9)
    fact = f"This patch has {share:.0%} of the largest effect"
    if share >= least:
        return Verdict(True, f"{fact}.")
    return Verdict(False, f"{fact}: look for at least {least:.0%}.")


@checked
def changes_the_text(before: str, after: str | None, wanted: str) -> Verdict:
    """Does a changed run begin with the wanted text, and did the run before it not?

    Args:
        before: what the model wrote without a change.
        after: what it wrote with the change; None without an answer yet.
        wanted: the beginning to reach, without spaces around it.
    """
    if after is None:
        return Verdict(None, NO_ANSWER)
    found, was = after.strip(), before.strip()
    if was.startswith(wanted):
        return Verdict(False, f"It wrote {was!r} before the change: aim for another beginning.")
    if found.startswith(wanted):
        return Verdict(True, f"It wrote {was!r}, and now it writes {found!r}.")
    return Verdict(False, f"It writes {found!r}: look for a text that begins with {wanted!r}.")
