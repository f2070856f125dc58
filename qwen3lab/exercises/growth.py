"""Exercises on how heads and experts form during training."""

from collections.abc import Sequence

from qwen3lab.analysis.attention.profile import head_profile
from qwen3lab.arguments import Count, Share, checked, real
from qwen3lab.exercises.verdict import (
    Answer,
    Verdict,
    layer_and_head,
    missing_head,
    text_of,
    whole_number,
)
from qwen3lab.interventions import scaling
from qwen3lab.lab import Lab
from qwen3lab.tiny.growth import Snapshot
from qwen3lab.translation import tr


@checked
def formed(
    history: Sequence[Snapshot], kind: str, answer: object, *, least: Share = 0.4, hint: int = 0
) -> Verdict:
    """At which step of the training does the best head of a kind first have a score?

    Args:
        history: snapshots in the order of the training.
        kind: of head, such as "previous token".
        answer: the step.
        least: the score.
        hint: number of a hint to show.
    """
    best = {snapshot.step: float(snapshot.heads[kind].max()) for snapshot in history}
    steps = [step for step, score in best.items() if score >= least]

    def judge(step: int) -> Verdict:
        if step not in best:
            text = tr(
                "There is no snapshot of step {step}: choose from {steps}.",
                step=step,
                steps=list(best),
            )
            return Verdict(False, text)
        fact = tr(
            "At step {step}, the best {kind} head has a score of {score:.2f}",
            step=step,
            kind=kind,
            score=best[step],
        )
        if step not in steps:
            return Verdict(False, tr("{fact}: that is below {least}.", fact=fact, least=least))
        if step == steps[0]:
            text = tr("{fact}, and before that it was below {least}.", fact=fact, least=least)
            return Verdict(True, text)
        if best[step] == max(best.values()):
            text = tr(
                "{fact}, the highest of all. Look for the first one above {least}.",
                fact=fact,
                least=least,
            )
            return Verdict(False, text)
        text = tr("{fact}, but an earlier snapshot is above {least}, too.", fact=fact, least=least)
        return Verdict(False, text)

    return Answer(f"formed {kind}", answer, hint).judged(
        judge,
        whole_number,
        tr("Each snapshot has `.step` and `.heads`. Look at them in the order of the steps."),
        tr('Print `snapshot.step` and `snapshot.heads["{kind}"].max()` in a loop.', kind=kind),
        tr("At step {step}.", step=steps[0]) if steps else tr("At none of these steps."),
    )


@checked
def head_of_kind(snapshot: Snapshot, kind: str, answer: object, *, hint: int = 0) -> Verdict:
    """Which head, as (layer, head), has the highest score of a kind in a snapshot?

    Args:
        snapshot: of a training.
        kind: of head, such as "induction".
        answer: layer and head.
        hint: number of a hint to show.
    """
    scores = snapshot.heads[kind]
    n_layers, n_heads = scores.shape
    best = divmod(int(scores.argmax()), n_heads)

    def judge(given: tuple[int, int]) -> Verdict:
        layer, head = given
        if missing := missing_head(layer, head, range(n_layers), n_heads):
            return missing
        fact = tr(
            "The {kind} score of layer {layer}, head {head} is {score:.2f}",
            kind=kind,
            layer=layer,
            head=head,
            score=float(scores[layer, head]),
        )
        if given == best:
            return Verdict(True, tr("{fact}, the highest.", fact=fact))
        if given == best[::-1]:
            return Verdict(False, tr("{fact}: the layer comes first.", fact=fact))
        for other, values in snapshot.heads.items():
            if divmod(int(values.argmax()), n_heads) == given:
                text = tr("{fact}. It is the best {other} head.", fact=fact, other=other)
                return Verdict(False, text)
        return Verdict(False, tr("{fact}; another head has a higher one.", fact=fact))

    return Answer(f"head_of_kind {kind}", answer, hint).judged(
        judge,
        layer_and_head,
        tr("`heads` of a snapshot has one table for each kind: rows are layers, columns heads."),
        tr("`.argmax()` of the table counts the cells row by row: `divmod(n, {n})`.", n=n_heads),
        tr("Layer {layer}, head {head}.", layer=best[0], head=best[1]),
    )


