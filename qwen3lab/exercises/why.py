"""Exercises on why a token was written."""

from collections.abc import Sequence

from qwen3lab.arguments import Share, checked
from qwen3lab.attribution import DirectAttribution
from qwen3lab.exercises.verdict import Answer, Verdict, layer_and_head, text_of, whole_number
from qwen3lab.lenses import Lens
from qwen3lab.metrics.metric import Token
from qwen3lab.patching import Swept
from qwen3lab.probes import Probes
from qwen3lab.translation import tr

TELLING = 0.2
"""A probe must be so much better than a guess to be one that reads something."""


@checked
def first_layer(lens: Lens, token: Token, answer: object, *, hint: int = 0) -> Verdict:
    """From which layer on is a token the most probable one after the last position?

    Args:
        lens: of one row for each layer.
        token: text of one token, or its id.
        answer: number of the layer.
        hint: number of a hint to show.
    """
    n = len(lens.places)
    leads = (lens.rank(token)[:, -1] == 0).tolist()
    settled = max((layer for layer in range(n) if not leads[layer]), default=-1) + 1
    if settled == n:
        return Verdict(None, tr("The token never leads at the end: look at another token."))

    def judge(layer: int) -> Verdict:
        if not 0 <= layer < n:
            text = tr(
                "Layer {layer} does not exist: the model has layers 0 to {last}.",
                layer=layer,
                last=n - 1,
            )
            return Verdict(False, text)
        if layer == settled:
            text = tr("From layer {layer} on, it is the most probable next token.", layer=layer)
            return Verdict(True, text)
        if layer == settled - 1:
            text = tr(
                "After layer {layer} another token is more probable, but the next layer is it.",
                layer=layer,
            )
            return Verdict(False, text)
        if not leads[layer]:
            text = tr("After layer {layer} another token is more probable.", layer=layer)
            return Verdict(False, text)
        if layer > settled:
            text = tr("After layer {layer} it leads, but it leads earlier already.", layer=layer)
            return Verdict(False, text)
        text = tr("After layer {layer} it leads, but not after every later layer.", layer=layer)
        return Verdict(False, text)

    return Answer("first_layer", answer, hint).judged(
        judge,
        whole_number,
        tr("Draw `figures.lens_map` of this lens. The last column is the last token of the text."),
        tr(
            '`lenses.logit_lens(lab, product).rank("5")[:, -1]` has its rank after each layer: '
            "0 is the most probable token."
        ),
        tr("From layer {layer} on.", layer=settled),
    )


@checked
def strongest_head(parts: DirectAttribution, answer: object, *, hint: int = 0) -> Verdict:
    """Which head, as (layer, head), adds most to the logit difference?

    Args:
        parts: of `attribution.direct`.
        answer: layer and head.
        hint: number of a hint to show.
    """
    values = {(part.layer, part.index): part.value for part in parts.parts if part.kind == "head"}
    best = max(values, key=values.__getitem__)

    def judge(given: tuple[int, int]) -> Verdict:
        layer, head = given
        if given not in values:
            text = tr("Layer {layer}, head {head} does not exist.", layer=layer, head=head)
            return Verdict(False, text)
        fact = tr(
            "Head {head} of layer {layer} adds {value:+.2f} to {label}",
            head=head,
            layer=layer,
            value=values[given],
            label=parts.label,
        )
        if given == best:
            return Verdict(True, tr("{fact}, and no head adds more.", fact=fact))
        if given == max(values, key=lambda place: abs(values[place])):
            text = tr(
                "{fact}: the largest change, but against the token. Look for the largest gain.",
                fact=fact,
            )
            return Verdict(False, text)
        if given == best[::-1]:
            return Verdict(False, tr("{fact}: the layer comes first.", fact=fact))
        return Verdict(False, tr("{fact}; another head adds more.", fact=fact))

    return Answer("strongest_head", answer, hint).judged(
        judge,
        layer_and_head,
        tr("Draw `figures.attribution_waterfall` of these parts. Which bars are heads?"),
        tr("`product_parts.parts` has `kind`, `layer`, `index` and `value` of each part."),
        tr("Layer {layer}, head {head}.", layer=best[0], head=best[1]),
    )


@checked
def decisive_cell(found: Swept, answer: object, *, least: Share = 0.5, hint: int = 0) -> Verdict:
    """Which patch, as (layer, column), has one of the largest effects?

    Args:
        found: of `patching.patch` or `patching.ablate`, with two axes.
        answer: layer, and head or position of the token.
        least: share of the largest effect that is enough.
        hint: number of a hint to show.
    """
    is_by_token = found.axes[1] == "token"
    columns = list(found.positions) if is_by_token else list(range(found.values.shape[1]))
    effects = found.effects.abs().nan_to_num()
    highest = max(float(effects.max()), 1e-9)
    row, column = divmod(int(effects.argmax()), effects.shape[1])

    def share_of(layer: int, other: int) -> float:
        return float(effects[found.layers.index(layer), columns.index(other)]) / highest

    def judge(given: tuple[int, int]) -> Verdict:
        layer, other = given
        if layer not in found.layers or other not in columns:
            text = tr(
                "Layer {layer}, {axis} {column} is not in the map.",
                layer=layer,
                axis=tr(found.axes[1]),
                column=other,
            )
            return Verdict(False, text)
        share = share_of(layer, other)
        fact = tr("This patch has {share:.0%} of the largest effect", share=share)
        if share >= least:
            return Verdict(True, tr("{fact}.", fact=fact))
        swapped = other in found.layers and layer in columns
        if swapped and share_of(other, layer) >= least:
            return Verdict(False, tr("{fact}: the layer comes first.", fact=fact))
        return Verdict(False, tr("{fact}: look for at least {least:.0%}.", fact=fact, least=least))

    return Answer("decisive_cell", answer, hint).judged(
        judge,
        layer_and_head,
        tr("Draw `figures.patching_map(heads)`, and look for the darkest cell."),
        tr("`heads.effects` has the numbers: rows are layers, columns heads."),
        tr(
            "Layer {layer}, {axis} {column}.",
            layer=found.layers[row],
            axis=tr(found.axes[1]),
            column=columns[column],
        ),
    )


@checked
def changes_the_text(before: str, after: str | None, wanted: str, *, hint: int = 0) -> Verdict:
    """Does a changed run begin with the wanted text, and did the run before it not?

    Args:
        before: what the model wrote without a change.
        after: what it wrote with the change; None without an answer yet.
        wanted: the beginning to reach, without spaces around it.
        hint: number of a hint to show.
    """

    def judge(found: str) -> Verdict:
        was = before.strip()
        if was.startswith(wanted):
            text = tr("It wrote {was} before the change: aim for another beginning.", was=repr(was))
            return Verdict(False, text)
        if found.startswith(wanted):
            text = tr(
                "It wrote {was}, and now it writes {found}.", was=repr(was), found=repr(found)
            )
            return Verdict(True, text)
        if found == was:
            text = tr(
                "It still writes {found}: the change is too weak, or has another direction.",
                found=repr(found),
            )
            return Verdict(False, text)
        text = tr(
            "It writes {found}: look for a text that begins with {wanted}.",
            found=repr(found),
            wanted=repr(wanted),
        )
        return Verdict(False, text)

    return Answer("changes_the_text", after, hint).judged(
        judge,
        text_of,
        tr("The figure above shows from which strength on the logit of the other token is higher."),
        tr("Try `edits=2 * vector`, then double it until the text changes."),
        tr("In `tiny-moe`, `edits=8 * vector` is enough."),
    )


@checked
def reads_label(answer: object, labels: Sequence[str], *, hint: int = 0) -> Verdict:
    """Which probes tell these labels apart, far better than a guess?

    Args:
        answer: of `probes.fit`.
        labels: what they should tell apart, all of them.
        hint: number of a hint to show.
    """

    def judge(found: Probes) -> Verdict:
        missing = sorted(set(labels) - set(map(str, found.labels)))
        if missing:
            text = tr(
                "The probes tell apart {found}, but not {missing}: pass other labels.",
                found=", ".join(map(str, found.labels)),
                missing=", ".join(missing),
            )
            return Verdict(False, text)
        best = max(each.value for each in found.accuracy)
        fact = tr(
            "The best probe is right for {best:.0%} of the tokens, the most frequent label has "
            "{chance:.0%}",
            best=best,
            chance=found.chance.value,
        )
        if best >= min(found.chance.value + TELLING, 0.99):
            return Verdict(True, tr("{fact}: it is there to be read.", fact=fact))
        return Verdict(False, tr("{fact}: that is hardly better than a guess.", fact=fact))

    return Answer("reads_label", answer, hint).judged(
        judge,
        _probes,
        tr("The cell above passes `label.role` of each token. What else does a label have?"),
        tr("`label.part` says where a token is: question, thinking or answer."),
        tr(
            "`answer=probes.fit(lab, recordings, [[label.part for label in text.labels] "
            "for text in sums])`"
        ),
    )


def _probes(answer: object) -> Probes | Verdict:
    if isinstance(answer, Probes):
        return answer
    text = tr("{answer} are no probes: give what `probes.fit` returns.", answer=repr(answer)[:60])
    return Verdict(False, text)