@checked
def last_family(
    history: Sequence[Snapshot], answer: object, *, least: float = 0.5, hint: int = 0
) -> Verdict:
    """Which kind of text comes below an excess loss last?

    Args:
        history: snapshots in the order of the training.
        answer: name of the family.
        least: the excess loss, nats per predictable token.
        hint: number of a hint to show.
    """
    families = list(history[0].surplus)
    below = {name: _first_below(history, name, least) for name in families}
    best = max(below, key=below.__getitem__)

    def judge(name: str) -> Verdict:
        if name not in below:
            text = tr(
                "{name} is no kind of text here: choose from {families}.",
                name=repr(name),
                families=", ".join(families),
            )
            return Verdict(False, text)
        if name == best:
            text = tr("{name} is above {least} longer than all others.", name=name, least=least)
            return Verdict(True, text)
        fact = tr(
            "{name} is below {least} at step {step}", name=name, least=least, step=below[name]
        )
        if history[0].surplus[name] == max(history[0].surplus.values()):
            text = tr(
                "{fact}. It has the highest loss at first, but falls early enough.", fact=fact
            )
            return Verdict(False, text)
        return Verdict(False, tr("{fact}; another kind takes longer.", fact=fact))

    return Answer("last_family", answer, hint).judged(
        judge,
        text_of,
        tr("Look at the curves of the excess loss: which one is highest at step 2000?"),
        tr("`snapshot.surplus` has a number for each kind of text."),
        tr("It is {name}.", name=repr(best)),
    )


def _first_below(history: Sequence[Snapshot], family: str, least: float) -> int:
    steps = [each.step for each in history if each.surplus[family] < least]
    return steps[0] if steps else history[-1].step + 1


@checked
def chance_overlap(n_experts: Count, k: Count, answer: object, *, hint: int = 0) -> Verdict:
    """Which router saturation do two random choices of experts have, on average?

    Args:
        n_experts: of a layer.
        k: experts for each token.
        answer: a share from 0 to 1.
        hint: number of a hint to show.
    """
    expected = k / n_experts

    def judge(share: float) -> Verdict:
        if abs(share - expected) < 0.005:
            text = tr(
                "Each chosen expert is among {k} of {n} by chance with {share:.1%}.",
                k=k,
                n=n_experts,
                share=expected,
            )
            return Verdict(True, text)
        if abs(share - 1 / expected) < 0.005:
            return Verdict(False, tr("That is the inverse: a share is at most 1."))
        if abs(share - 0.25) < 0.005:
            return Verdict(False, tr("That is the value for two of eight experts."))
        if abs(share - expected**2) < 0.005:
            text = tr("That is the square: the experts of one snapshot are given, not drawn again.")
            return Verdict(False, text)
        if abs(share - 1 / n_experts) < 0.005:
            return Verdict(False, tr("That is for one expert per token; here there are more."))
        return Verdict(False, tr("Take one chosen expert: how likely is it chosen again?"))

    return Answer("chance_overlap", answer, hint).judged(
        judge,
        _share_of,
        tr("Saturation is the share of chosen experts that were chosen before, too."),
        tr("A random choice of k of n experts has each expert with the same probability."),
        tr("k / n = {share:.3f}", share=expected),
    )


def _share_of(answer: object) -> float | Verdict:
    try:
        return real(answer, "answer")
    except ValueError:
        text = tr("{answer} is not a number: give one, as in answer=0.25.", answer=repr(answer))
        return Verdict(False, text)


@checked
def feeds_induction(lab: Lab, text: str, answer: object, *, hint: int = 0) -> Verdict:
    """Without which head of an earlier layer does the induction score fall to half or less?

    Args:
        lab: with an induction head.
        text: in which a sequence occurs twice.
        answer: layer and head to take away.
        hint: number of a hint to show.
    """
    before = head_profile(lab.record(text)).induction
    layer, _ = divmod(int(before.argmax()), before.shape[1])

    def score_without(given: tuple[int, int]) -> float:
        changed = lab.record(text, edits=scaling.head(*given))
        return float(head_profile(changed).induction.max())

    def judge(given: tuple[int, int]) -> Verdict:
        if missing := missing_head(*given, range(lab.config.n_layers), lab.config.n_heads):
            return missing
        if given[0] >= layer:
            text = tr(
                "The induction head is in layer {layer}: it can read earlier layers only.",
                layer=layer,
            )
            return Verdict(False, text)
        after = score_without(given)
        fact = tr(
            "The best induction score falls from {before:.2f} to {after:.2f}",
            before=float(before.max()),
            after=after,
        )
        if after <= float(before.max()) / 2:
            return Verdict(True, tr("{fact}: the induction head reads this one.", fact=fact))
        text = tr(
            "{fact}. That is not half: which kind of head tells each token what came before?",
            fact=fact,
        )
        return Verdict(False, text)

    def found() -> str:
        heads = [(n, head) for n in range(layer) for head in range(lab.config.n_heads)]
        best = min(heads, key=score_without)
        return tr("Layer {layer}, head {head}.", layer=best[0], head=best[1])

    return Answer("feeds_induction", answer, hint).judged(
        judge,
        layer_and_head,
        tr("It must be in a layer before the induction head. Which kind of head does it need?"),
        tr('Look for previous-token heads: `childhood[-1].heads["previous token"]`.'),
        found() if hint == 3 else "",
    )
